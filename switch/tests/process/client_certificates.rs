//! Certificates as identities: clients that are known by theirs, and next hops that want ours.

use std::io::Write;
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use rig::{Sink, SinkOptions};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::certificates::{self, Authority};
use crate::front::{Front, Manner};
use crate::site::{Config, PATIENCE, Running, Site, begin, clock, key, say, until};
use crate::tls_in::Secured;

const REQUEST: &str = "tls: { cert: mx.pem, key: mx.key, client_certificates: request, client_ca: ca.pem }";
const REQUIRE: &str = "tls: { cert: mx.pem, key: mx.key, client_certificates: require, client_ca: ca.pem }";
const KNOWN: &str = "relay: { trusted_certificates: [ 'CN=known.test,O=Example' ] }\n";

/// A switch that trusts no network, with clients that an authority vouches for (`known`, `other`), one it does not vouch for
/// that says the same (`forged`), and what it says of certificates.
async fn site(listener: &'static str, more: &str) -> (Site, Running) {
    let site = Site::new(&Config { trusted: "10.9.9.9/32", listener, ..Config::default() });
    let folder = site.path();
    certificates::write(folder, "mx", "mx.example.test");
    let authority = Authority::write(folder, "ca");
    authority.issue(folder, "known");
    authority.issue(folder, "other");
    certificates::claim(folder, "forged", "known");
    site.configure_more(&more.replace("FORGED", &fingerprint(&site, "forged")));
    let switch = site.start_ready().await;
    (site, switch)
}

fn fingerprint(site: &Site, name: &str) -> String {
    let certificate = certificates::read(site.path(), name);
    digest(&SHA256, &certificate)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// A client after STARTTLS and EHLO that shows what is written as `name`, or nothing.
async fn shown(site: &Site, name: Option<&str>) -> std::io::Result<Secured> {
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "STARTTLS").await.code, 220);
    let mx = certificates::read(site.path(), "mx");
    let config = match name {
        Some(name) => certificates::trusting_and_showing(mx, site.path(), name),
        None => certificates::trusting(mx),
    };
    let host = ServerName::try_from("mx.example.test").unwrap();
    let stream = TlsConnector::from(config).connect(host, client.into_stream()).await?;
    let mut client = rig::Dialogue::over(stream, PATIENCE);
    // With TLS 1.3 a client hears only now that its certificate was not taken.
    let hello = client.command("EHLO client.test").await.map_err(std::io::Error::other)?;
    assert_eq!(hello.code, 250);
    Ok(client)
}

/// What is said to a recipient of somebody else's domain.
async fn relays(client: &mut Secured) -> u16 {
    assert_eq!(say(client, "MAIL FROM:<a@client.test>").await.code, 250);
    say(client, "RCPT TO:<b@elsewhere.test>").await.code
}

#[tokio::test]
async fn who_shows_a_certificate_of_the_list_may_send_anywhere_and_nobody_else() {
    let (site, switch) = site(REQUEST, KNOWN).await;
    for (name, code) in [(Some("known"), 250), (Some("other"), 550), (Some("forged"), 550), (None, 550)] {
        let mut client = shown(&site, name).await.unwrap();
        assert_eq!(relays(&mut client).await, code, "{name:?}: {}", switch.log());
    }
    let log = switch.log();
    assert!(log.contains("tls.client_certificate") && log.contains("CN=other.test,O=Example"), "{log}");
}

#[tokio::test]
async fn the_verified_subject_stands_in_the_received_field_and_the_log_and_no_other() {
    let (site, switch) = site(REQUEST, KNOWN).await;
    for (name, verified) in [("known", true), ("forged", false)] {
        let mut client = shown(&site, Some(name)).await.unwrap();
        begin(&mut client).await;
        client.send("Subject: x\r\n\r\ntext\r\n.\r\n").await.unwrap();
        let reply = client.reply().await.unwrap();
        let field = String::from_utf8(site.content(key(reply.text()))).unwrap();
        let comment = "\r\n\t(client certificate CN=known.test,O=Example, verified)\r\n\tby mx.example.test with ESMTPS";
        assert_eq!(field.contains(comment), verified, "{field}");
        assert_eq!(field.contains("CN=known.test"), verified, "{field}");
    }
    let accepted = |log: &str, what: &str| {
        log.lines().any(|line| line.contains("message.accepted") && line.contains(what))
    };
    until("both are told", || {
        let log = switch.log();
        accepted(&log, "CN=known.test,O=Example") && accepted(&log, "sha256:")
    })
    .await;
}

#[tokio::test]
async fn a_fingerprint_needs_nobody_who_vouches_for_it() {
    let listener = "tls: { cert: mx.pem, key: mx.key, client_certificates: request }";
    let (site, switch) = site(listener, "relay: { trusted_certificates: [ 'sha256:FORGED' ] }\n").await;
    for (name, code) in [("forged", 250), ("known", 550)] {
        let mut client = shown(&site, Some(name)).await.unwrap();
        assert_eq!(relays(&mut client).await, code, "{name}: {}", switch.log());
    }
}

#[tokio::test]
async fn where_a_certificate_is_required_no_mail_is_taken_without_one() {
    let (site, switch) = site(REQUIRE, "").await;
    let mut clear = site.client().await;
    let refused = say(&mut clear, "MAIL FROM:<a@client.test>").await;
    assert!(refused.code == 530 && refused.text().contains("STARTTLS"), "{refused:?}");
    let mut nameless = shown(&site, None).await.unwrap();
    let refused = say(&mut nameless, "MAIL FROM:<a@client.test>").await;
    assert!(refused.code == 530 && refused.text().contains("certificate is required"), "{refused:?}");
    assert!(shown(&site, Some("forged")).await.is_err(), "nobody vouches for it");
    until("that is told", || switch.log().contains("tls.client_failed")).await;
    let mut known = shown(&site, Some("other")).await.unwrap();
    begin(&mut known).await;
}

#[tokio::test]
async fn a_reload_takes_other_authorities_into_use() {
    let (site, switch) = site(REQUIRE, "").await;
    Authority::write(site.path(), "ca").issue(site.path(), "late");
    assert!(shown(&site, Some("late")).await.is_err());
    switch.signal(Signal::HUP);
    until("the reload is done", || switch.log().contains("config.reloaded")).await;
    let mut late = shown(&site, Some("late")).await.unwrap();
    begin(&mut late).await;
    assert!(shown(&site, Some("known")).await.is_err());
}

#[tokio::test]
async fn openssl_shows_a_certificate_with_tls_1_2_and_1_3_and_relays_by_it() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: needs openssl");
        return;
    }
    let (site, _switch) = site(REQUEST, KNOWN).await;
    let path = |name: &str| site.path().join(name).to_str().unwrap().to_owned();
    // What the page of settings says shows the subject.
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", &path("known.pem")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "subject=CN=known.test,O=Example");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &site.smtp.to_string(), "-starttls", "smtp", "-crlf", "-quiet"])
            .args(["-ign_eof", "-cert", &path("known.pem"), "-key", &path("known.key"), version])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let dialogue = b"EHLO openssl.test\nMAIL FROM:<a@client.test>\nrcpt TO:<b@elsewhere.test>\nQUIT\n";
        child.stdin.take().unwrap().write_all(dialogue).ok();
        let said = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(text.contains("250 2.1.5") && text.contains("221 2.0.0"), "{version}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_wants_a_certificate_is_shown_that_of_its_route() {
    let folder = tempfile::tempdir().unwrap();
    certificates::write(folder.path(), "hop", "127.0.0.1");
    let authority = Authority::write(folder.path(), "ca");
    for (route, delivered) in [
        ("tls: verify\n    tls_roots: hop.pem\n    tls_cert: own.pem\n    tls_key: own.key", true),
        ("tls: encrypt\n    tls_cert: own.pem\n    tls_key: own.key", true),
        ("tls: encrypt", false),
    ] {
        let sink = Sink::start(SinkOptions::new(clock())).unwrap();
        let manner = Manner::Works(certificates::showing_and_asking(folder.path(), "hop", "ca"));
        let front = Front::start(sink.address(), manner).await;
        let site = Site::new(&Config { route, next_hop: Some(front.address), ..Config::default() });
        authority.issue(site.path(), "own");
        std::fs::copy(folder.path().join("hop.pem"), site.path().join("hop.pem")).unwrap();
        let switch = site.start_ready().await;
        let mut client = site.client().await;
        begin(&mut client).await;
        client.send("Subject: x\r\n\r\ntext\r\n.\r\n").await.unwrap();
        assert_eq!(client.reply().await.unwrap().code, 250);
        if delivered {
            assert!(sink.wait_for(|tally| tally.deliveries >= 1, PATIENCE).await, "{}", switch.log());
            assert_eq!(front.counts(), [1, 1, 0], "{route}");
        } else {
            until("the attempt is over", || switch.log().contains("delivery.attempt")).await;
            assert!(switch.log().contains("deferred=1"), "{}", switch.log());
            assert_eq!((sink.tally().connections, front.counts()[1]), (0, 0), "{route}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_serve_is_told_at_the_start_with_a_remedy() {
    let route = "tls_cert: own.pem\n    tls_key: own.key";
    let site = Site::new(&Config { route, listener: REQUIRE, ..Config::default() });
    certificates::write(site.path(), "mx", "mx.example.test");
    std::fs::write(site.path().join("ca.pem"), "nobody").unwrap();
    certificates::write(site.path(), "own", "a.test");
    std::fs::copy(site.path().join("mx.key"), site.path().join("own.key")).unwrap();
    let mut switch = site.start();
    assert_eq!(switch.ended().await, 2);
    let log = switch.log();
    assert!(log.contains("listeners[0].tls.client_ca: no certificate in it"), "{log}");
    assert!(log.contains("routes[0].tls_cert:") && log.contains("made together"), "{log}");
}
