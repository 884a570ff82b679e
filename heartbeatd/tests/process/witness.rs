//! A third heartbeatd as the witness: it keeps registers, and nothing else.

use std::net::TcpListener;
use std::time::Duration;

use cluster::heartbeat::ClusterKey;
use cluster::register::{Entry, Register, Version};
use control::arbiter::Arbiter;
use control::heartbeatd::PeerStatus;
use control::network::{Members, Node};

use crate::common::Site;
use crate::node;

const WITHIN: Duration = Duration::from_secs(5);

fn site_with_witness() -> Site {
    let mut site = Site::of(&["a", "b", "w"], "1s");
    site.witness = Some(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for name in ["a", "b", "w"] {
        site.configure(name);
    }
    site
}

/// As node a asks it, with this key.
fn asker(site: &Site, key: u8) -> Arbiter {
    let nodes = ["a", "b", "w"].map(node);
    let members = Members::new(&ClusterKey::new([key; 32]), "test", &node("a"), &nodes).unwrap();
    Arbiter::witness(Node { id: node("w"), address: site.witness.unwrap() }, members)
}

#[tokio::test]
async fn a_witness_that_is_killed_gives_no_answer_and_after_its_restart_the_same_one() {
    let site = site_with_witness();
    let mut w = site.start("w");
    w.until("answers", |_| true).await;
    let (arbiter, queue) = (asker(&site, 7), "a".parse().unwrap());
    assert_eq!(arbiter.read(&queue, WITHIN).await.unwrap(), Entry::default());
    let register = Register::first(&node("a"));
    let wanted = Entry { version: Version(1), register: Some(register.clone()) };
    let swapped = arbiter.swap(&queue, Version(0), register.clone(), WITHIN).await.unwrap();
    assert_eq!(swapped, Some(Version(1)));
    assert_eq!(arbiter.swap(&queue, Version(0), register, WITHIN).await.unwrap(), None);
    // On a connection that is open, and with a key of another cluster.
    assert_eq!(arbiter.read(&queue, WITHIN).await.unwrap(), wanted);
    assert!(asker(&site, 8).read(&queue, WITHIN).await.is_err());
    w.child.kill().unwrap();
    w.child.wait().unwrap();
    assert!(arbiter.read(&queue, WITHIN).await.is_err());
    let w = site.start("w");
    w.until("answers", |_| true).await;
    assert_eq!(arbiter.read(&queue, WITHIN).await.unwrap(), wanted);
}

#[tokio::test]
async fn a_witness_has_no_queue_and_the_others_watch_none_of_it() {
    let site = site_with_witness();
    let (w, a) = (site.start("w"), site.start("a"));
    let status = w.until("hears a", |s| s.peers.iter().any(|peer| !peer.version.is_empty())).await;
    assert_eq!(status.queues.len(), 0);
    let status = a.until("hears w", |s| s.peers.iter().any(|peer| !peer.version.is_empty())).await;
    let queues: Vec<_> = status.queues.iter().map(|queue| queue.queue.to_string()).collect();
    assert_eq!(queues, ["a", "b"]);
    // It takes nothing over, so with nobody else there is no protection.
    let status = a.until("hears w on every path", |s| s.peers.iter().any(PeerStatus::is_heard)).await;
    let heard = status.peers.iter().find(|peer| peer.is_heard()).unwrap();
    assert!(heard.witness && !heard.may_take(), "{heard:?}");
    assert_eq!(status.protection, "none: no other node is heard that could take over");
    assert!(w.status().await.unwrap().unfit.iter().any(|why| why.contains("witness")));
    assert!(!site.path("spool/w").exists());
}
