//! Clients under TLS: after STARTTLS, and from the start.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rig::{Answer, Dialogue};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates;
use crate::site::{Config, PATIENCE, Site, begin, clock, key, say, until};

const STARTTLS: &str = "tls: { cert: mx.pem, key: mx.key }";
const IMPLICIT: &str = "tls: { cert: mx.pem, key: mx.key }\n    tls_mode: implicit";

pub(crate) type Secured = Dialogue<TlsStream<TcpStream>>;

fn site(listener: &'static str, limits: &'static str) -> Site {
    let site = Site::new(&Config { limits, listener, ..Config::default() });
    certificates::write(site.path(), "mx", "mx.example.test");
    site
}

/// Shakes hands, trusting `certificate` alone.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    certificate: CertificateDer<'static>,
) -> std::io::Result<Secured> {
    let name = ServerName::try_from("mx.example.test").unwrap();
    let stream = TlsConnector::from(certificates::trusting(certificate)).connect(name, stream).await?;
    Ok(Dialogue::over(stream, PATIENCE))
}

/// A client that has done STARTTLS.
async fn secured(site: &Site, certificate: CertificateDer<'static>) -> std::io::Result<Secured> {
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "STARTTLS").await.code, 220);
    shake_hands(client.into_stream(), certificate).await
}

/// Sends a large message and looks at what is in the queue.
async fn is_taken_unchanged(site: &Site, client: &mut Secured) {
    let content =
        [&b"Subject: large\r\n\r\n"[..], &b"a line of text that fills the message\r\n".repeat(50_000)]
            .concat();
    begin(client).await;
    client.send(&content).await.unwrap();
    let reply = say(client, ".").await;
    assert_eq!(reply.code, 250, "{reply:?}");
    let stored = site.content(key(reply.text()));
    let (field, below) = stored.split_at(stored.len() - content.len());
    assert!(below == content, "the content was changed");
    let field = String::from_utf8_lossy(field);
    assert!(field.contains("by mx.example.test with ESMTPS"), "{field}");
}

fn offers(hello: &Answer) -> bool {
    assert_eq!(hello.code, 250, "{hello:?}");
    hello.extension("STARTTLS").is_some()
}

#[tokio::test]
async fn mail_over_starttls_is_stored_unchanged_and_its_received_field_says_esmtps() {
    let site = site(STARTTLS, "");
    let _switch = site.start_ready().await;
    let (mut client, _) = site.connect().await;
    assert!(offers(&say(&mut client, "EHLO in-clear.test").await));
    assert_eq!(say(&mut client, "STARTTLS").await.code, 220);
    let certificate = certificates::read(site.path(), "mx");
    let mut client = shake_hands(client.into_stream(), certificate).await.unwrap();
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 503, "the EHLO is forgotten");
    assert!(!offers(&say(&mut client, "EHLO client.test").await), "it is not offered again");
    assert_eq!(say(&mut client, "STARTTLS").await.code, 503);
    is_taken_unchanged(&site, &mut client).await;
    assert_eq!(say(&mut client, "QUIT").await.code, 221);
    client.closed().await.unwrap();
}

#[tokio::test]
async fn a_listener_with_implicit_tls_speaks_it_from_the_first_byte() {
    let site = site(IMPLICIT, "");
    let _switch = site.start_ready().await;
    let stream = TcpStream::connect(site.smtp).await.unwrap();
    let mut client = shake_hands(stream, certificates::read(site.path(), "mx")).await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 220);
    assert!(!offers(&say(&mut client, "EHLO client.test").await));
    is_taken_unchanged(&site, &mut client).await;
    // A client in clear is not understood, and gets no greeting.
    let mut client = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
    client.send("EHLO client.test\r\n").await.unwrap();
    client.reply().await.unwrap_err();
}

#[tokio::test]
async fn a_listener_without_a_certificate_offers_no_tls() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let (mut client, _) = site.connect().await;
    assert!(!offers(&say(&mut client, "EHLO client.test").await));
    assert_eq!(say(&mut client, "STARTTLS").await.code, 502);
}

#[tokio::test]
async fn what_is_said_in_clear_behind_starttls_has_no_effect() {
    let site = site(STARTTLS, "");
    let switch = site.start_ready().await;
    let evil = "MAIL FROM:<evil@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nevil\r\n.\r\n";

    // In the same packet.
    let mut client = site.client().await;
    client.send(format!("STARTTLS\r\n{evil}")).await.unwrap();
    let reply = client.reply().await.unwrap();
    assert!(reply.code == 421 && reply.text().contains("without waiting"), "{reply:?}");
    client.closed().await.unwrap();

    // Between the reply and the handshake.
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "STARTTLS").await.code, 220);
    client.send(evil).await.unwrap();
    let shaken = shake_hands(client.into_stream(), certificates::read(site.path(), "mx")).await;
    assert!(shaken.is_err(), "nothing is spoken over such a connection");
    until("the failure is told", || switch.log().contains("tls.client_failed")).await;
    assert!(site.inspect().replay.books.is_empty());
}

#[tokio::test]
async fn a_reload_changes_the_certificate_while_an_old_session_goes_on() {
    let site = site(STARTTLS, "");
    let switch = site.start_ready().await;
    let old = certificates::read(site.path(), "mx");
    let mut client = secured(&site, old.clone()).await.unwrap();
    assert_eq!(say(&mut client, "EHLO client.test").await.code, 250);
    begin(&mut client).await;

    certificates::write(site.path(), "mx", "mx.example.test");
    let new = certificates::read(site.path(), "mx");
    assert!(secured(&site, old.clone()).await.is_ok(), "nothing changes by itself");
    switch.signal(Signal::HUP);
    until("the reload is done", || switch.log().contains("config.reloaded")).await;
    assert!(secured(&site, old.clone()).await.is_err(), "the old certificate is not shown any more");
    assert!(secured(&site, new.clone()).await.is_ok());

    // A reload with a file that cannot be used changes nothing.
    std::fs::write(site.path().join("mx.key"), "no key").unwrap();
    switch.signal(Signal::HUP);
    until("the reload is refused", || switch.log().contains("config.refused")).await;
    assert!(secured(&site, new).await.is_ok());

    client.send("the session goes on\r\n.\r\n").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
}

#[tokio::test]
async fn a_client_that_never_finishes_the_handshake_holds_nothing_for_long() {
    for listener in [STARTTLS, IMPLICIT] {
        let site = site(listener, "tls_handshake: 200ms\n  connections_per_client: 1");
        let switch = site.start_ready().await;
        let mut silent = Dialogue::connect(site.smtp, PATIENCE).await.unwrap();
        if listener == STARTTLS {
            assert_eq!(silent.reply().await.unwrap().code, 220);
            assert_eq!(say(&mut silent, "EHLO client.test").await.code, 250);
            assert_eq!(say(&mut silent, "STARTTLS").await.code, 220);
        }
        silent.closed().await.unwrap();
        until("the failure is told", || switch.log().contains("tls.client_failed")).await;
        drop(silent);
        // The only place of this client is free again.
        let free = async {
            while site.status().await.connections > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.unwrap();
    }
}

#[tokio::test]
async fn a_handshake_under_way_does_not_hold_up_a_drain() {
    let site = site(STARTTLS, "tls_handshake: 5m");
    let mut switch = site.start_ready().await;
    let mut silent = site.client().await;
    assert_eq!(say(&mut silent, "STARTTLS").await.code, 220);
    let begun = clock().now();
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    // A session in the middle of a message would be given ten seconds.
    assert!(clock().now().since(begun) < Duration::from_secs(8), "{}", switch.log());
    assert!(switch.log().contains("switch.ended"), "{}", switch.log());
    silent.closed().await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_serve_are_told_at_the_start_with_a_remedy() {
    let site = site(STARTTLS, "");
    let refused = async |remedy: &str| {
        let mut switch = site.start();
        assert_eq!(switch.ended().await, 2);
        let log = switch.log();
        assert!(log.contains("listeners[0].tls.") && log.contains(remedy), "{log}");
        assert!(log.contains(site.path().to_str().unwrap()), "{log}");
    };
    let key = std::fs::read(site.path().join("mx.key")).unwrap();
    std::fs::remove_file(site.path().join("mx.key")).unwrap();
    refused("write it there, or correct the path").await;
    std::fs::write(site.path().join("mx.key"), "no key").unwrap();
    refused("it must hold a private key in PEM").await;
    certificates::write(site.path(), "other", "mx.example.test");
    std::fs::copy(site.path().join("other.key"), site.path().join("mx.key")).unwrap();
    refused("write the two that were made together").await;
    std::fs::write(site.path().join("mx.key"), key).unwrap();
    std::fs::write(site.path().join("mx.pem"), "").unwrap();
    refused("it must hold certificates in PEM").await;
}

/// What `openssl s_client` has to say, with these arguments and this to send.
fn openssl(site: &Site, arguments: &[&str], input: &str) -> (bool, String) {
    let address = site.smtp.to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-starttls", "smtp", "-crlf", "-quiet", "-ign_eof"])
        .args(["-CAfile", site.path().join("mx.pem").to_str().unwrap(), "-verify_return_error"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A client that was refused does not read its input.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said + &String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn openssl_is_served_with_tls_1_2_and_1_3_and_not_below() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("no openssl on this machine");
        return;
    }
    let site = site(STARTTLS, "");
    let _switch = site.start_ready().await;
    let dialogue = "EHLO openssl.test\nMAIL FROM:<a@client.test>\nRCPT TO:<b@example.test>\nDATA\n\
                    Subject: hi\n\nhello\n.\nQUIT\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let (_, said) = openssl(&site, &[version], dialogue);
        assert!(said.contains("queued as") && said.contains("221 2.0.0"), "{version}: {said}");
    }
    let (success, said) = openssl(&site, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], dialogue);
    assert!(!success && !said.contains("queued as"), "{said}");
}
