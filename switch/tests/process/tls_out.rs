//! Next hops under TLS: what each policy gives to whom.

use rig::{Behaviour, Rule, Sink, SinkOptions, Stage};

use crate::certificates;
use crate::front::{Front, Manner};
use crate::site::{Config, PATIENCE, Running, Site, begin, clock, until};

const VERIFY: &str = "tls: verify\n    tls_roots: roots.pem";

/// More than one TLS record, one read and one piece of the queue hold.
fn content() -> Vec<u8> {
    [&b"Subject: out\r\n\r\n"[..], &b"a line of text that fills the message\r\n".repeat(20_000)].concat()
}

struct Scene {
    site: Site,
    switch: Running,
    sink: Sink,
    front: Front,
}

/// Where the certificate of the next hop is made before there is a switch.
fn folder(host: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    certificates::write(folder.path(), "hop", host);
    folder
}

fn working(host: &str) -> Manner {
    Manner::Works(certificates::showing(folder(host).path(), "hop"))
}

/// A switch whose only route leads to a front of this manner, and one message on its way.
async fn scene(route: &'static str, manner: Manner, roots: Option<&std::path::Path>) -> Scene {
    let sink = Sink::start(SinkOptions { keep_bytes_max: 8 << 20, ..SinkOptions::new(clock()) }).unwrap();
    let front = Front::start(sink.address(), manner).await;
    let site = Site::new(&Config { route, next_hop: Some(front.address), ..Config::default() });
    if let Some(roots) = roots {
        std::fs::copy(roots, site.path().join("roots.pem")).unwrap();
    }
    let switch = site.start_ready().await;
    let scene = Scene { site, switch, sink, front };
    scene.send().await;
    scene
}

impl Scene {
    async fn send(&self) {
        let mut client = self.site.client().await;
        begin(&mut client).await;
        client.send(content()).await.unwrap();
        assert_eq!(client.command(".").await.unwrap().code, 250);
    }

    async fn is_delivered(&self, count: u64) {
        assert!(
            self.sink.wait_for(|tally| tally.deliveries >= count, PATIENCE).await,
            "{}",
            self.switch.log()
        );
        let arrived = self.sink.deliveries().pop().unwrap().content.unwrap();
        assert!(arrived.ends_with(&content()), "the content was changed");
    }

    /// The message waits, and nothing of it was said.
    async fn is_deferred(&self, status: &str) {
        until("the attempt is over", || self.switch.log().contains("delivery.attempt")).await;
        let log = self.switch.log();
        assert!(log.contains("deferred=1") && log.contains(status), "{log}");
        assert_eq!((self.sink.tally().connections, self.front.counts()[2]), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_offers_starttls_gets_it_and_mail_arrives_unchanged() {
    for route in ["", "tls: may", "tls: encrypt"] {
        let scene = scene(route, working("whatever.test"), None).await;
        scene.is_delivered(1).await;
        assert_eq!(scene.front.counts(), [1, 1, 0], "{route}");
        until("the attempt is told", || scene.switch.log().contains("tls=true delivered=1")).await;
        // A connection under TLS waits for the next message like any other.
        scene.send().await;
        scene.is_delivered(2).await;
        assert_eq!(scene.front.counts(), [1, 1, 0], "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_may_a_peer_with_broken_tls_is_spoken_to_in_clear_and_remembered() {
    for manner in [Manner::Breaks, Manner::Refuses] {
        let scene = scene("tls: may", manner, None).await;
        scene.is_delivered(1).await;
        assert_eq!(scene.front.counts(), [1, 0, 1]);
        assert!(scene.switch.log().contains("tls.next_hop_failed"), "{}", scene.switch.log());
        // The waiting connection dies, so the next message needs a new one: TLS is not tried again so soon.
        scene.sink.behave(Behaviour::with(Rule::at(Stage::Mail).drop_connection().first(1)));
        scene.send().await;
        scene.is_delivered(2).await;
        assert_eq!(scene.front.counts(), [1, 0, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_offer_may_goes_in_clear_and_the_stricter_wait() {
    let may = scene("tls: may", Manner::None, None).await;
    may.is_delivered(1).await;
    assert_eq!(may.front.counts(), [0, 0, 1]);
    scene("tls: encrypt", Manner::None, None).await.is_deferred("4.7.4").await;
    let roots = folder("127.0.0.1");
    scene(VERIFY, Manner::None, Some(&roots.path().join("hop.pem"))).await.is_deferred("4.7.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_encrypt_mail_waits_for_a_peer_with_broken_tls() {
    for manner in [Manner::Breaks, Manner::Refuses] {
        scene("tls: encrypt", manner, None).await.is_deferred("4.7.5").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_none_no_tls_is_asked_for() {
    let scene = scene("tls: none", working("127.0.0.1"), None).await;
    scene.is_delivered(1).await;
    assert_eq!(scene.front.counts(), [0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_verify_the_certificate_must_be_trusted_and_name_the_host() {
    for (host, trusted, delivered) in
        [("127.0.0.1", true, true), ("other.test", true, false), ("127.0.0.1", false, false)]
    {
        let (folder, stranger) = (folder(host), folder("127.0.0.1"));
        let roots = if trusted { &folder } else { &stranger }.path().join("hop.pem");
        let manner = Manner::Works(certificates::showing(folder.path(), "hop"));
        let scene = scene(VERIFY, manner, Some(&roots)).await;
        if delivered {
            scene.is_delivered(1).await;
            assert_eq!(scene.front.counts(), [1, 1, 0]);
        } else {
            scene.is_deferred("4.7.5").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_speaks_tls_from_the_first_byte_gets_mail_under_the_policy_of_its_route() {
    for (route, host, delivered) in
        [("", "whatever.test", true), (VERIFY, "127.0.0.1", true), (VERIFY, "other.test", false)]
    {
        let folder = folder(host);
        let sink = Sink::start(SinkOptions { keep_bytes_max: 8 << 20, ..SinkOptions::new(clock()) }).unwrap();
        let manner = Manner::Wrapped(certificates::showing(folder.path(), "hop"));
        let front = Front::start(sink.address(), manner).await;
        let hop = Some(format!("smtps://{}", front.address));
        let site = Site::new(&Config { route, hop, ..Config::default() });
        std::fs::copy(folder.path().join("hop.pem"), site.path().join("roots.pem")).unwrap();
        let switch = site.start_ready().await;
        let scene = Scene { site, switch, sink, front };
        scene.send().await;
        if delivered {
            scene.is_delivered(1).await;
            assert_eq!(scene.front.counts(), [0, 1, 0], "{route}");
            until("the attempt is told", || scene.switch.log().contains("tls=true delivered=1")).await;
        } else {
            scene.is_deferred("4.7.5").await;
        }
    }
}
