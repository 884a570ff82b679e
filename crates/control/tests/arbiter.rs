//! The register in a real etcd, of one member and of three: two askers, one winner; a member's death; a lost quorum.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::register::{Entry, Register, Version};
use control::arbiter::Arbiter;
use mail_model::{NodeId, QueueId};

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(3);
/// How often is asked until etcd is up.
const TRIES: u32 = 200;

/// One member of an etcd. Killed when dropped.
struct Member {
    child: Child,
    url: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// So many members, all started; `None`, with a word, where etcd is not installed.
fn etcd(dir: &Path, count: usize) -> Option<Vec<Member>> {
    if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: needs etcd (Debian package etcd-server)");
        return None;
    }
    // Held together, so that no port comes twice.
    let sockets: Vec<_> = (0..count * 2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let urls: Vec<String> =
        sockets.iter().map(|socket| format!("http://{}", socket.local_addr().unwrap())).collect();
    drop(sockets);
    let (clients, peers) = urls.split_at(count);
    let named = |(index, url): (usize, &String)| format!("m{index}={url}");
    let all: Vec<String> = peers.iter().enumerate().map(named).collect();
    let start = |(index, (url, peer)): (usize, (&String, &String))| {
        let child = Command::new("etcd")
            .args(["--name", &format!("m{index}"), "--data-dir"])
            .arg(dir.join(format!("m{index}")))
            .args(["--listen-client-urls", url, "--advertise-client-urls", url])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-token", "test"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Member { child: child.unwrap(), url: url.clone() }
    };
    Some(clients.iter().zip(peers).enumerate().map(start).collect())
}

fn asker(members: &[Member]) -> Arbiter {
    let urls: Vec<String> = members.iter().map(|member| member.url.clone()).collect();
    Arbiter::etcd("demo", &urls).unwrap()
}

async fn up(arbiter: &Arbiter, queue: &QueueId) -> Entry {
    let mut last = None;
    for _ in 0..TRIES {
        match arbiter.read(queue, WITHIN).await {
            Ok(entry) => return entry,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("etcd never answers: {last:?}")
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[tokio::test]
async fn of_two_who_swap_against_one_version_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let Some(members) = etcd(dir.path(), 1) else { return };
    let (one, two) = (asker(&members), asker(&members));
    let queue: QueueId = "a".parse().unwrap();
    assert_eq!(up(&one, &queue).await, Entry::default());
    let first = Register::first(&node("a"));
    let version = one.swap(&queue, Version(0), first.clone(), WITHIN).await.unwrap().unwrap();
    assert_eq!(two.swap(&queue, Version(0), first.clone(), WITHIN).await, Ok(None));
    let entry = two.read(&queue, WITHIN).await.unwrap();
    assert_eq!(entry, Entry { version, register: Some(first.clone()) });
    let both = first.joined(&node("a"), &node("b")).unwrap();
    let version = one.swap(&queue, version, both.clone(), WITHIN).await.unwrap().unwrap();
    let taken = both.taken(&node("b")).unwrap();
    let alone = both.alone(&node("a")).unwrap();
    let (left, right) =
        tokio::join!(one.swap(&queue, version, alone, WITHIN), two.swap(&queue, version, taken, WITHIN));
    assert_ne!(left.unwrap().is_some(), right.unwrap().is_some());
    // Another queue is another register.
    assert_eq!(one.read(&"b".parse().unwrap(), WITHIN).await.unwrap(), Entry::default());
}

#[tokio::test]
async fn one_member_of_three_may_die_and_with_two_gone_nothing_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut members) = etcd(dir.path(), 3) else { return };
    let arbiter = asker(&members);
    let queue: QueueId = "a".parse().unwrap();
    up(&arbiter, &queue).await;
    let register = Register::first(&node("a"));
    let version = arbiter.swap(&queue, Version(0), register.clone(), WITHIN).await.unwrap().unwrap();
    drop(members.remove(0));
    let entry = up(&arbiter, &queue).await;
    assert_eq!(entry, Entry { version, register: Some(register.clone()) });
    drop(members.remove(0));
    assert!(arbiter.read(&queue, WITHIN).await.is_err());
    assert!(arbiter.swap(&queue, version, register, WITHIN).await.is_err());
}
