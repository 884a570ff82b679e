//! How a destination is spoken to: how fast, by what name, from where, and over connections kept for how long.

use std::time::Duration;

use daemon_kit::clock::SystemClock;
use mail_model::{Clock, Domain};
use rig::Behaviour;
use routing::Routes;
use settings::OwnerSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::site::{PATIENCE, Site, took};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_a_destination_with_a_rate_leave_evenly() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    let routes = site.settings.routes.iter().cloned().map(|mut route| {
        route.target = route.target.with_rate(Some("4/s".parse().unwrap()));
        route
    });
    site.settings.routes = Routes::new(routes.collect());
    for n in 0..4 {
        site.accept("from@example.test", &[&format!("r{n}@example.test")]).await;
    }
    let begun = SystemClock.now();
    site.start();
    took(&sink, 4).await;
    let took = SystemClock.now().since(begun);
    // Three intervals lie between four messages.
    assert!(took >= Duration::from_millis(750), "{took:?}");
    site.until("delivered", |b| b.totals.delivered == 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_shows_its_own_name_and_comes_from_its_own_address_where_the_node_has_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut site = Site::new(&listener.local_addr().unwrap().to_string()).await;
    let own = |source: &str| OwnerSettings {
        queue: "a".parse().unwrap(),
        ehlo: Some(Domain::new("a.example.test").unwrap()),
        source: vec![source.parse().unwrap()],
    };
    site.accept("from@example.test", &["a@example.test"]).await;
    for (source, seen) in [("127.0.0.9", "127.0.0.9"), ("192.0.2.9", "127.0.0.1")] {
        site.settings.delivery.owners = vec![own(source)];
        site.start();
        let (mut stream, peer) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        assert_eq!(peer.ip().to_string(), seen);
        stream.write_all(b"220 hop\r\n").await.unwrap();
        let mut said = [0; 21];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut said)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&said).unwrap(), "EHLO a.example.test\r\n");
        drop(stream);
        site.delivery().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_as_long_and_as_often_as_is_set() {
    for (connections, messages, wanted) in [(0, 1_000, 3), (20, 1, 3), (20, 2, 2), (20, 1_000, 1)] {
        let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
        (site.settings.delivery.cache.connections, site.settings.delivery.cache.messages) =
            (connections, messages);
        site.start();
        for n in 1..=3 {
            site.accept("from@example.test", &["a@example.test"]).await;
            took(&sink, n).await;
            site.until("delivered", |b| b.totals.delivered == n).await;
        }
        assert_eq!(sink.tally().connections, wanted, "{connections} {messages}");
    }
}
