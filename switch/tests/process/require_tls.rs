//! Mail that asks for TLS all the way: from a client, through a switch, to another. RFC 8689.

use rig::{Sink, SinkOptions};

use crate::certificates;
use crate::site::{Config, PATIENCE, Site, clock, say, until};
use crate::tls_in::shake_hands;

const LISTENER: &str = "tls: { cert: mx.pem, key: mx.key }";
const VERIFY: &str = "tls: verify\n    tls_roots: roots.pem";

async fn give(site: &Site) {
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "STARTTLS").await.code, 220);
    let certificate = certificates::read(site.path(), "mx");
    let mut client = shake_hands(client.into_stream(), certificate).await.unwrap();
    assert!(say(&mut client, "EHLO client.test").await.extension("REQUIRETLS").is_some());
    for line in ["MAIL FROM:<a@client.test> REQUIRETLS", "RCPT TO:<b@example.test>"] {
        assert_eq!(say(&mut client, line).await.code, 250);
    }
    assert_eq!(say(&mut client, "DATA").await.code, 354);
    client.send("Subject: secret plan\r\n\r\nhello\r\n").await.unwrap();
    assert_eq!(say(&mut client, ".").await.code, 250);
}

#[tokio::test]
async fn it_goes_where_tls_is_verified_and_promised_and_comes_back_without_its_content_from_elsewhere() {
    // The last hop promises nothing.
    let sink = Sink::start(SinkOptions { keep_bytes_max: 1 << 20, ..SinkOptions::new(clock()) }).unwrap();
    let second =
        Site::new(&Config { listener: LISTENER, next_hop: Some(sink.address()), ..Config::default() });
    certificates::write(second.path(), "mx", "127.0.0.1");
    let second_switch = second.start_ready().await;
    let config =
        Config { listener: LISTENER, route: VERIFY, next_hop: Some(second.smtp), ..Config::default() };
    let first = Site::new(&config);
    certificates::write(first.path(), "mx", "mx.example.test");
    std::fs::copy(second.path().join("mx.pem"), first.path().join("roots.pem")).unwrap();
    let first_switch = first.start_ready().await;
    give(&first).await;
    until("it is passed on", || second_switch.log().contains("message.accepted")).await;
    until("it is refused", || second_switch.log().contains("550 5.7.30")).await;
    assert!(!first_switch.log().contains("5.7.30"), "{}", first_switch.log());
    // The sender is told by the second.
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{}", second_switch.log());
    let told = sink.deliveries().remove(0);
    let text = String::from_utf8(told.content.unwrap()).unwrap();
    assert!(text.contains("Status: 5.7.30\r\n") && !text.contains("secret plan"), "{text}");
    assert_eq!(told.recipients, ["a@client.test"]);
}
