//! Dialogues as an operator watches them.

use control::switch::{Answer, Request, TraceWay};
use rig::{Sink, SinkOptions};

use crate::site::{Config, PATIENCE, Site, begin, clock, say};

/// The next lines, `C: …`, up to one that says this; those that are there if that is empty.
async fn watched(site: &Site, way: TraceWay, with: &str, last: &str) -> Vec<String> {
    let deadline = clock().now() + PATIENCE;
    let mut lines: Vec<String> = Vec::new();
    loop {
        assert!(clock().now() < deadline, "{last}: {lines:?}");
        let request = Request::Trace { id: format!("{way:?}"), way, with: with.to_owned(), wait_ms: 200 };
        let Answer::Traced(traced) = site.ask(request).await.unwrap() else {
            unreachable!("it was asked for lines")
        };
        assert_eq!(traced.dropped, 0);
        lines.extend(traced.lines.into_iter().map(|line| format!("{}: {}", line.by, line.text)));
        if last.is_empty() || lines.iter().any(|line| line.contains(last)) {
            return lines;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogues_of_both_directions_are_watched_without_what_is_nobodys_business() {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let _switch = site.start_ready().await;
    assert!(watched(&site, TraceWay::In, "127.0.0.0/8", "").await.is_empty());
    assert!(watched(&site, TraceWay::Out, "127.0.0.1", "").await.is_empty());
    let mut client = site.client().await;
    begin(&mut client).await;
    client.send("Subject: private\r\n\r\nprivate\r\n.\r\n").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
    assert_eq!(say(&mut client, "QUIT").await.code, 221);
    let seen = watched(&site, TraceWay::In, "", "(ended)").await;
    assert!(seen.first().unwrap().starts_with("S: 220 mx.example.test"), "{seen:?}");
    for line in
        ["C: MAIL FROM:<a@client.test>", "C: DATA", "C: (29 octets of content)", "C: QUIT", "-: (ended)"]
    {
        assert!(seen.iter().any(|said| said == line), "{line}: {seen:?}");
    }
    assert!(seen.iter().any(|said| said.starts_with("S: 250 2.0.0 queued as ")), "{seen:?}");
    assert!(seen.iter().all(|said| !said.contains("private")), "{seen:?}");
    let sent = watched(&site, TraceWay::Out, "", "octets of content").await;
    assert!(
        sent.iter().any(|said| said == "C: MAIL FROM:<a@client.test>"
            || said.starts_with("C: MAIL FROM:<a@client.test> ")),
        "{sent:?}"
    );
    assert!(sent.iter().any(|said| said.starts_with("C: EHLO ")), "{sent:?}");
    assert!(sent.iter().all(|said| !said.contains("private")), "{sent:?}");
}
