//! What DNS says of a stranger: lists of clients, names in EHLO, domains of senders; and messages that are built to bring readers down.

use rig::Answer as Reply;

use crate::name_server::NameServer;
use crate::site::{Config, Running, Site, say, until};

const ZONE: &str = "9.2.0.192.bl A 127.0.0.2\n9.2.0.192.bl TXT \"ask the list\"\n8.2.0.192.bl A 127.255.255.254\n\
                    7.2.0.192.bl A 127.0.0.9\nmail MX 0 up\nnull MX 0 .\nhost A 192.0.2.1\nempty TXT \"x\"\n";
const CHECKS: &str = "checks:\n  helo: exists\n  sender_domain: true\n  block_lists:\n  - { zone: bl.test, replies: [127.0.0.2/31] }\n  \
                      - { zone: bl.down.test }\n";

struct Scene {
    // First, since it shows its log when a test fails, which lies in the site.
    switch: Running,
    site: Site,
    _server: NameServer,
}

impl Scene {
    async fn new(checks: &str) -> Option<Self> {
        let server = NameServer::start(ZONE).await?;
        let top = format!("dns: {{ servers: [\"{}\"], timeout: 1s }}\n{checks}", server.address);
        let listener = "xclient_from: [127.0.0.1/32]";
        let site = Site::new(&Config { trusted: "10.9.9.9/32", listener, top, ..Config::default() });
        let switch = site.start_ready().await;
        Some(Self { site, switch, _server: server })
    }

    /// What RCPT is told to a client of this address, name and sender.
    async fn asked(&self, client: &str, helo: &str, sender: &str, to: &str) -> Reply {
        let mut session = self.site.client().await;
        assert_eq!(say(&mut session, &format!("XCLIENT ADDR={client}")).await.code, 220);
        assert_eq!(say(&mut session, &format!("EHLO {helo}")).await.code, 250);
        assert_eq!(say(&mut session, &format!("MAIL FROM:<{sender}>")).await.code, 250);
        say(&mut session, &format!("RCPT TO:<{to}>")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_says_of_a_stranger_is_his_answer_and_silence_refuses_nobody() {
    let Some(scene) = Scene::new(CHECKS).await else { return };
    let table = [
        ("192.0.2.1", "up.test", "a@mail.test", 250),
        ("192.0.2.1", "[192.0.2.1]", "", 250),
        // Lists: one that names him, one whose answer is none of those asked for, one that does not answer at all.
        ("192.0.2.9", "up.test", "a@mail.test", 550),
        ("192.0.2.8", "up.test", "a@mail.test", 250),
        ("192.0.2.7", "up.test", "a@mail.test", 250),
        ("192.0.2.1", "single", "a@mail.test", 550),
        ("192.0.2.1", "gone.test", "a@mail.test", 550),
        ("192.0.2.1", "x.down.test", "a@mail.test", 250),
        ("192.0.2.1", "up.test", "a@host.test", 250),
        ("192.0.2.1", "up.test", "a@null.test", 550),
        ("192.0.2.1", "up.test", "a@empty.test", 550),
        ("192.0.2.1", "up.test", "a@gone.test", 550),
        ("192.0.2.1", "up.test", "a@x.down.test", 450),
    ];
    for (client, helo, sender, code) in table {
        let reply = scene.asked(client, helo, sender, "b@example.test").await;
        assert_eq!(reply.code, code, "{client} {helo} {sender}: {reply:?}");
    }
    let reply = scene.asked("192.0.2.9", "up.test", "a@mail.test", "b@example.test").await;
    assert!(reply.text().contains("192.0.2.9 is listed by bl.test: ask the list"), "{reply:?}");
    let reply = scene.asked("192.0.2.9", "single", "a@gone.test", "postmaster").await;
    assert_eq!(reply.code, 250, "a postmaster is always reached");
    until("it is in the log", || scene.switch.log().contains("checks.refused")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_name_no_answers_count_all_but_those_of_a_list_that_does_not_answer() {
    let Some(scene) = Scene::new("checks: { block_lists: [ { zone: bl.test } ] }").await else { return };
    for (client, code) in [("192.0.2.9", 550), ("192.0.2.8", 250), ("192.0.2.7", 550), ("2001:db8::1", 250)] {
        let client = if client.contains(':') { format!("IPV6:{client}") } else { client.to_owned() };
        assert_eq!(scene.asked(&client, "x", "a@gone.test", "b@example.test").await.code, code, "{client}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_too_much_header_or_too_many_levels_is_refused_and_the_session_goes_on() {
    let limits = "header_size: 64KiB\n  header_fields: 100\n  mime_depth: 3";
    let site = Site::new(&Config { limits, ..Config::default() });
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    let message = |depth: usize| "Content-Type: message/rfc822\r\n\r\n".repeat(depth);
    for (content, code) in [
        ("A: b\r\n".repeat(100) + "\r\nx", 250),
        ("A: b\r\n".repeat(101) + "\r\nx", 552),
        (format!("A: {}\r\n\r\nx", "x\r\n ".repeat(20_000)), 552),
        (message(3), 250),
        (message(4), 554),
        ("\r\nno header".to_owned(), 250),
    ] {
        crate::site::begin(&mut client).await;
        client.send(content.clone() + "\r\n").await.unwrap();
        let reply = say(&mut client, ".").await;
        assert_eq!(reply.code, code, "{reply:?}");
    }
}
