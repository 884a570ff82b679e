//! Clients that want too much, too early or too slowly; and that the others are served meanwhile.

use std::time::Duration;

use rig::Dialogue;

use crate::site::{Config, PATIENCE, Site, clock, say, until};

const LIMITED: &str =
    "tarpit: 0s\n  per_minute: { messages: 3, recipients: 5, commands: 60, errors: 6, connections: 30 }";

/// Strangers all, unless `limits` exempt them.
fn site(limits: &'static str) -> Site {
    Site::new(&Config { trusted: "192.0.2.0/24", limits, ..Config::default() })
}

async fn codes(client: &mut Dialogue, line: &str, count: usize) -> Vec<u16> {
    let mut codes = Vec::new();
    for _ in 0..count {
        codes.push(say(client, line).await.code);
    }
    codes
}

#[tokio::test]
async fn messages_and_recipients_beyond_the_bound_are_put_off_also_over_several_sessions() {
    let site = site(LIMITED);
    let switch = site.start_ready().await;
    let mut client = site.client().await;
    for _ in 0..2 {
        assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
        assert_eq!(say(&mut client, "RSET").await.code, 250);
    }
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
    let recipients = codes(&mut client, "RCPT TO:<b@example.test>", 6).await;
    assert_eq!(recipients, [250, 250, 250, 250, 250, 450]);
    say(&mut client, "RSET").await;
    let reply = say(&mut client, "MAIL FROM:<a@client.test>").await;
    assert_eq!((reply.code, &reply.text()[..5]), (450, "4.7.1"), "{reply:?}");
    until("it is in the log", || switch.log().contains("limits.exceeded")).await;
}

#[tokio::test]
async fn a_client_that_errs_or_asks_too_often_is_sent_away_and_so_is_its_next_session() {
    let site = site(LIMITED);
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    assert_eq!(codes(&mut client, "NONSENSE", 6).await, [500; 6]);
    assert_eq!(say(&mut client, "NONSENSE").await.code, 500);
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.code, &reply.text()[..5]), (421, "4.7.0"), "{reply:?}");
    client.closed().await.unwrap();
    let mut client = site.client().await;
    client.send("NOOP\r\n".repeat(80)).await.unwrap();
    let mut last = client.reply().await.unwrap();
    while let Ok(reply) = client.reply().await {
        last = reply;
    }
    assert_eq!((last.code, last.text()), (421, "4.7.0 too many commands in a short time, try again later"));
    // 30 connections a minute; one was that of `client`, and readiness is asked elsewhere.
    let mut greetings = Vec::new();
    for _ in 0..31 {
        greetings.push(site.connect().await.1.code);
    }
    assert_eq!(greetings.last(), Some(&421));
    assert_eq!(greetings[20], 220);
}

#[tokio::test]
async fn who_is_exempt_may_do_all_that() {
    let site = site(
        "exempt: [127.0.0.0/8]\n  greet_delay: 20s\n  per_minute: { messages: 1, recipients: 1, commands: 1, errors: 1, connections: 1 }",
    );
    let _switch = site.start_ready().await;
    for _ in 0..3 {
        let mut client = site.client().await;
        for _ in 0..3 {
            assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
            assert_eq!(codes(&mut client, "RCPT TO:<b@example.test>", 3).await, [250; 3]);
            assert_eq!(say(&mut client, "NONSENSE").await.code, 500);
            say(&mut client, "RSET").await;
        }
    }
}

#[tokio::test]
async fn a_greeting_that_waits_catches_who_does_not() {
    let site = site("greet_delay: 2s");
    let switch = site.start_ready().await;
    let began = clock().now();
    let mut early = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
    early.send("EHLO early.test\r\n").await.unwrap();
    let greeting = early.reply().await.unwrap();
    assert_eq!((greeting.code, greeting.text()), (554, "5.5.1 you talked before the greeting"));
    assert!(clock().now().since(began) < Duration::from_secs(2), "it is not kept waiting");
    early.closed().await.unwrap();
    until("it is in the log", || switch.log().contains("session.early_talk")).await;
    let began = clock().now();
    assert_eq!(site.connect().await.1.code, 220);
    assert!(clock().now().since(began) >= Duration::from_millis(1_900), "it waits");
}

#[tokio::test]
async fn errors_beyond_the_first_few_are_answered_slowly() {
    let site = site("tarpit_after: 2\n  tarpit: 500ms\n  errors: 3");
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    let began = clock().now();
    assert_eq!(codes(&mut client, "NONSENSE", 3).await, [500; 3]);
    assert!(clock().now().since(began) >= Duration::from_millis(500), "the third waits");
    assert_eq!(codes(&mut client, "NONSENSE", 1).await, [500]);
    assert_eq!(client.reply().await.unwrap().code, 421, "the fourth is the last");
}

#[tokio::test]
async fn slow_clients_lose_their_place_and_others_get_it() {
    let site = site(
        "connections: 8\n  connections_per_client: 8\n  command_timeout: 2s\n  data_timeout: 2s\n  data_rate: 1MiB",
    );
    let _switch = site.start_ready().await;
    let mut slow = Vec::new();
    for number in 0..8 {
        let mut client = site.client().await;
        if number % 2 == 0 {
            crate::site::begin(&mut client).await;
            client.send("a drop\r\n").await.unwrap();
        } else {
            client.send("NO").await.unwrap();
        }
        slow.push(client);
    }
    assert_eq!(site.connect().await.1.code, 421, "all places are taken");
    for client in &mut slow {
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.code, &reply.text()[..5]), (421, "4.4.2"), "{reply:?}");
        client.closed().await.unwrap();
    }
    drop(slow);
    // A place is free when the switch has closed too, which may be a moment after the client saw its end.
    let deadline = clock().now() + PATIENCE;
    while site.connect().await.1.code != 220 {
        assert!(clock().now() < deadline, "the places come back");
    }
}

/// The codes of a greeting and of what follows, until there is no answer or all was said.
async fn said(site: &Site, ip: &str, lines: &[&str]) -> Vec<u16> {
    let mut client = site.connect_from(ip).await;
    let mut codes = Vec::new();
    for line in std::iter::once(&"").chain(lines) {
        if !line.is_empty() {
            client.send(format!("{line}\r\n")).await.ok();
        }
        let Ok(reply) = client.reply().await else { break };
        codes.push(reply.code);
    }
    codes
}

/// The other node is at 127.0.0.6.
fn make_a_pair(site: &Site) {
    site.configure_more(
        "cluster: { nodes: [ { id: a, heartbeat: ['127.0.0.5:7101'], control: '127.0.0.5:7201' }, \
         { id: b, heartbeat: ['127.0.0.6:7102'], control: '127.0.0.6:7202' } ], key_file: cluster.key }",
    );
    let key = site.path().join("cluster.key");
    std::fs::write(&key, "0".repeat(64)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// What a stranger may not, by each bound; and a node of the cluster that does the same.
#[tokio::test]
async fn a_node_of_the_cluster_is_exempt_from_every_bound_that_a_stranger_meets() {
    const NODE: &str = "127.0.0.6";
    let hello = "EHLO peer.test";
    let (mail, rcpt) = ("MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>");
    // The bound, what is said in one session and how it ends for a stranger, in the session or the one after it.
    let cases: [(&'static str, &[&str], u16); 6] = [
        ("per_minute: { connections: 1 }", &[hello], 421),
        ("per_minute: { messages: 1 }", &[hello, mail, "RSET", mail], 450),
        ("per_minute: { recipients: 1 }", &[hello, mail, rcpt, rcpt], 450),
        ("per_minute: { commands: 3 }", &[hello, "NOOP", "NOOP", "NOOP", "NOOP"], 421),
        ("per_minute: { errors: 1 }", &[hello, "NONSENSE", "NONSENSE", "NOOP"], 421),
        // Two clients of a network: the bound of each is 1, and of all of them 1.
        ("network_factor: 1\n  per_minute: { messages: 1 }", &[hello, mail], 450),
    ];
    for (bound, lines, code) in cases {
        let site = site(bound);
        make_a_pair(&site);
        let _switch = site.start_ready().await;
        let mut stranger = said(&site, "127.0.0.7", lines).await;
        stranger.extend(said(&site, "127.0.0.8", lines).await);
        stranger.extend(said(&site, "127.0.0.7", lines).await);
        assert!(stranger.contains(&code), "{bound}: {stranger:?}");
        for _ in 0..3 {
            let node = said(&site, NODE, lines).await;
            assert!(!node.contains(&code) && node.len() == lines.len() + 1, "{bound}: {node:?}");
        }
    }
}

#[tokio::test]
async fn a_node_of_the_cluster_is_greeted_at_once_and_never_kept_waiting_for_an_error() {
    let site = site("greet_delay: 20s\n  tarpit_after: 1\n  tarpit: 20s");
    make_a_pair(&site);
    let _switch = site.start_ready().await;
    let began = clock().now();
    let lines = ["EHLO peer.test", "NONSENSE", "NONSENSE", "NONSENSE"];
    assert_eq!(said(&site, "127.0.0.6", &lines).await, [220, 250, 500, 500, 500]);
    assert!(clock().now().since(began) < Duration::from_secs(10));
}
