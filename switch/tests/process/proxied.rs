//! Clients behind a balancer or a front: who they are, and who may say so.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use rig::{Answer, Dialogue};
use tokio::net::TcpStream;

use crate::site::{Config, PATIENCE, Running, Site, begin, key, say, until};

const BALANCED: &str = "proxy_protocol: true";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// v2, PROXY, TCP over IPv4, 192.0.2.7:12345 to 127.0.0.1:25.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x30\x39\x00\x19";

fn site(listener: &'static str, limits: &'static str) -> Site {
    Site::new(&Config { limits, listener, ..Config::default() })
}

/// A connection that begins with a header, and its greeting.
async fn through(site: &Site, header: &[u8]) -> (Dialogue, Answer) {
    let mut client = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
    client.send(header).await.unwrap();
    let greeting = client.reply().await.unwrap();
    (client, greeting)
}

/// Sends a message; its Received field.
async fn received(site: &Site, client: &mut Dialogue) -> String {
    begin(client).await;
    let reply = say(client, "Subject: x\r\n\r\nx\r\n.").await;
    assert_eq!(reply.code, 250, "{reply:?}");
    let stored = site.content(key(reply.text()));
    String::from_utf8_lossy(&stored).lines().next().unwrap_or_default().to_owned()
}

/// Nothing in the log that somebody would have to look at.
fn is_quiet(switch: &Running) {
    let log = switch.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn the_client_a_balancer_names_is_the_client_of_relay_control_received_field_and_log() {
    let site = site(BALANCED, "");
    let switch = site.start_ready().await;
    let v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 25\r\n";
    let v6 = b"PROXY TCP6 2001:db8::7 ::1 12345 25\r\n";
    for (header, shown) in [
        (V2, "from client.test ([192.0.2.7])"),
        (v1, "from client.test ([192.0.2.7])"),
        (v6, "from client.test ([IPv6:2001:db8::7])"),
    ] {
        let (mut client, greeting) = through(&site, header).await;
        assert_eq!(greeting.code, 220, "{greeting:?}");
        say(&mut client, "EHLO client.test").await;
        // 127.0.0.1 is trusted; the client behind it is not.
        say(&mut client, "MAIL FROM:<a@client.test>").await;
        assert_eq!(say(&mut client, "RCPT TO:<b@elsewhere.test>").await.code, 550);
        say(&mut client, "RSET").await;
        let field = received(&site, &mut client).await;
        assert!(field.contains(shown), "{field}");
    }
    let log = switch.log();
    assert!(
        log.contains("relay.denied") && log.contains("192.0.2.7") && log.contains("2001:db8::7"),
        "{log}"
    );
}

#[tokio::test]
async fn a_header_in_two_pieces_is_read_and_nothing_behind_it_is_lost() {
    let site = site(BALANCED, "");
    let _switch = site.start_ready().await;
    let mut client = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
    for piece in V2.chunks(5) {
        client.send(piece).await.unwrap();
    }
    assert_eq!(client.reply().await.unwrap().code, 220);
    let early = [V2, b"EHLO early.test\r\n"].concat();
    let (_, greeting) = through(&site, &early).await;
    assert_eq!((greeting.code, greeting.text()), (554, "5.5.1 you talked before the greeting"));
}

#[tokio::test]
async fn a_balancers_own_checks_are_answered_and_count_nowhere() {
    let site = site(BALANCED, "connections_per_client: 1");
    let switch = site.start_ready().await;
    let local = [V2_SIGNATURE, b"\x20\x00\x00\x00"].concat();
    let mut held = Vec::new();
    for header in [&local[..], &local[..], b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN\r\n"] {
        let (mut client, greeting) = through(&site, header).await;
        assert_eq!(greeting.code, 220, "{greeting:?}");
        assert_eq!(say(&mut client, "EHLO check.test").await.code, 250);
        held.push(client);
    }
    // Nobody knows whose connection it is, so it is nobody's whom we trust.
    let unknown = held.last_mut().unwrap();
    say(unknown, "MAIL FROM:<a@client.test>").await;
    assert_eq!(say(unknown, "RCPT TO:<b@elsewhere.test>").await.code, 550);
    // A check that sends its header and goes, and one that only connects.
    let mut gone = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
    gone.send(&local).await.unwrap();
    drop(gone);
    drop(Dialogue::connect(site.smtp, PATIENCE).await.unwrap());
    let (_kept, greeting) = through(&site, V2).await;
    assert_eq!(greeting.code, 220, "{greeting:?}");
    let (_, greeting) = through(&site, V2).await;
    assert_eq!(greeting.code, 421, "its client has one connection already: {greeting:?}");
    is_quiet(&switch);
}

#[tokio::test]
async fn what_is_no_header_closes_without_a_word() {
    let site = site(BALANCED, "");
    let switch = site.start_ready().await;
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 300]].concat();
    for header in [b"EHLO client.test\r\n".as_slice(), &long, b"PROXY TCP4 1.2.3.4 1 2\r\n", &V2[..12]] {
        let mut client = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
        client.send(header).await.unwrap();
        // The last is only half a header: nothing comes, and after a while it is closed too.
        assert!(client.reply().await.is_err(), "{}", header.escape_ascii());
    }
    until("each is in the log", || switch.log().matches("proxy.refused").count() == 4).await;
}

#[tokio::test]
async fn a_header_of_somebody_who_is_not_listed_is_no_header() {
    let site = site("proxy_protocol: true\n    proxy_from: [192.0.2.0/24]", "");
    let _switch = site.start_ready().await;
    let (mut client, greeting) = through(&site, b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 25\r\n").await;
    // It came before the greeting, or behind it as a command that nobody knows.
    let refused = if greeting.code == 220 { client.reply().await.unwrap() } else { greeting };
    assert!(matches!(refused.code, 500 | 554), "{refused:?}");
    // Who is not listed is a client.
    assert_eq!(site.connect().await.1.code, 220);
}

#[tokio::test]
async fn a_listed_front_says_whose_session_it_passes_on() {
    let site = site("xclient_from: [127.0.0.1/32]", "connections_per_client: 1");
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    let reply =
        say(&mut client, "XCLIENT NAME=c7.client.test ADDR=192.0.2.7 PORT=12345 PROTO=ESMTP HELO=c7").await;
    assert_eq!(reply.code, 220, "{reply:?}");
    let field = received(&site, &mut client).await;
    assert!(field.contains("from c7 (c7.client.test [192.0.2.7])"), "{field}");
    say(&mut client, "MAIL FROM:<a@client.test>").await;
    assert_eq!(say(&mut client, "RCPT TO:<b@elsewhere.test>").await.code, 550, "the client is not trusted");
    // The front has room again, its client has none.
    let mut second = site.client().await;
    let reply = say(&mut second, "XCLIENT ADDR=192.0.2.7").await;
    assert_eq!(reply.code, 421, "{reply:?}");
}

#[tokio::test]
async fn nobody_else_is_offered_xclient_or_believed() {
    let site = site("xclient_from: [192.0.2.0/24]", "");
    let _switch = site.start_ready().await;
    let (mut client, _) = site.connect().await;
    assert_eq!(say(&mut client, "EHLO client.test").await.extension("XCLIENT"), None);
    assert_eq!(say(&mut client, "XCLIENT ADDR=127.0.0.1").await.code, 550);
}

struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// HAProxy in front of the site, with `check` of its health.
fn haproxy(site: &Site, server: &str, option: &str) -> Option<(Haproxy, SocketAddr)> {
    let there = Command::new("haproxy").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs haproxy");
        return None;
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = site.path().join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen smtp\n  bind {address}\n  {option}\n  server a {} {server} check inter 100ms\n",
        site.smtp
    );
    std::fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
    let child = Command::new("haproxy").args(["-db", "-f"]).arg(&file).stderr(Stdio::null()).spawn().unwrap();
    Some((Haproxy(child), address))
}

#[tokio::test]
async fn haproxy_passes_clients_on_by_both_versions_and_its_checks_leave_no_trace() {
    for (server, option) in
        [("send-proxy-v2", ""), ("send-proxy", ""), ("send-proxy-v2", "option smtpchk EHLO check.test")]
    {
        let site = site(BALANCED, "");
        let switch = site.start_ready().await;
        let Some((_haproxy, address)) = haproxy(&site, server, option) else { return };
        let mut greeted = None;
        for _ in 0..100 {
            if let Ok(stream) = TcpStream::connect(address).await {
                let mut client = Dialogue::over(stream, PATIENCE);
                if let Ok(greeting) = client.reply().await {
                    greeted = Some((client, greeting));
                    break;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let (mut client, greeting) = greeted.unwrap();
        assert_eq!(greeting.code, 220, "{server} {option}: {greeting:?}");
        assert_eq!(say(&mut client, "EHLO client.test").await.code, 250);
        let field = received(&site, &mut client).await;
        assert!(field.contains("from client.test ([127.0.0.1])"), "{field}");
        is_quiet(&switch);
    }
}
