//! Alerts, told to a real HTTP listener, a real SMTP server and a real command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use control::Code;
use control::heartbeatd::{Answer, Request};
use daemon_kit::SystemClock;
use rig::{Sink, SinkOptions};
use serde_json::Value;

use crate::code;
use crate::common::{LIMIT, Site, until};

/// A request as it came: its headers in small letters, and its body.
struct Post {
    headers: Vec<String>,
    body: String,
}

impl Post {
    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_default().to_owned()
    }
}

/// Listens, and answers each post with the next of `answers`, the last for ever.
fn listen(answers: &'static [u16]) -> (SocketAddr, Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (posts, inbox) = channel();
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                headers.push(format!("{}: {value}", name.to_ascii_lowercase()));
            }
            let post = Post { headers, body: String::new() };
            let mut body = vec![0; post.header("content-length").parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let status = answers[index.min(answers.len() - 1)];
            let answer = format!("HTTP/1.1 {status} so\r\ncontent-length: 0\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if posts.send(Post { body: String::from_utf8(body).unwrap(), ..post }).is_err() {
                return;
            }
        }
    });
    (address, inbox)
}

fn json(post: &Post) -> Value {
    serde_json::from_str(&post.body).unwrap()
}

/// What another program says that the signature must be.
fn expected(post: &Post, secret: &str) -> Option<String> {
    let mut tool = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let text = format!("{}.{}", post.header("x-mailswitch-timestamp"), post.body);
    tool.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let output = tool.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(format!("sha256={}", text.trim().rsplit(' ').next()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_is_posted_once_signed_and_told_again_when_it_is_over() {
    // The first post is refused: it is tried again.
    let (address, posts) = listen(&[500, 200]);
    let mut site = Site::of(&["a", "b"], "1s");
    std::fs::write(site.path("secret"), "open sesame\n").unwrap();
    site.more = format!(
        "alerts: {{ after: 1s, webhook: {{ url: \"http://{address}/hook?x=1\", secret_file: secret }} }}"
    );
    site.configure("b");
    let mut lease = site.lease("a", 1, "a");
    let _own = site.lease("b", 1, "b");
    let b = site.start("b");
    b.until_state("a", "HEALTHY").await;
    lease.die();
    until("a secondary is started", || !site.started("b").is_empty()).await;
    let mut claimed = site.lease("a", 2, "b");
    b.until_state("a", "HOLDING").await;

    let posts = Arc::new(parking_lot::Mutex::new(posts));
    let next = |wanted: &'static str| {
        let posts = Arc::clone(&posts);
        async move {
            let wait = move || loop {
                let post = posts.lock().recv_timeout(LIMIT).expect(wanted);
                if json(&post)["name"] == "takeover:a" {
                    return post;
                }
            };
            tokio::task::spawn_blocking(wait).await.unwrap()
        }
    };
    let post = next("the takeover is told").await;
    let told = json(&post);
    assert_eq!((told["status"].as_str(), told["severity"].as_str()), (Some("firing"), Some("warning")));
    assert_eq!((told["cluster"].as_str(), told["node"].as_str()), (Some("test"), Some("b")));
    assert!(told["text"].as_str().unwrap().contains("switchctl ha why a"), "{told}");
    assert!(post.headers[0].starts_with("post /hook?x=1"), "{:?}", post.headers);
    match expected(&post, "open sesame") {
        Some(signature) => assert_eq!(post.header("x-mailswitch-signature"), signature),
        None => println!("skipped: needs openssl"),
    }
    claimed.release();
    // If the first was the one refused it comes again; then comes the end.
    let over = loop {
        let told = json(&next("the end is told").await);
        if told["status"] != "firing" {
            break told;
        }
    };
    assert_eq!(over["status"], "resolved", "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_button_tells_by_webhook_mail_and_command_or_says_which_failed() {
    let (address, posts) = listen(&[200]);
    let sink = Sink::start(SinkOptions::new(Arc::new(SystemClock))).unwrap();
    let mut site = Site::of(&["a"], "1s");
    let out = site.path("told.json");
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let channels = |url: &str| {
        format!(
            "alerts:\n  after: 1h\n  webhook: {{ url: \"{url}\" }}\n  \
             mail: {{ to: [ops@example.test], from: switch@example.test, through: [\"{dead}\", \"{}\"] }}\n  \
             command: [sh, -c, \"cat > {}\"]",
            sink.address(),
            out.display()
        )
    };
    site.more = channels(&format!("http://{address}/"));
    site.configure("a");
    let mut a = site.start("a");
    a.until("answers", |_| true).await;
    let Ok(Answer::Done { message }) = a.ask(Request::AlertTest).await else { panic!("no answer") };
    assert_eq!(message, "webhook: told\nmail: told\ncommand: told");
    assert_eq!(json(&posts.recv_timeout(LIMIT).unwrap())["status"], "test");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((written["status"].as_str(), written["node"].as_str()), (Some("test"), Some("a")));
    assert_eq!(sink.tally().deliveries, 1, "{:?}", sink.tally());
    assert_eq!(sink.violations(), []);
    assert_eq!(a.ended().await, Some(0));

    site.more = channels(&format!("http://{dead}/"));
    site.configure("a");
    let a = site.start("a");
    a.until("answers", |_| true).await;
    let answer = a.ask(Request::AlertTest).await;
    let text = format!("{answer:?}");
    assert!(text.contains("webhook: 127.0.0.1:") && text.contains("mail: told"), "{text}");
    assert_eq!(code(answer), Some(Code::Failed));
}

#[tokio::test]
async fn without_a_channel_the_test_button_says_what_to_set() {
    let site = Site::of(&["a"], "1s");
    let a = site.start("a");
    a.until("answers", |_| true).await;
    let answer = a.ask(Request::AlertTest).await;
    assert!(format!("{answer:?}").contains("alerts.webhook"), "{answer:?}");
    assert_eq!(code(answer), Some(Code::Failed));
}
