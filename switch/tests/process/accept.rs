//! What is accepted is in the queue, unchanged, and what is refused is not.

use std::io::Read;
use std::net::TcpStream;

use rig::{Load, Rate};
use rustix::process::Signal;

use crate::site::{Config, PATIENCE, Site, begin, clock, key, say, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_with_a_250_is_in_the_queue_after_sigkill() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let load = Load { rate: Rate::PerSecond(500), ..Load::new(site.smtp, "kill") };
    let run = load.start(clock());
    let mut tally = run.watch();
    tokio::time::timeout(PATIENCE, tally.wait_for(|tally| tally.accepted >= 300)).await.unwrap().unwrap();
    switch.signal(Signal::KILL);
    switch.ended().await;
    run.stop();
    let probes = run.finish(std::time::Duration::from_millis(100)).await;

    let found = site.inspect();
    assert_eq!(found.replay.faults, []);
    let accepted: Vec<_> = probes.iter().filter_map(|probe| probe.accepted.as_ref()).collect();
    assert!(accepted.len() >= 300);
    for accepted in accepted {
        assert!(found.replay.books.message(key(&accepted.text)).is_some(), "{} is lost", accepted.text);
    }
}

/// Content of that many lines, with dots where they matter: as it is meant, and as DATA sends it.
fn lines(count: usize) -> (Vec<u8>, Vec<u8>) {
    let mut meant = b"Subject: dots\r\n\r\n".to_vec();
    for number in 0..count {
        meant.extend_from_slice(
            format!(".{number} a line of text that fills the message\r\n..\r\n.\r\n").as_bytes(),
        );
    }
    let mut sent = Vec::new();
    for line in meant.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line);
    }
    sent.extend_from_slice(b".\r\n");
    (meant, sent)
}

/// What is in the queue is one Received field and then exactly what was meant.
fn is_stored(site: &Site, reply: &rig::Answer, meant: &[u8]) {
    assert_eq!(reply.code, 250, "{reply:?}");
    let stored = site.content(key(reply.text()));
    let (field, below) = stored.split_at(stored.len() - meant.len());
    assert!(below == meant, "the content was changed");
    let field = String::from_utf8(field.to_vec()).unwrap();
    let id = reply.text().rsplit(' ').next().unwrap();
    assert!(
        field.starts_with("Received: from client.test ([127.0.0.1])\r\n\tby mx.example.test with ESMTP"),
        "{field}"
    );
    assert!(
        field.contains(id) && field.ends_with("\r\n") && field.matches("Received:").count() == 1,
        "{field}"
    );
}

#[tokio::test]
async fn content_of_any_size_and_way_is_stored_unchanged_under_one_received_field() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    // In the message's own record; around the size of a piece; several pieces.
    for count in [0, 1, 1_000, 4_000, 5_000, 40_000] {
        let (meant, sent) = lines(count);
        begin(&mut client).await;
        client.send(&sent).await.unwrap();
        is_stored(&site, &client.reply().await.unwrap(), &meant);
    }

    let (meant, sent) = lines(10);
    client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n").await.unwrap();
    for wanted in [250, 250, 354] {
        assert_eq!(client.reply().await.unwrap().code, wanted);
    }
    client.send([&sent[..], b"NOOP\r\n"].concat()).await.unwrap();
    is_stored(&site, &client.reply().await.unwrap(), &meant);
    assert_eq!(client.reply().await.unwrap().code, 250);

    let (first, last) = meant.split_at(100);
    let mut group = b"MAIL FROM:<>\r\nRCPT TO:<b@example.test>\r\nBDAT 100\r\n".to_vec();
    group.extend_from_slice(first);
    group.extend_from_slice(format!("BDAT {} LAST\r\n", last.len()).as_bytes());
    group.extend_from_slice(last);
    client.send(group).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.reply().await.unwrap().code, 250);
    }
    is_stored(&site, &client.reply().await.unwrap(), &meant);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_in_the_queue() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let mut client = site.client().await;

    begin(&mut client).await;
    client.send("Subject: x\r\n\r\na bare\nline feed\r\n.\r\n").await.unwrap();
    let reply = client.reply().await.unwrap();
    assert!(reply.code == 554 && reply.text().contains("bare LF"), "{reply:?}");

    begin(&mut client).await;
    let hops = "Received: from x by y; z\r\n".repeat(101);
    client.send(format!("{hops}\r\nround and round\r\n.\r\n")).await.unwrap();
    let reply = client.reply().await.unwrap();
    assert!(reply.code == 554 && reply.text().starts_with("5.4.6"), "{reply:?}");

    begin(&mut client).await;
    client.send("half a message\r\n.\r").await.unwrap();
    client.half_close().await.unwrap();
    client.closed().await.unwrap();
    assert!(site.inspect().replay.books.is_empty());
}

#[tokio::test]
async fn a_client_gets_no_more_connections_than_its_limit_and_may_come_again() {
    let site = Site::new(&Config { limits: "connections_per_client: 2", ..Config::default() });
    let _switch = site.start_ready().await;
    let (mut first, _second) = (site.client().await, site.client().await);
    let (mut third, greeting) = site.connect().await;
    assert!(greeting.code == 421 && greeting.text().starts_with("4.7.0"), "{greeting:?}");
    third.closed().await.unwrap();
    assert_eq!(say(&mut first, "QUIT").await.code, 221);
    first.closed().await.unwrap();
    drop(first);
    until("the place is free again", || {
        let mut stream = TcpStream::connect(site.smtp).unwrap();
        let mut code = [0; 3];
        stream.read_exact(&mut code).unwrap();
        code == *b"220"
    })
    .await;
}

#[tokio::test]
async fn who_talks_before_the_greeting_is_refused() {
    let site = Site::new(&Config::default());
    let switch = site.start_ready().await;
    // The kernel takes the connection and the words while the switch stands still.
    switch.freeze().await;
    let mut client = rig::Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
    client.send("EHLO hasty.test\r\n").await.unwrap();
    switch.signal(Signal::CONT);
    let reply = client.reply().await.unwrap();
    assert!(reply.code == 554 && reply.text().contains("before the greeting"), "{reply:?}");
    client.closed().await.unwrap();
}
