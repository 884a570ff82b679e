//! Mail from strangers is judged by what its domain says in DNS, and mail of our own is signed so that others can do the same.

use aws_lc_rs::signature::KeyPair as _;
use rig::{Sink, SinkOptions};

use crate::name_server::NameServer;
use crate::site::{Config, PATIENCE, Running, Site, clock, say, until};

struct Scene {
    site: Site,
    _switch: Running,
    sink: Sink,
    _server: NameServer,
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
        Some(Self { site, _switch: switch, sink, _server: server })
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
                bad TXT \"v=spf1 -all\"\n_dmarc.bad TXT \"v=DMARC1; p=reject\"\n";
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
    // The same for content that goes to the disk in pieces.
    let large =
        format!("{}{}", message("a@good.test"), "a line of text that fills the message\r\n".repeat(20_000));
    assert_eq!(scene.send("a@good.test", &large).await, 250);
    let text = scene.arrived(3).await;
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
                soft TXT \"v=spf1 -all\"\n_dmarc.soft TXT \"v=DMARC1; p=none\"\n\
                lost TXT \"v=spf1 -all\"\n_dmarc.lost CNAME x.down\n";
    let Some(scene) = Scene::new(zone, "authentication: enforce", false, "", None).await else { return };
    for (domain, code) in [("good", 250), ("bad", 550), ("soft", 250), ("lost", 451), ("unknown", 250)] {
        let from = format!("a@{domain}.test");
        assert_eq!(scene.send(&from, &message(&from)).await, code, "{domain}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_trusted_clients_is_signed_and_the_signature_holds() {
    let pkcs8 =
        aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let public = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64(pkcs8.as_ref()));
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
