//! Mail from strangers is judged by what its domain says in DNS, and mail of our own is signed so that others can do the same.

use std::fmt::Write as _;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use mail_auth::arc::ArcSealer;
use mail_auth::common::crypto::{RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::{AuthenticatedMessage, AuthenticationResults, MessageAuthenticator};
use queue_format::record::RecipientState;
use rig::{Sink, SinkOptions};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::name_server::NameServer;
use crate::site::{Config, PATIENCE, Running, Site, clock, say, until};

struct Scene {
    site: Site,
    _switch: Running,
    sink: Sink,
    server: NameServer,
}

impl Scene {
    /// Nobody is trusted unless `trusted` says so.
    async fn new(
        zone: &str,
        mode: &'static str,
        trusted: bool,
        top: &str,
        key: Option<&str>,
    ) -> Option<Self> {
        let server = NameServer::start(zone).await?;
        let sink = Sink::start(SinkOptions { keep_bytes_max: 4 << 20, ..SinkOptions::new(clock()) }).unwrap();
        let top = format!("dns: {{ servers: [\"{}\"], timeout: 1s }}\n{top}", server.address);
        let trusted = if trusted { "127.0.0.1/32" } else { "10.9.9.9/32" };
        let config =
            Config { trusted, listener: mode, next_hop: Some(sink.address()), top, ..Config::default() };
        let site = Site::new(&config);
        if let Some(key) = key {
            std::fs::write(site.path().join("dkim.pem"), key).unwrap();
        }
        let switch = site.start_ready().await;
        Some(Self { site, _switch: switch, sink, server })
    }

    async fn send(&self, from: &str, content: &str) -> u16 {
        let mut client = self.site.client().await;
        assert_eq!(say(&mut client, &format!("MAIL FROM:<{from}>")).await.code, 250);
        assert_eq!(say(&mut client, "RCPT TO:<b@example.test>").await.code, 250);
        assert_eq!(say(&mut client, "DATA").await.code, 354);
        client.send(content.as_bytes().to_vec()).await.unwrap();
        say(&mut client, ".").await.code
    }

    async fn arrived(&self, count: u64) -> String {
        assert!(self.sink.wait_for(|tally| tally.deliveries >= count, PATIENCE).await);
        String::from_utf8(self.sink.deliveries().pop().unwrap().content.unwrap()).unwrap()
    }
}

fn message(from: &str) -> String {
    format!(
        "From: {from}\r\nAuthentication-Results: mx.example.test; dmarc=pass\r\nAuthentication-Results: other.test; spf=pass\r\n\
         Subject: hi\r\n\r\nbody\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_says_of_the_sender_stands_on_top_and_forged_results_are_gone() {
    let zone = "good TXT \"v=spf1 ip4:127.0.0.1 -all\"\n_dmarc.good TXT \"v=DMARC1; p=reject\"\n\
                bad TXT \"v=spf1 -all\"\n_dmarc.bad TXT \"v=DMARC1; p=reject\"\n_dmarc.lost CNAME x.down\n";
    let Some(scene) = Scene::new(zone, "authentication: mark", false, "", None).await else { return };
    assert_eq!(scene.send("a@good.test", &message("a@good.test")).await, 250);
    let text = scene.arrived(1).await;
    assert!(text.starts_with("Authentication-Results: mx.example.test"), "{text}");
    assert!(text.contains("spf=pass") && text.contains("dmarc=pass header.from=good.test"), "{text}");
    assert!(text.contains("Authentication-Results: other.test; spf=pass\r\n"), "{text}");
    assert_eq!(text.matches("Authentication-Results: mx.example.test").count(), 1, "{text}");
    assert_eq!(scene.send("a@bad.test", &message("a@bad.test")).await, 250);
    let text = scene.arrived(2).await;
    assert!(text.contains("spf=fail") && text.contains("dmarc=fail"), "{text}");
    assert_eq!(scene.send("a@lost.test", &message("a@lost.test")).await, 250);
    let text = scene.arrived(3).await;
    assert!(text.contains("dmarc=temperror"), "{text}");
    // The same for content that goes to the disk in pieces.
    let large =
        format!("{}{}", message("a@good.test"), "a line of text that fills the message\r\n".repeat(20_000));
    assert_eq!(scene.send("a@good.test", &large).await, 250);
    let text = scene.arrived(4).await;
    assert!(text.starts_with("Authentication-Results: mx.example.test") && text.contains("spf=pass"));
    let body = large.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(text.split_once("\r\n\r\n").unwrap().1, body);
}

#[tokio::test]
async fn a_machine_without_certificates_of_authorities_judges_all_the_same() {
    let site = Site::new(&Config { listener: "authentication: mark", ..Config::default() });
    let empty = site.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut command = site.command(&["run", "--config", site.config_file().to_str().unwrap()]);
    command.env("SSL_CERT_FILE", empty.join("none.pem")).env("SSL_CERT_DIR", &empty);
    let _switch = Running::of(command, &site);
    until("the switch is ready", || site.probe().starts_with("HTTP/1.1 200")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_domain_wants_refused_is_refused_and_what_cannot_be_told_waits() {
    let zone = "good TXT \"v=spf1 ip4:127.0.0.1 -all\"\n_dmarc.good TXT \"v=DMARC1; p=reject\"\n\
                bad TXT \"v=spf1 -all\"\n_dmarc.bad TXT \"v=DMARC1; p=reject\"\n\
                kept TXT \"v=spf1 -all\"\n_dmarc.kept TXT \"v=DMARC1; p=quarantine\"\n\
                soft TXT \"v=spf1 -all\"\n_dmarc.soft TXT \"v=DMARC1; p=none\"\n\
                lost TXT \"v=spf1 -all\"\n_dmarc.lost CNAME x.down\n";
    for (mode, held) in [("authentication: enforce", 1), ("authentication: refuse", 0)] {
        let Some(scene) = Scene::new(zone, mode, false, "", None).await else { return };
        for (domain, code) in
            [("good", 250), ("bad", 550), ("kept", 250), ("soft", 250), ("lost", 451), ("unknown", 250)]
        {
            let from = format!("a@{domain}.test");
            assert_eq!(scene.send(&from, &message(&from)).await, code, "{domain}");
        }
        // What its domain wants quarantined is held, or goes on with its field, and nothing else waits.
        scene.arrived(4 - held).await;
        until("the others are gone", || scene.site.inspect().replay.books.balance().queued == held).await;
        let books = scene.site.inspect().replay.books;
        let states: Vec<_> = books
            .messages()
            .flat_map(|(_, m)| m.standings.iter().map(|s| s.state).collect::<Vec<_>>())
            .collect();
        assert!(states.iter().all(|state| *state == RecipientState::Held), "{mode}: {states:?}");
        assert_eq!(states.len() as u64, held, "{mode}");
        let texts: Vec<_> =
            scene.sink.deliveries().into_iter().filter_map(|d| String::from_utf8(d.content?).ok()).collect();
        let went =
            texts.iter().any(|text| text.contains("dmarc=fail") && text.contains("header.from=kept.test"));
        assert_eq!(went, held == 0, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_trusted_clients_is_signed_and_the_signature_holds() {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let pem = pem(pkcs8.as_ref());
    let zone = format!(
        "s1._domainkey.good TXT \"v=DKIM1; k=ed25519; p={}\"\n_dmarc.good TXT \"v=DMARC1; p=reject\"\n",
        base64(public.public_key().as_ref())
    );
    let keys = "dkim: [ { domain: good.test, selector: s1, key: dkim.pem } ]\n";
    let Some(signing) = Scene::new(&zone, "", true, keys, Some(&pem)).await else { return };
    assert_eq!(signing.send("a@good.test", &message("a@sub.good.test")).await, 250);
    let signed = signing.arrived(1).await;
    assert!(signed.starts_with("DKIM-Signature: ") && signed.contains("d=good.test"), "{signed}");
    assert_eq!(signing.send("a@else.test", &message("a@else.test")).await, 250);
    assert!(signing.arrived(2).await.starts_with("Received: "));
    let Some(judging) = Scene::new(&zone, "authentication: enforce", false, "", None).await else { return };
    assert_eq!(judging.send("a@forwarder.test", &signed).await, 250);
    let text = judging.arrived(1).await;
    assert!(text.contains("dkim=pass") && text.contains("dmarc=pass"), "{text}");
    assert_eq!(judging.send("a@forwarder.test", &signed.replace("body", "other")).await, 550);
}

/// A domain with a key of either kind: `[("rsa", PEM), ("ed", PEM)]`, and the records of both.
fn keys_of(domain: &str) -> (Vec<(&'static str, String)>, String) {
    let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let ed_public = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let rsa_public = base64(rsa_public.as_ref());
    // A text of DNS has 255 octets at most, and a record has several. RFC 6376 3.6.2.2.
    let (first, rest) = rsa_public.split_at(200);
    let records = format!(
        "rsa._domainkey.{domain} TXT \"v=DKIM1; k=rsa; p={first}\" \"{rest}\"\n\
         ed._domainkey.{domain} TXT \"v=DKIM1; k=ed25519; p={}\"\n",
        base64(ed_public.public_key().as_ref())
    );
    (vec![("rsa", pem(rsa_private.as_ref())), ("ed", pem(ed.as_ref()))], records)
}

fn pem(pkcs8: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64(pkcs8))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_with_several_keys_is_signed_by_each_and_another_domain_by_its_own() {
    let (good, mut zone) = keys_of("good");
    let (other, records) = keys_of("other");
    zone.push_str(&records);
    let folder = tempfile::tempdir().unwrap();
    let mut keys = "dkim:\n".to_owned();
    for (domain, pems) in [("good", &good), ("other", &other)] {
        for (selector, pem) in pems {
            let file = folder.path().join(format!("{domain}-{selector}"));
            std::fs::write(&file, pem).unwrap();
            let file = file.display();
            writeln!(keys, "  - {{ domain: {domain}.test, selector: {selector}, key: {file} }}").unwrap();
        }
    }
    let Some(signing) = Scene::new(&zone, "", true, &keys, None).await else { return };
    let Some(judging) = Scene::new(&zone, "authentication: mark", false, "", None).await else { return };
    for (count, domain) in [(1, "good"), (2, "other")] {
        assert_eq!(signing.send("a@client.test", &message(&format!("a@{domain}.test"))).await, 250);
        let signed = signing.arrived(count).await;
        assert_eq!(signed.matches("DKIM-Signature: ").count(), 2, "{signed}");
        assert_eq!(signed.matches(&format!("d={domain}.test")).count(), 2, "{signed}");
        assert_eq!(judging.send("a@forwarder.test", &signed).await, 250);
        let text = judging.arrived(count).await;
        assert_eq!(text.matches("dkim=pass").count(), 2, "{text}");
        assert!(text.contains("header.s=rsa") && text.contains("header.s=ed"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_forwarders_is_verified_and_a_broken_one_is_told() {
    let (keys, records) = keys_of("list");
    let Some(scene) = Scene::new(&records, "authentication: mark", false, "", None).await else { return };
    let original = message("a@good.test");
    let der = PrivateKeyDer::from_pem_slice(keys[0].1.as_bytes()).unwrap();
    let parsed = AuthenticatedMessage::parse(original.as_bytes()).unwrap();
    let judge = MessageAuthenticator(lookup::for_library(&scene.server.settings()).unwrap());
    let before = judge.verify_arc(&parsed).await;
    let results = AuthenticationResults::new("list.test");
    let forwarder = ArcSealer::from_key(RsaKey::<Sha256>::from_key_der(der).unwrap());
    let forwarder = forwarder.domain("list.test").selector("rsa").headers(["From", "Subject"]);
    let set = forwarder.seal(&parsed, &results, &before).unwrap();
    let sealed = format!("{}{}{original}", set.to_header(), results.to_header());
    assert_eq!(scene.send("a@list.test", &sealed).await, 250);
    let text = scene.arrived(1).await;
    assert!(text.contains("\tarc=pass"), "{text}");
    assert_eq!(scene.send("a@list.test", &sealed.replace("\r\nbody", "\r\nother")).await, 250);
    let text = scene.arrived(2).await;
    assert!(text.contains("\tarc=fail"), "{text}");
    // Without a chain there is nothing to say.
    assert_eq!(scene.send("a@list.test", &original).await, 250);
    assert!(!scene.arrived(3).await.contains("\tarc="));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place)) & 63;
            text.push(if place <= group.len() {
                char::from(*DIGITS.get(digit as usize).unwrap())
            } else {
                '='
            });
        }
    }
    text
}
