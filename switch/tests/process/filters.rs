//! Content filters, the real ones: what each says of a message is what its client is told, and what becomes of the message.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use control::switch::{Request, Verb};
use mail_model::MessageId;
use queue_format::record::{MessageKey, RecipientState};
use rig::{Answer as Reply, Delivery, Sink, SinkOptions};

use crate::filter_programs::{EICAR, Program};
use crate::metrics;
use crate::site::{Config, PATIENCE, Running, Site, clock, key, say, until};

struct Scene {
    // First, since it shows its log when a test fails, which lies in the site.
    switch: Running,
    site: Site,
    sink: Sink,
}

impl Scene {
    async fn new(filters: &str) -> Self {
        let sink = Sink::start(SinkOptions { keep_bytes_max: 8 << 20, ..SinkOptions::new(clock()) }).unwrap();
        let top = format!("filters:\n{filters}\n");
        let site = Site::new(&Config { next_hop: Some(sink.address()), top, ..Config::default() });
        let switch = site.start_ready().await;
        Self { switch, site, sink }
    }

    async fn send(&self, to: &[&str], content: &str) -> Reply {
        let mut client = self.site.client().await;
        assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
        for to in to {
            assert_eq!(say(&mut client, &format!("RCPT TO:<{to}>")).await.code, 250);
        }
        assert_eq!(say(&mut client, "DATA").await.code, 354);
        client.send(content.as_bytes().to_vec()).await.unwrap();
        say(&mut client, ".").await
    }

    /// A message that says in a field what its filter is to do.
    async fn wish(&self, wish: &str) -> Reply {
        self.send(&["b@example.test"], &wishing(wish)).await
    }

    async fn arrived(&self, count: u64) -> (Delivery, String) {
        assert!(
            self.sink.wait_for(|tally| tally.deliveries >= count, PATIENCE).await,
            "{:?}",
            self.sink.tally()
        );
        let delivery = self.sink.deliveries().pop().unwrap();
        let content = String::from_utf8(delivery.content.clone().unwrap()).unwrap();
        (delivery, content)
    }

    fn states(&self, key: MessageKey) -> Vec<RecipientState> {
        let found = self.site.inspect();
        let message = found.replay.books.message(key);
        message.map(|message| message.standings.iter().map(|s| s.state).collect()).unwrap_or_default()
    }
}

fn wishing(wish: &str) -> String {
    format!("From: a@client.test\r\nX-Old: 1\r\nSubject: h\u{e9}llo\r\nX-Wish: {wish}\r\n\r\nbody\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rspamd_says_is_what_becomes_of_the_message() {
    let Some(program) = Program::rspamd().await else { return };
    let scene = Scene::new(&format!("  - {{ kind: rspamd, address: '{}' }}", program.address)).await;
    for (wish, code) in [("reject", 550), ("soft reject", 451), ("greylist", 451)] {
        assert_eq!(scene.wish(wish).await.code, code, "{wish}");
    }
    assert!(scene.wish("reject").await.text().contains("rspamd says reject"));
    assert_eq!(scene.wish("").await.code, 250);
    let (_, text) = scene.arrived(1).await;
    assert!(text.starts_with("Received: ") && text.contains("X-Old: 1"), "{text}");
    assert_eq!(scene.wish("fields").await.code, 250);
    let (_, text) = scene.arrived(2).await;
    assert!(text.starts_with("X-Seen: 127.0.0.1 client.test a@client.test\r\nReceived: "), "{text}");
    assert!(!text.contains("X-Old"), "{text}");
    assert_eq!(scene.wish("add header").await.code, 250);
    assert!(scene.arrived(3).await.1.starts_with("X-Spam: Yes\r\nReceived: "));
    assert_eq!(scene.wish("rewrite subject").await.code, 250);
    let (_, text) = scene.arrived(4).await;
    assert!(text.contains("Subject: =?UTF-8?Q?") && text.ends_with("\r\n\r\nbody\r\n"), "{text}");
    held_and_discarded(&scene, "quarantine", 4).await;
}

/// A message that is quarantined waits for an operator, and one that is discarded is gone; the books know both.
async fn held_and_discarded(scene: &Scene, quarantine: &str, delivered: u64) {
    let reply = scene.wish(quarantine).await;
    assert_eq!(reply.code, 250);
    let held = key(reply.text());
    assert_eq!(scene.states(held), [RecipientState::Held]);
    let reply = scene.wish("discard").await;
    assert_eq!(reply.code, 250);
    assert_eq!(scene.states(key(reply.text())), []);
    let totals = scene.site.inspect().replay.books.totals();
    assert_eq!(totals.deleted, 1, "{totals:?}");
    let id: MessageId = scene.wish(quarantine).await.text().rsplit(' ').next().unwrap().parse().unwrap();
    let released = Request::Operate {
        verb: Verb::Release,
        messages: vec![id],
        reason: "ann@host.test: a test".into(),
        to: None,
    };
    scene.site.ask(released).await.unwrap();
    scene.arrived(delivered + 1).await;
    assert_eq!(scene.states(held), [RecipientState::Held]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virus_is_refused_by_either_socket_and_clean_mail_passes_unchanged() {
    let Some(program) = Program::clamd().await else { return };
    let virus = format!("Subject: x\r\n\r\n{}\r\n", EICAR.concat());
    for address in [program.address.to_string(), format!("unix:{}", program.socket().display())] {
        let scene = Scene::new(&format!("  - {{ kind: clamd, address: '{address}' }}")).await;
        let reply = scene.send(&["b@example.test"], &virus).await;
        assert_eq!(reply.code, 554);
        assert!(reply.text().contains("Test-Virus"), "{reply:?}");
        assert_eq!(scene.wish("").await.code, 250);
        assert!(scene.arrived(1).await.1.ends_with(&wishing("")));
        // More than clamd takes: it says so, and that is no OK.
        let large =
            format!("Subject: x\r\n\r\n{}", "a line of text that fills the message\r\n".repeat(60_000));
        assert_eq!(scene.send(&["b@example.test"], &large).await.code, 451);
        let page = metrics::page(&scene.site);
        for result in ["refused", "passed", "failed"] {
            let labels = ["kind=\"clamd\"", &format!("result=\"{result}\"")];
            assert_eq!(
                metrics::value(&page, "mailswitch_filter_messages_total", &labels),
                Some(1.0),
                "{result}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_milter_wants_is_done() {
    let Some(program) = Program::milter().await else { return };
    let scene =
        Scene::new(&format!("  - {{ kind: milter, address: 'unix:{}' }}", program.socket().display())).await;
    for (wish, code) in [("reject", 550), ("tempfail", 451), ("reply", 554)] {
        assert_eq!(scene.wish(wish).await.code, code, "{wish}");
    }
    assert!(scene.wish("reply").await.text().contains("5.7.9 go away"));
    assert_eq!(
        scene.send(&["b@example.test", "later@example.test"], "Subject: x\r\n\r\nx\r\n").await.code,
        451
    );
    assert_eq!(scene.wish("fields").await.code, 250);
    let (_, text) = scene.arrived(1).await;
    assert!(
        text.starts_with("X-Seen: 127.0.0.1 6\r\nReceived: ") && text.ends_with(&wishing("fields")),
        "{text}"
    );
    assert_eq!(scene.wish("change").await.code, 250);
    let (delivery, text) = scene.arrived(2).await;
    assert_eq!(delivery.recipients, ["c@example.test"]);
    assert!(text.contains("Subject: changed\r\nX-Wish: change\r\n\r\nnew body\r\n"), "{text}");
    assert!(!text.contains("X-Old"), "{text}");
    // The same for content that went to the disk in pieces before the milter saw it.
    let large = wishing("change") + &"a line of text that fills the message\r\n".repeat(20_000);
    assert_eq!(scene.send(&["b@example.test"], &large).await.code, 250);
    let (_, text) = scene.arrived(3).await;
    assert!(text.starts_with("Received: ") && text.ends_with("\r\n\r\nnew body\r\n"), "{text}");
    held_and_discarded(&scene, "quarantine", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_away_or_silent_defers_or_lets_pass_as_it_is_written_and_nothing_is_lost() {
    // Nobody answers here, but the kernel takes connections.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
    for kind in ["rspamd", "clamd", "milter"] {
        for address in [silent.1.to_string(), "127.0.0.1:9".to_owned(), "unix:/nowhere".to_owned()] {
            let filter = format!("  - {{ kind: {kind}, address: '{address}', timeout: 200ms");
            let scene = Scene::new(&format!("{filter} }}")).await;
            assert_eq!(scene.wish("").await.code, 451, "{kind} {address}");
            assert_eq!(scene.site.inspect().replay.books.totals().accepted, 0);
            until("it is in the log", || scene.switch.log().contains("filter.failed")).await;
            drop(scene);
            let scene = Scene::new(&format!("{filter}, on_error: accept }}")).await;
            assert_eq!(scene.wish("").await.code, 250, "{kind} {address}");
            assert!(scene.arrived(1).await.1.ends_with(&wishing("")));
        }
    }
}

/// A filter that is broken: to each connection it says the next of these, and hangs up.
fn broken(words: &'static [&'static [u8]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for word in words.iter().cycle() {
            let Ok((mut stream, _)) = listener.accept() else { return };
            assert!(stream.read(&mut [0; 16]).is_ok_and(|read| read > 0));
            stream.write_all(word).ok();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_breaks_off_or_talks_nonsense_counts_as_one_that_is_away() {
    let rspamd: &[&[u8]] = &[
        b"",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"action\": \"no action\"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"action\":\"explode\"}",
    ];
    let clamd: &[&[u8]] = &[b"", b"stream: what?\0", b"stream: O", b"\xff\xfe\0"];
    let milter: &[&[u8]] = &[b"", b"\xff\xff\xff\xff", b"\0\0\0\x01?", b"HTTP/1.1 400 Bad Request\r\n\r\n"];
    for (kind, words) in [("rspamd", rspamd), ("clamd", clamd), ("milter", milter)] {
        let filter = format!("  - {{ kind: {kind}, address: '{}', timeout: 2s", broken(words));
        let scene = Scene::new(&format!("{filter} }}")).await;
        for word in words {
            assert_eq!(scene.wish("").await.code, 451, "{kind} {word:?}");
        }
        assert_eq!(scene.site.inspect().replay.books.totals().accepted, 0);
        drop(scene);
        let scene = Scene::new(&format!("{filter}, on_error: accept }}")).await;
        for (count, word) in (1..).zip(words) {
            assert_eq!(scene.wish("").await.code, 250, "{kind} {word:?}");
            assert!(scene.arrived(count).await.1.ends_with(&wishing("")), "{kind} {word:?}");
        }
    }
}

/// Each chunk has an answer of its own, so what was said before it is in memory.
#[tokio::test(flavor = "multi_thread")]
async fn messages_under_inspection_take_no_more_memory_than_they_may_and_the_client_comes_again() {
    let filters = "filters: [ { kind: clamd, address: '127.0.0.1:9', timeout: 200ms, on_error: accept } ]\n";
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site =
        Site::new(&Config { next_hop: Some(sink.address()), top: filters.to_owned(), ..Config::default() });
    site.configure_more("limits: { message_size: 1MiB, inspection_memory: 1MiB }");
    let _switch = site.start_ready().await;
    let chunk = [b"Subject: x\r\n\r\n".to_vec(), b"0123456789abcdef\r\n".repeat(40_000)].concat();
    let begin = async |last: &str| {
        let mut client = site.client().await;
        assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
        assert_eq!(say(&mut client, "RCPT TO:<b@example.test>").await.code, 250);
        client
            .send([format!("BDAT {}{last}\r\n", chunk.len()).into_bytes(), chunk.clone()].concat())
            .await
            .unwrap();
        let reply = client.reply().await.unwrap();
        (client, reply)
    };
    let (mut first, reply) = begin("").await;
    assert_eq!(reply.code, 250, "{reply:?}");
    let (_, refused) = begin(" LAST").await;
    assert_eq!((refused.code, &refused.text()[..5]), (452, "4.3.1"), "{refused:?}");
    // Who came first is not hurt, and when it is done there is room again.
    assert_eq!(say(&mut first, "BDAT 0 LAST").await.code, 250);
    assert_eq!(begin(" LAST").await.1.code, 250);
    assert!(sink.wait_for(|tally| tally.deliveries == 2, PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_sees_the_mail_that_is_meant_for_it_and_none_that_is_too_large() {
    let away = "kind: clamd, address: '127.0.0.1:9'";
    let scene = Scene::new(&format!("  - {{ {away}, clients: strangers }}")).await;
    assert_eq!(scene.wish("").await.code, 250, "its client is trusted");
    let large = wishing("") + &"a line of text that fills the message\r\n".repeat(100);
    for (on_error, code) in [("accept", 250), ("defer", 552)] {
        let scene = Scene::new(&format!("  - {{ {away}, size_max: 1KiB, on_error: {on_error} }}")).await;
        assert_eq!(scene.send(&["b@example.test"], &large).await.code, code, "{on_error}");
    }
}
