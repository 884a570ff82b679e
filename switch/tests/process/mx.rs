//! `next_hop: mx`: mail goes where DNS says, and what DNS cannot say is told apart from what it says for good.

use std::net::SocketAddr;

use rig::{Behaviour, Rule, Sink, SinkOptions, Stage};

use crate::name_server::NameServer;
use crate::site::{Config, PATIENCE, Running, Site, clock, say, until};

/// Bounces come back to `client.test`.
const SENDER: &str =
    "client MX 0 sink1\nsink1 A 127.0.0.11\nsink2 A 127.0.0.12\nsink3 A 127.0.0.13\ndead A 127.0.0.19\n";

struct Scene {
    server: NameServer,
    site: Site,
    switch: Running,
    /// At 127.0.0.11, 127.0.0.12 and 127.0.0.13, all on the port of MX hosts.
    sinks: [Sink; 3],
}

fn sink(address: SocketAddr) -> Sink {
    Sink::start(SinkOptions { address, keep_bytes_max: 1 << 20, ..SinkOptions::new(clock()) }).unwrap()
}

impl Scene {
    async fn new(zone: &str) -> Option<Self> {
        Self::with(zone, "", None).await
    }

    /// With more settings for `dns`, and a next hop, in which `PORT` is that of the sinks.
    async fn with(zone: &str, dns: &str, hop: Option<&str>) -> Option<Self> {
        let server = NameServer::start(&format!("{SENDER}{zone}")).await?;
        let first = sink("127.0.0.11:0".parse().unwrap());
        let port = first.address().port();
        let others = ["127.0.0.12", "127.0.0.13"].map(|ip| sink(SocketAddr::new(ip.parse().unwrap(), port)));
        let [second, third] = others;
        let hop = hop.unwrap_or("mx").replace("PORT", &port.to_string());
        let top = format!(
            "dns: {{ servers: [\"{}\"], timeout: 1s, mx_port: {port} {dns} }}\nretry: {{ first: 1s, max: 1s }}\n",
            server.address
        );
        let site = Site::new(&Config { hop: Some(hop), top, ..Config::default() });
        let switch = site.start_ready().await;
        Some(Self { server, site, switch, sinks: [first, second, third] })
    }

    async fn send(&self, recipients: &[&str]) {
        let mut client = self.site.client().await;
        assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
        for recipient in recipients {
            assert_eq!(say(&mut client, &format!("RCPT TO:<{recipient}>")).await.code, 250);
        }
        assert_eq!(say(&mut client, "DATA").await.code, 354);
        assert_eq!(say(&mut client, "Subject: x\r\n\r\nbody\r\n.").await.code, 250);
    }

    fn sink(&self, place: usize) -> &Sink {
        self.sinks.get(place).unwrap()
    }

    /// Waits until the sink at this place has so many messages.
    async fn has(&self, place: usize, deliveries: u64) {
        let came = self.sink(place).wait_for(|tally| tally.deliveries >= deliveries, PATIENCE).await;
        assert!(came, "{:?}\n{}", self.sink(place).tally(), self.switch.log());
    }

    fn recipients(&self, place: usize) -> Vec<Vec<String>> {
        self.sink(place).deliveries().into_iter().map(|delivery| delivery.recipients).collect()
    }

    /// A message to `recipient` comes back to its sender with this status.
    async fn bounces(&self, recipient: &str, status: &str) {
        let before = self.sinks[0].tally().deliveries;
        self.send(&[recipient]).await;
        self.has(0, before + 1).await;
        let bounce = self.sinks[0].deliveries().pop().unwrap();
        assert_eq!((bounce.reverse_path.as_str(), bounce.recipients), ("", vec!["a@client.test".to_owned()]));
        let text = String::from_utf8(bounce.content.unwrap()).unwrap();
        assert!(text.contains(&format!("Status: {status}\r\n")), "{recipient}: {text}");
    }

    async fn is_deferred(&self, status: &str) {
        until("it is deferred", || {
            let log = self.switch.log();
            log.contains("deferred=1") && log.contains(status)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_preference_that_gives_service_gets_the_mail_and_a_domain_is_one_destination() {
    let zone = "d MX 30 sink3\nd MX 20 sink2\nd MX 10 dead\ne MX 5 sink2\n";
    let Some(scene) = Scene::new(zone).await else { return };
    scene.send(&["x@d.test", "y@D.test", "z@e.test"]).await;
    scene.has(1, 2).await;
    let mut groups = scene.recipients(1);
    groups.sort();
    assert_eq!(groups, [vec!["x@d.test", "y@d.test"], vec!["z@e.test"]]);
    // Who gives no service is followed by the next, as who does not answer is.
    scene.sinks[1].behave(unwilling());
    scene.send(&["x@d.test"]).await;
    scene.has(2, 1).await;
}

/// It takes nothing any more, on new connections and on those that wait.
fn unwilling() -> Behaviour {
    let refuse = |stage| Rule::at(stage).reply(421, "4.3.2 not now");
    Behaviour { rules: vec![refuse(Stage::Connect), refuse(Stage::Mail)], ..Behaviour::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_mx_is_its_own_host_through_an_alias_too_and_so_is_a_literal() {
    let zone = "own A 127.0.0.12\nalias CNAME own\naliasmx CNAME withmx\nwithmx MX 0 sink3\n";
    let Some(scene) = Scene::new(zone).await else { return };
    scene.send(&["a@own.test"]).await;
    scene.has(1, 1).await;
    scene.send(&["a@alias.test"]).await;
    scene.has(1, 2).await;
    scene.send(&["a@aliasmx.test"]).await;
    scene.has(2, 1).await;
    scene.send(&["a@[127.0.0.13]"]).await;
    scene.has(2, 2).await;
    assert_eq!(scene.recipients(2), [["a@aliasmx.test"], ["a@[127.0.0.13]"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_says_for_good_comes_back_at_once() {
    let zone = "null MX 0 .\nnohost TXT x\nnoaddress MX 0 nohost\nnoaddress MX 5 gone\nus MX 10 mx.example\n\
                us MX 20 sink2\nmx.example A 127.0.0.12\nhere MX 0 here1\nhere1 A 127.0.0.99\n\
                second MX 5 sink2\nsecond MX 10 mx.example\nsecond MX 20 sink3\n";
    let Some(scene) = Scene::with(zone, ", own: [127.0.0.99]", None).await else { return };
    scene.bounces("a@gone.test", "5.1.2").await;
    scene.bounces("a@null.test", "5.1.10").await;
    scene.bounces("a@nohost.test", "5.1.2").await;
    scene.bounces("a@noaddress.test", "5.4.4").await;
    scene.bounces("a@us.test", "5.4.6").await;
    scene.bounces("a@mx.example.test", "5.4.6").await;
    scene.bounces("a@here.test", "5.4.6").await;
    scene.bounces("a@[127.0.0.99]", "5.4.6").await;
    // A backup gives it to who is preferred to it, never to its like or worse.
    scene.send(&["a@second.test"]).await;
    scene.has(1, 1).await;
    scene.sinks[1].behave(unwilling());
    scene.send(&["b@second.test"]).await;
    scene.is_deferred("4.4.2").await;
    assert_eq!(scene.sinks[2].tally().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_cannot_say_now_waits_until_it_can() {
    let Some(mut scene) = Scene::new("d MX 0 sink2\nbad MX 0 x.down\n").await else { return };
    scene.send(&["a@x.down.test"]).await;
    scene.is_deferred("4.4.3").await;
    scene.send(&["a@bad.test"]).await;
    until("both are deferred", || scene.switch.log().matches("4.4.3").count() >= 2).await;
    scene.server.stop();
    scene.send(&["a@d.test"]).await;
    until("the third is deferred", || {
        scene.switch.log().lines().any(|line| line.contains("to=a@d.test") && line.contains("4.4.3"))
    })
    .await;
    scene.server.restart("d MX 0 sink2\nsink2 A 127.0.0.12\n").await;
    scene.has(1, 1).await;
    assert_eq!(scene.sinks[0].tally().deliveries, 0, "nothing came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_one_preference_share_the_load() {
    let Some(scene) = Scene::new("d MX 10 sink2\nd MX 10 sink3\n").await else { return };
    let slow = || Behaviour::with(Rule::at(Stage::FinalDot).after(PATIENCE / 40));
    scene.sinks[1].behave(slow());
    scene.sinks[2].behave(slow());
    for _ in 0..30 {
        scene.send(&["a@d.test"]).await;
    }
    scene.has(1, 1).await;
    scene.has(2, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_a_next_hop_are_asked_of_the_same_servers_and_hosts_are_tried_in_order() {
    let zone = "two A 127.0.0.19\ntwo A 127.0.0.12\n";
    let hop = "gone.test:PORT, dead.test:PORT, two.test:PORT, sink3.test:PORT";
    let Some(scene) = Scene::with(zone, "", Some(hop)).await else { return };
    scene.send(&["a@anything.test"]).await;
    scene.has(1, 1).await;
    assert_eq!(scene.sinks[2].tally().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postmaster_without_a_domain_is_the_one_of_the_first_relay_domain() {
    let Some(scene) = Scene::new("example MX 0 sink2\n").await else { return };
    scene.send(&["Postmaster"]).await;
    scene.has(1, 1).await;
    assert_eq!(scene.recipients(1), [["postmaster@example.test"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_both_families_is_tried_in_the_order_that_is_set() {
    for (order, at) in
        [("ipv6_first", "::1"), ("ipv4_first", "127.0.0.12"), ("ipv4", "127.0.0.12"), ("ipv6", "::1")]
    {
        let (zone, dns) =
            ("d MX 0 both\nboth A 127.0.0.12\nboth AAAA ::1\n", format!(", addresses: {order}"));
        let Some(scene) = Scene::with(zone, &dns, None).await else { return };
        let address = SocketAddr::new("::1".parse().unwrap(), scene.sink(0).address().port());
        if std::net::TcpListener::bind(address).is_err() {
            eprintln!("skipped: needs IPv6 on loopback");
            return;
        }
        let six = sink(address);
        scene.send(&["a@d.test"]).await;
        let wanted = if at == "::1" { &six } else { scene.sink(1) };
        assert!(
            wanted.wait_for(|tally| tally.deliveries == 1, PATIENCE).await,
            "{order}\n{}",
            scene.switch.log()
        );
        assert_eq!(six.tally().deliveries + scene.sink(1).tally().deliveries, 1, "{order}");
    }
}
