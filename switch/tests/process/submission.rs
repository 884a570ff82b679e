//! Users submit mail: under TLS, authenticated, as themselves.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use accounts::{ScramClient, User, Verifiers, edit};
use smtp::sasl;
use tokio::net::TcpStream;

use crate::certificates;
use crate::site::{Config, Running, Site, clock, key, say, until};
use crate::tls_in::{Secured, shake_hands};

const SUBMISSION: &str = "kind: submission\n    tls: { cert: mx.pem, key: mx.key }";

fn add(site: &Site, name: &str, password: &str) {
    let user =
        User { name: name.into(), verifiers: Verifiers::of(password, true).unwrap(), senders: Vec::new() };
    edit(&users(site), |users| {
        users.put(user);
        Ok(())
    })
    .unwrap();
}

fn users(site: &Site) -> std::path::PathBuf {
    site.path().join("users")
}

fn site(listener: &'static str, auth: &str) -> Site {
    // Nobody is trusted for where they come from.
    let site = Site::new(&Config { trusted: "192.0.2.0/24", listener, ..Config::default() });
    certificates::write(site.path(), "mx", "mx.example.test");
    more(&site, auth);
    add(&site, "alice@client.test", "secret");
    site
}

fn more(site: &Site, auth: &str) {
    let folder = site.path().join("conf.d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("auth.yaml"), format!("auth: {{ users: ../users, {auth} }}\n")).unwrap();
}

async fn client(site: &Site) -> Secured {
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "STARTTLS").await.code, 220);
    let certificate = certificates::read(site.path(), "mx");
    let mut client = shake_hands(client.into_stream(), certificate).await.unwrap();
    let hello = say(&mut client, "EHLO client.test").await;
    assert_eq!(hello.extension("AUTH"), Some("AUTH SCRAM-SHA-256 PLAIN LOGIN"), "{hello:?}");
    client
}

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", sasl::encode(format!("\0{name}\0{password}").as_bytes()))
}

#[tokio::test]
async fn a_user_sends_anywhere_as_itself_and_as_nobody_else() {
    let site = site(SUBMISSION, "failure_delay: 0s");
    let switch = site.start_ready().await;
    let mut clear = site.client().await;
    assert_eq!(say(&mut clear, "MAIL FROM:<alice@client.test>").await.code, 530);
    assert_eq!(say(&mut clear, &plain("alice@client.test", "secret")).await.code, 538);
    drop(clear);

    let mut client = client(&site).await;
    assert_eq!(say(&mut client, "MAIL FROM:<alice@client.test>").await.code, 530);
    assert_eq!(say(&mut client, &plain("alice@client.test", "secret")).await.code, 235);
    let reply = say(&mut client, "MAIL FROM:<bob@client.test>").await;
    assert!(reply.code == 553 && reply.text().starts_with("5.7.1"), "{reply:?}");
    assert_eq!(say(&mut client, "MAIL FROM:<Alice@client.test>").await.code, 250);
    assert_eq!(say(&mut client, "RCPT TO:<b@elsewhere.test>").await.code, 250);
    assert_eq!(say(&mut client, "DATA").await.code, 354);
    client.send("Subject: hi\r\n\r\nhello\r\n").await.unwrap();
    let reply = say(&mut client, ".").await;
    assert_eq!(reply.code, 250, "{reply:?}");
    let stored = String::from_utf8(site.content(key(reply.text()))).unwrap();
    assert!(stored.contains("by mx.example.test with ESMTPSA id "), "{stored}");
    let (header, body) = stored.split_once("\r\n\r\n").unwrap();
    assert!(
        header.contains("\r\nSubject: hi\r\nDate: ") && header.contains("\r\nMessage-ID: <a-1-"),
        "{stored}"
    );
    assert_eq!(body, "hello\r\n");
    assert_eq!(say(&mut client, "MAIL FROM:<>").await.code, 250, "a notification");
    for told in [
        "auth.accepted client=127.0.0.1 user=alice@client.test mechanism=PLAIN",
        "sender.denied client=127.0.0.1 user=alice@client.test from=bob@client.test",
    ] {
        until(told, || switch.log().contains(told)).await;
    }
    assert!(!switch.log().contains("secret"));
}

#[tokio::test]
async fn a_user_authenticates_by_every_mechanism_that_is_offered() {
    let site = site(SUBMISSION, "");
    let _switch = site.start_ready().await;

    let mut login = client(&site).await;
    let prompt = say(&mut login, "AUTH LOGIN").await;
    assert_eq!((prompt.code, prompt.text()), (334, "VXNlcm5hbWU6"));
    let prompt = say(&mut login, &sasl::encode(b"alice@client.test")).await;
    assert_eq!((prompt.code, prompt.text()), (334, "UGFzc3dvcmQ6"));
    assert_eq!(say(&mut login, &sasl::encode(b"secret")).await.code, 235);

    let mut scram = client(&site).await;
    let mut mechanism = ScramClient::new("alice@client.test", "secret").unwrap();
    let (first, _) = mechanism.step(None).unwrap();
    let mut reply = say(&mut scram, &format!("AUTH SCRAM-SHA-256 {}", sasl::encode(&first))).await;
    let mut server_proved = false;
    while reply.code == 334 {
        let challenge = sasl::decode(reply.text().as_bytes()).unwrap();
        let (message, proved) = mechanism.step(Some(&challenge)).unwrap();
        server_proved = proved;
        reply = say(&mut scram, &sasl::encode(&message)).await;
    }
    assert!(reply.code == 235 && server_proved, "{reply:?}");
    assert_eq!(say(&mut scram, "MAIL FROM:<alice@client.test>").await.code, 250);
}

#[tokio::test]
async fn wrong_passwords_are_answered_late_end_the_session_and_then_turn_the_client_away() {
    let site = site(SUBMISSION, "failure_delay: 300ms, failures_per_client: 3");
    let switch = site.start_ready().await;
    let mut first = client(&site).await;
    let begun = clock().now();
    let reply = say(&mut first, &plain("alice@client.test", "wrong")).await;
    assert!(reply.code == 535 && reply.text().starts_with("5.7.8"), "{reply:?}");
    assert!(clock().now().since(begun) >= Duration::from_millis(300));
    assert_eq!(
        say(&mut first, &plain("nobody", "secret")).await.text(),
        reply.text(),
        "nobody learns who there is"
    );
    assert_eq!(say(&mut first, "AUTH PLAIN AAAA").await.code, 535);
    assert_eq!(first.reply().await.unwrap().code, 421);
    first.closed().await.unwrap();

    let mut second = client(&site).await;
    let reply = say(&mut second, &plain("alice@client.test", "secret")).await;
    assert!(reply.code == 454 && reply.text().starts_with("4.7.0"), "{reply:?}");
    for told in ["auth.denied", "why=\"unknown user or wrong password\"", "why=malformed", "auth.turned_away"]
    {
        until(told, || switch.log().contains(told)).await;
    }
    let log = switch.log();
    assert!(!log.contains("wrong\\0") && !log.contains("secret"), "{log}");
}

#[tokio::test]
async fn an_edit_of_the_users_is_noticed_without_a_reload_and_a_fault_changes_nothing() {
    let site = site(SUBMISSION, "failure_delay: 0s");
    let switch = site.start_ready().await;
    let mut carol = client(&site).await;
    assert_eq!(say(&mut carol, &plain("carol@client.test", "secret")).await.code, 535);
    add(&site, "carol@client.test", "secret");
    assert_eq!(say(&mut carol, &plain("carol@client.test", "secret")).await.code, 235);
    std::fs::write(users(&site), "nonsense\n").unwrap();
    let mut alice = client(&site).await;
    assert_eq!(say(&mut alice, &plain("alice@client.test", "secret")).await.code, 235);
    until("the fault is told", || switch.log().contains("auth.users_refused")).await;
    switch.signal(rustix::process::Signal::HUP);
    until("the reload is refused", || switch.log().contains("config.refused")).await;
    let mut alice = client(&site).await;
    assert_eq!(say(&mut alice, &plain("alice@client.test", "secret")).await.code, 235);
}

async fn ends_with(mut switch: Running, told: &str) {
    assert_eq!(switch.ended().await, 2);
    assert!(switch.log().contains(told), "{}", switch.log());
}

#[tokio::test]
async fn users_that_cannot_serve_are_told_at_the_start_with_a_remedy() {
    let site = site(SUBMISSION, "");
    std::fs::write(users(&site), "alice\n").unwrap();
    ends_with(site.start(), "users:1: user 'alice' has no password; run 'switchctl user passwd alice'").await;
    std::fs::remove_file(users(&site)).unwrap();
    ends_with(site.start(), "make it with 'switchctl user add NAME'").await;
}

#[tokio::test]
async fn a_listener_for_relaying_takes_no_passwords() {
    let site = site("tls: { cert: mx.pem, key: mx.key }\n    tls_mode: implicit", "");
    let _switch = site.start_ready().await;
    let stream = TcpStream::connect(site.smtp).await.unwrap();
    let mut client = shake_hands(stream, certificates::read(site.path(), "mx")).await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 220);
    assert_eq!(say(&mut client, "EHLO client.test").await.extension("AUTH"), None);
    assert_eq!(say(&mut client, &plain("alice@client.test", "secret")).await.code, 502);
}

/// Python's smtplib: SCRAM is not known to it, so it takes PLAIN, or LOGIN if it is told to.
#[tokio::test]
async fn python_submits_over_587_and_465() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: needs python3");
        return;
    }
    for (listener, connect) in [
        (
            SUBMISSION,
            "s = smtplib.SMTP(host, port); s.ehlo('p.test'); s.starttls(context=c); s.ehlo('p.test')",
        ),
        (
            "kind: submission\n    tls: { cert: mx.pem, key: mx.key }\n    tls_mode: implicit",
            "s = smtplib.SMTP_SSL(host, port, context=c, local_hostname='p.test')",
        ),
    ] {
        let site = site(listener, "");
        let _switch = site.start_ready().await;
        for mechanism in ["auth_plain", "auth_login"] {
            let script = format!(
                "import smtplib, ssl, sys\nhost, port = '127.0.0.1', {}\n\
                 c = ssl.create_default_context(cafile='mx.pem'); c.check_hostname = False\n{connect}\n\
                 s.ehlo_or_helo_if_needed(); s.user, s.password = 'alice@client.test', 'secret'\n\
                 assert s.auth('{}', s.{mechanism})[0] == 235\n\
                 s.sendmail('alice@client.test', ['b@elsewhere.test'], 'Subject: hi\\n\\nhello\\n')\ns.quit()\n",
                site.smtp.port(),
                mechanism.trim_start_matches("auth_").to_uppercase(),
            );
            python(site.path(), &script);
        }
        assert_eq!(site.inspect().replay.books.len(), 2);
    }
}

fn python(folder: &Path, script: &str) {
    let output = Command::new("python3").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
