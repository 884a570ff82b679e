//! What domains publish about the TLS of their hosts: DANE and MTA-STS. What they ask for is met, or the mail waits.

use std::path::Path;
use std::sync::atomic::Ordering;

use aws_lc_rs::digest::{SHA256, digest};
use rig::{Sink, SinkOptions};
use rustls::server::ParsedCertificate;
use tempfile::TempDir;

use crate::certificates;
use crate::front::{Front, Manner};
use crate::name_server::NameServer;
use crate::site::{Config, Running, Site, clock, say, until};
use crate::web::{Web, page};

/// One host at 127.0.0.1 with TLS, and a sink behind it.
struct Host {
    folder: TempDir,
    /// Behind it.
    _sink: Sink,
    front: Front,
}

impl Host {
    async fn new(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::write(folder.path(), "hop", "mx.test");
        let sink = Sink::start(SinkOptions::new(clock())).unwrap();
        let manner = Manner::Works(certificates::showing(folder.path(), "hop"));
        let front = Front::start(sink.address(), if tls { manner } else { Manner::None }).await;
        Self { folder, _sink: sink, front }
    }

    /// `3 1 1` and the digest of its key.
    fn tlsa(&self) -> String {
        let certificate = certificates::read(self.folder.path(), "hop");
        let key = ParsedCertificate::try_from(&certificate).unwrap().subject_public_key_info();
        let digest = digest(&SHA256, &key);
        let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("TLSA 3 1 1 {}", hex.concat())
    }

    fn port(&self) -> u16 {
        self.front.address.port()
    }
}

struct Scene {
    site: Site,
    switch: Running,
    host: Host,
    _server: NameServer,
}

impl Scene {
    async fn new(
        host: Host,
        server: NameServer,
        route: &'static str,
        dns: &str,
        roots: Option<&Path>,
    ) -> Self {
        let top = format!(
            "dns: {{ servers: [\"{}\"], timeout: 1s, mx_port: {} {dns} }}\n",
            server.address,
            host.port()
        );
        let site = Site::new(&Config { hop: Some("mx".to_owned()), route, top, ..Config::default() });
        if let Some(roots) = roots {
            std::fs::copy(roots, site.path().join("roots.pem")).unwrap();
        }
        let switch = site.start_ready().await;
        Self { site, switch, host, _server: server }
    }

    async fn send(&self, recipient: &str) {
        let mut client = self.site.client().await;
        assert_eq!(say(&mut client, "MAIL FROM:<>").await.code, 250);
        assert_eq!(say(&mut client, &format!("RCPT TO:<{recipient}>")).await.code, 250);
        assert_eq!(say(&mut client, "DATA").await.code, 354);
        assert_eq!(say(&mut client, "Subject: x\r\n\r\nbody\r\n.").await.code, 250);
    }

    async fn attempted(&self, recipient: &str) -> String {
        let to = format!("to={recipient}");
        let find = || {
            let log = self.switch.log();
            let line = log.lines().find(|line| line.contains("delivery.attempt") && line.contains(&to));
            line.map(str::to_owned)
        };
        until("the attempt is told", || find().is_some()).await;
        find().unwrap()
    }

    async fn is_delivered(&self, recipient: &str, tls: bool) {
        self.send(recipient).await;
        let line = self.attempted(recipient).await;
        assert!(line.contains("delivered=1") && line.contains(&format!("tls={tls}")), "{line}");
    }

    /// It waits, and nothing of it was said in clear.
    async fn waits(&self, recipient: &str, status: &str) {
        let clear = self.host.front.counts()[2];
        self.send(recipient).await;
        let line = self.attempted(recipient).await;
        assert!(line.contains("deferred=1") && line.contains(status), "{line}");
        assert_eq!(self.host.front.counts()[2], clear);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_dane_a_host_must_be_the_one_that_signed_dns_names() {
    let host = Host::new(true).await;
    let (port, good) = (host.port(), host.tlsa());
    let wrong = format!("TLSA 3 1 1 {}", "0".repeat(64));
    let zone = format!(
        "good MX 0 mx\nmx A 127.0.0.1\n_{port}._tcp.mx {good}\nown A 127.0.0.1\n_{port}._tcp.own {good}\n\
         bad MX 0 mxbad\nmxbad A 127.0.0.1\n_{port}._tcp.mxbad {wrong}\nnone MX 0 mxnone\nmxnone A 127.0.0.1\n\
         odd MX 0 mxodd\nmxodd A 127.0.0.1\n_{port}._tcp.mxodd TLSA 1 1 1 {}\nmute MX 0 silent\nsilent A 127.0.0.1\n\
         away MX 0 mx.plain.example.\n",
        "0".repeat(64)
    );
    // Not signed, so that what it says of certificates counts for nothing.
    let plain = format!("@ MX 0 mx.test.\nmx A 127.0.0.1\n_{port}._tcp.mx {wrong}\n");
    let Some(server) = NameServer::start_signed(&zone, &plain).await else { return };
    let scene = Scene::new(host, server, "tls: dane", ", trust_ad: true", None).await;
    scene.is_delivered("a@good.test", true).await;
    scene.is_delivered("a@own.test", true).await;
    scene.is_delivered("a@none.test", true).await;
    scene.is_delivered("a@odd.test", true).await;
    scene.is_delivered("a@away.test", true).await;
    scene.is_delivered("a@plain.example", true).await;
    scene.waits("a@bad.test", "4.7.5").await;
    scene.waits("a@mute.test", "4.4.3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_dane_a_host_that_has_records_and_offers_no_tls_gets_nothing() {
    let host = Host::new(false).await;
    let port = host.port();
    let digest = "0".repeat(64);
    let zone = format!(
        "good MX 0 mx\nmx A 127.0.0.1\n_{port}._tcp.mx {}\nodd MX 0 mxodd\nmxodd A 127.0.0.1\n\
         _{port}._tcp.mxodd TLSA 1 1 1 {digest}\nnone MX 0 mxnone\nmxnone A 127.0.0.1\n",
        host.tlsa()
    );
    let Some(server) = NameServer::start_signed(&zone, "").await else { return };
    let scene = Scene::new(host, server, "tls: dane", ", trust_ad: true", None).await;
    scene.waits("a@good.test", "4.7.4").await;
    scene.waits("a@odd.test", "4.7.4").await;
    scene.is_delivered("a@none.test", false).await;
}

/// A scene whose domain `d.test` publishes what the web server answers; its host shows a certificate for `mx.test`.
async fn sts(answer: String, trusted: bool) -> Option<(Scene, Web)> {
    let host = Host::new(true).await;
    let folder = tempfile::tempdir().unwrap();
    certificates::write(folder.path(), "web", "mta-sts.d.test");
    let web = Web::start(certificates::showing(folder.path(), "web"), move |_| answer.clone()).await;
    let mut roots = std::fs::read_to_string(folder.path().join("web.pem")).unwrap();
    if trusted {
        roots.push_str(&std::fs::read_to_string(host.folder.path().join("hop.pem")).unwrap());
    }
    std::fs::write(folder.path().join("roots.pem"), roots).unwrap();
    let zone = "d MX 0 mx\nmx A 127.0.0.1\nmta-sts.d A 127.0.0.1\n_mta-sts.d TXT \"v=STSv1; id=1;\"\n\
                free MX 0 mx\nlost MX 0 mx\n_mta-sts.lost CNAME x.down\n";
    let server = NameServer::start(zone).await?;
    let dns = format!(", sts_port: {}", web.port);
    let route = "tls: mta-sts\n    tls_roots: roots.pem";
    let scene = Scene::new(host, server, route, &dns, Some(&folder.path().join("roots.pem"))).await;
    Some((scene, web))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enforced_policy_wants_a_host_that_it_names_and_a_certificate_for_it() {
    let policy = |mx: &str| page(&format!("version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: 86400\n"));
    let Some((scene, web)) = sts(policy("*.test"), true).await else { return };
    scene.is_delivered("a@d.test", true).await;
    scene.is_delivered("b@d.test", true).await;
    assert_eq!(web.asked.load(Ordering::Relaxed), 1, "it is kept");
    scene.is_delivered("a@free.test", true).await;
    scene.waits("a@lost.test", "4.4.3").await;
    let Some((scene, _web)) = sts(policy("other.test"), true).await else { return };
    scene.waits("a@d.test", "4.7.5").await;
    let Some((scene, _web)) = sts(policy("mx.test"), false).await else { return };
    scene.waits("a@d.test", "4.7.5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_kept_over_a_restart_and_while_its_web_server_is_away() {
    let policy = page("version: STSv1\nmode: enforce\nmx: other.test\nmax_age: 86400\n");
    let Some((mut scene, web)) = sts(policy, true).await else { return };
    scene.waits("a@d.test", "4.7.5").await;
    web.task.abort();
    scene.switch.signal(rustix::process::Signal::KILL);
    scene.switch.ended().await;
    scene.switch = scene.site.start_ready().await;
    scene.waits("b@d.test", "4.7.5").await;
    assert_eq!(web.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_only_tests_or_cannot_be_fetched_keeps_nothing_back() {
    let testing = page("version: STSv1\nmode: testing\nmx: other.test\nmax_age: 86400\n");
    let Some((scene, _web)) = sts(testing, false).await else { return };
    scene.is_delivered("a@d.test", true).await;
    assert!(scene.switch.log().matches("sts.would_fail").count() >= 2, "{}", scene.switch.log());
    for answer in [
        "HTTP/1.1 302 Found\r\nLocation: https://x.test/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        page("mode: enforce\n"),
        page(&format!("version: STSv1\nmode: enforce\nmx: other.test\nmax_age: 1\n{}", "x".repeat(70_000))),
    ] {
        let Some((scene, _web)) = sts(answer, true).await else { return };
        scene.is_delivered("a@d.test", true).await;
        assert!(scene.switch.log().contains("sts.fetch_failed"), "{}", scene.switch.log());
    }
}
