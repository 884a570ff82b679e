//! The program `switchctl` as operators and scripts meet it: what it prints, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::Timers;
use cluster::instance::State;
use control::{Fault, Server, heartbeatd};
use daemon_kit::SystemClock;
use expect_test::expect;
use mail_model::{
    BootId, Domain, DsnReturn, EnhancedStatus, Envelope, InstanceId, Mailbox, Notify, OriginalRecipient,
    Recipient, Reply, ReversePath, Role, WallTime,
};
use queue_format::record::{
    Content, MessageKey, MessageRecord, OutcomeGroup, OutcomeRecord, Verdict, encode_envelope,
};
use queue_store::{Queue, QueueOptions};
use serde_json::Value;
use tempfile::TempDir;

#[path = "cli/dkim.rs"]
mod dkim;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/fscheck.rs"]
mod fscheck;
#[path = "cli/manual.rs"]
mod manual;
#[path = "cli/operate.rs"]
mod operate;
#[path = "cli/postfix.rs"]
mod postfix;
#[path = "cli/screens.rs"]
mod screens;
#[path = "cli/sendmail.rs"]
mod sendmail;
#[path = "cli/transfer.rs"]
mod transfer;
#[path = "cli/user.rs"]
mod user;

const RECEIVED: WallTime = WallTime(1_700_000_000_000);
const BODY: &[u8] = b"Subject: a\r\n\r\na line that stands in no header\r\n";

/// A node's files.
struct Site {
    dir: TempDir,
}

/// How a run of the program ended.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `command` with `input` on its standard input.
    fn fed(command: &mut Command, input: &str) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who refuses its arguments reads nothing.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        Self::of(child.wait_with_output().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Site {
    fn new() -> Self {
        Self::with(
            "
cluster:
  id: demo
  nodes:
    - { id: a, heartbeat: [127.0.0.1:7101] }
    - { id: b, heartbeat: [127.0.0.1:7102] }
  key_file: keys/cluster.key
node: { id: a, state_dir: state }
queue: { dir: spool }
listeners: [ { address: 127.0.0.1:2525 } ]
routes:
  - { match: '*', next_hop: 10.0.0.1 }
  - { match: example.test, next_hop: 'mx.example.test:2525' }
",
        )
    }

    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("m.yaml"), text).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_switchctl"))
            .arg("--config")
            .arg(self.path("m.yaml"))
            .args(arguments)
            .output()
            .unwrap();
        Run::of(output)
    }
}

/// Writes the queue of node a: one message delivered, one whose attempt has no end, one of two recipients that waits.
async fn own(spool: &Path) -> Queue {
    std::fs::create_dir_all(spool).unwrap();
    let queue = Queue::open(QueueOptions {
        dir: spool.join("a"),
        cluster: "demo".into(),
        queue: "a".parse().unwrap(),
        owner: "a".parse().unwrap(),
        instance: InstanceId(1),
        boot: BootId(1),
        role: Role::Primary,
        order: None,
        timers: Timers::default(),
        segment_size: 1 << 20,
        free_space_reserve: 0,
        clock: Arc::new(SystemClock),
        proof: None,
    })
    .unwrap();
    let mut state = queue.state();
    let active = state.wait_for(|state| *state == State::Active);
    tokio::time::timeout(Duration::from_secs(20), active).await.unwrap().unwrap();
    drop(state);
    queue
}

/// Fills it; the keys of a delivered message, of one in doubt and of one that waits.
async fn fill(spool: &Path) -> [MessageKey; 3] {
    let queue = own(spool).await;
    let delivered = accept(&queue, &["one"]).await;
    let open = accept(&queue, &["two"]).await;
    let waiting = accept(&queue, &["three", "four"]).await;
    let number = queue.begin_attempt(delivered, vec![0], "10.0.0.1:25".into(), RECEIVED).await.unwrap();
    let outcome = OutcomeRecord {
        message: delivered,
        attempt: Some((delivered.epoch, number)),
        at: RECEIVED,
        groups: vec![OutcomeGroup { verdict: Verdict::Delivered, reply: None, recipients: vec![0] }],
    };
    queue.settle(outcome).await.unwrap();
    let outcome = OutcomeRecord {
        message: waiting,
        attempt: None,
        at: RECEIVED,
        groups: vec![OutcomeGroup {
            verdict: Verdict::Deferred { due: RECEIVED },
            reply: Some(Reply::local(450, EnhancedStatus::new(4, 2, 0), "not now")),
            recipients: vec![1],
        }],
    };
    queue.settle(outcome).await.unwrap();
    queue.begin_attempt(open, vec![0], "10.0.0.1:25".into(), RECEIVED).await.unwrap();
    queue.drain();
    queue.release().await;
    [delivered, open, waiting]
}

async fn accept(queue: &Queue, recipients: &[&str]) -> MessageKey {
    let domain = Domain::new("example.test").unwrap();
    let mailbox = |local: &str| Mailbox::new(local, domain.clone()).unwrap();
    let mut envelope = Envelope::from_sender(ReversePath::Mailbox(mailbox("sender")));
    envelope.recipients.extend(recipients.iter().map(|local| Recipient::plain(mailbox(local))));
    for recipient in envelope.recipients.iter_mut().filter(|to| to.address.local_part() == "wishing") {
        recipient.notify = Some(Notify { success: true, failure: false, delay: true });
        recipient.original =
            Some(OriginalRecipient { address_type: "rfc822".into(), address: "alias@example.test".into() });
        (envelope.ret, envelope.envid) = (Some(DsnReturn::Headers), Some("QQ=1".into()));
        envelope.require_tls = true;
    }
    let key = queue.next_key();
    let record = MessageRecord {
        key,
        received: RECEIVED,
        size: BODY.len() as u64,
        origin: "client 127.0.0.1".into(),
        envelope: encode_envelope(&envelope),
        content: Content::Inline,
        settles: None,
        handover: None,
    };
    queue.accept(record, Bytes::from_static(BODY)).await.unwrap();
    key
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Changes one bit in the only segment, in the middle of the text of the first message.
fn flip_a_bit(spool: &Path) {
    let (path, mut bytes) =
        files(&spool.join("a/segments")).into_iter().find(|(_, bytes)| bytes.len() > 1_000).unwrap();
    let at = bytes.windows(BODY.len()).position(|window| window == BODY).unwrap();
    *bytes.get_mut(at + 20).unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once_and_ends_with_2() {
    let site = Site::with("cluster: { id: demo }\nnode: { id: A }\nlistner: []\nretry: { first: 5 }\n");
    let run = site.run(&["config", "check"]);
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    for wanted in [
        "m.yaml:2:13: node.id: ",
        "m.yaml:3:1: listner: unknown key 'listner'; did you mean 'listeners'?",
        "m.yaml:4:17: retry.first: '5' has no unit",
        "routes: no route",
    ] {
        assert!(run.err.contains(wanted), "{wanted}: {}", run.err);
    }
    assert_eq!(site.run(&["queue", "list"]).code, 2);
}

#[test]
fn a_key_is_explained_and_two_configurations_are_compared() {
    let site = Site::new();
    let run = site.run(&["config", "explain", "routes[0].next_hop"]);
    assert_eq!(run.code, 0, "{}", run.err);
    for wanted in ["scope:   cluster", "after a reload", "10.0.0.1 at ", "m.yaml:12:"] {
        assert!(run.out.contains(wanted), "{wanted}: {}", run.out);
    }
    assert_eq!(site.run(&["config", "explain", "routes.nowhere"]).code, 7);
    let all = site.run(&["config", "explain", "-o", "json"]).json();
    assert_eq!(all["schema"], "mailswitch.config.keys/1");
    let text = std::fs::read_to_string(site.path("m.yaml")).unwrap();
    std::fs::write(site.path("other.yaml"), format!("{text}retry: {{ max: 2h }}\n")).unwrap();
    let other = site.path("other.yaml");
    let diff = site.run(&["config", "diff", other.to_str().unwrap(), "-o", "tsv"]);
    assert!(diff.out.contains("retry.max\t1h\t2h\n"), "{}", diff.out);
    let schema = site.run(&["config", "schema"]).json();
    assert!(schema["properties"]["listeners"]["items"]["properties"]["address"].is_object());
}

#[test]
fn a_configuration_that_is_not_there_is_told_with_a_remedy() {
    let site = Site::new();
    std::fs::remove_file(site.path("m.yaml")).unwrap();
    let run = site.run(&["status"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("--config FILE"), "{}", run.err);
}

#[test]
fn the_configuration_is_shown_with_its_defaults() {
    let site = Site::new();
    let run = site.run(&["config", "check"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("right (node a of cluster demo, 2 nodes)"), "{}", run.out);
    let shown = site.run(&["config", "show", "-o", "tsv"]).out;
    for line in ["cluster.takeover.window\t2s", "limits.hops\t100", "cluster.takeover.order\ta, b"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_then_kept() {
    let site = Site::new();
    let key = site.path("keys/cluster.key");
    assert_eq!(site.run(&["cluster", "keygen"]).code, 0);
    let made = std::fs::read_to_string(&key).unwrap();
    assert!(cluster::heartbeat::parse_key(&made).is_ok());
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(site.path("keys")).unwrap().count(), 1);
    let again = site.run(&["cluster", "keygen"]);
    assert_eq!(again.code, 0);
    assert!(again.out.contains("kept"), "{}", again.out);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), made);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(site.run(&["cluster", "keygen"]).out.contains("chmod 600"));
}

#[test]
fn a_file_that_is_no_key_is_neither_used_nor_replaced() {
    let site = Site::new();
    std::fs::create_dir(site.path("keys")).unwrap();
    std::fs::write(site.path("keys/cluster.key"), "").unwrap();
    let run = site.run(&["cluster", "keygen"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("no key"), "{}", run.err);
    assert_eq!(std::fs::read(site.path("keys/cluster.key")).unwrap(), b"");
}

#[test]
fn the_members_and_their_takers_are_listed() {
    let site = Site::new();
    expect![[r"
        NODE  HEARTBEAT       CONTROL  TAKEN_BY  THIS
        a     127.0.0.1:7101  -        b         true
        b     127.0.0.1:7102  -        a         false
    "]]
    .assert_eq(&site.run(&["cluster", "members"]).out);
    let only = site.run(&["cluster", "members", "--node", "b", "-o", "json"]).json();
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    let unknown = site.run(&["cluster", "members", "--node", "x"]);
    assert_eq!(unknown.code, 7);
    assert!(unknown.err.contains("the nodes are a, b"), "{}", unknown.err);
}

#[test]
fn a_route_is_explained() {
    let site = Site::new();
    let run = site.run(&["route", "test", "user@Example.test"]);
    assert_eq!(run.code, 0);
    expect![[r"
        relay: only clients of relay.trusted_networks may send to user@example.test
        route 2: 'example.test' is the most specific that matches
        user@example.test goes to mx.example.test:2525, tls: may
    "]]
    .assert_eq(&run.out);
    assert_eq!(site.run(&["route", "test", "a b"]).code, 2);
}

#[test]
fn a_postmaster_that_has_nowhere_to_go_is_told() {
    let site = |more: &str| {
        let text = "cluster: { id: demo }\nnode: { id: a, hostname: mx.example.test }\nlisteners: [ { address: 127.0.0.1:2525 } ]\n";
        Site::with(&format!("{text}{more}\n"))
    };
    let mx = "routes: [ { match: '*', next_hop: mx } ]\n";
    let checked = |more: &str| {
        let run = site(more).run(&["config", "check"]);
        assert_eq!(run.code, 0, "{}", run.err);
        run.out
    };
    let told = checked(mx);
    assert!(
        told.contains("postmaster@mx.example.test, comes back if DNS says") && told.contains("bounces:"),
        "{told}"
    );
    let told = checked("routes: [ { match: a.test, next_hop: h } ]");
    assert!(told.contains("postmaster@mx.example.test, matches no route"), "{told}");
    assert!(!checked(&format!("relay: {{ domains: [ a.test ] }}\n{mx}")).contains("note:"));
    assert!(!checked(&format!("bounces: {{ postmaster: ann@b.test }}\n{mx}")).contains("note:"));
    let run = site(&format!("relay: {{ domains: [ a.test ] }}\n{mx}")).run(&["route", "test", "postmaster"]);
    expect![[r"
        relay: everybody may send to postmaster, as every server must take its mail (RFC 5321 4.5.1)
        bounces.postmaster: postmaster without a domain stands for postmaster@a.test
        route 1: '*' is the most specific that matches
        postmaster@a.test goes to mx, tls: may
    "]]
    .assert_eq(&run.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_listed_shown_and_read_without_touching_it() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let before = files(&site.path("spool"));
    let list = site.run(&["queue", "list", "--node", "a"]);
    assert_eq!(list.code, 0, "{}", list.err);
    expect![[r"
        ID     RECEIVED              SIZE  SENDER                 RECIPIENTS                             STATE   ATTEMPTS  DUE                   LAST_REPLY
        a-1-2  2023-11-14T22:13:20Z  47    <sender@example.test>  two@example.test                       queued  0         2023-11-14T22:13:20Z  -
        a-1-3  2023-11-14T22:13:20Z  47    <sender@example.test>  three@example.test, four@example.test  queued  0         2023-11-14T22:13:20Z  450 4.2.0 not now
    "]].assert_eq(&list.out);
    expect![[r"
        a-1-3  from <sender@example.test>  47 bytes
        RECIPIENT           STATE   ATTEMPTS  DUE                   LAST_REPLY
        three@example.test  queued  0         2023-11-14T22:13:20Z  -
        four@example.test   queued  0         2023-11-14T22:13:20Z  450 4.2.0 not now
    "]]
    .assert_eq(&site.run(&["queue", "show", "a-1-3"]).out);
    let shown = site.run(&["queue", "show", "a-1-3", "-o", "json"]).json();
    assert_eq!(shown["message"]["sender"], "<sender@example.test>");
    let cat = site.run(&["queue", "cat", "a-1-3"]);
    assert_eq!((cat.code, cat.out.as_bytes()), (0, BODY));
    let summary = site.run(&["queue", "summary", "--node", "a", "-o", "json"]).json();
    let row = &summary["items"][0];
    assert_eq!((&row["messages"], &row["recipients"]), (&Value::from(2), &Value::from(3)));
    let ages = site.run(&["queue", "summary", "--node", "a", "--by", "destination", "to:two@example.test"]);
    assert_eq!(ages.code, 0, "{}", ages.err);
    expect![[r"
        DESTINATION   RECIPIENTS  5M  10M  20M  40M  80M  160M  320M  640M  1280M  OLDER
        example.test  1           0   0    0    0    0    0     0     0     0      1
    "]]
    .assert_eq(&ages.out);
    let postqueue =
        site.run(&["queue", "search", "--node", "a", "to:four@example.test", "-o", "postqueue-json"]);
    assert_eq!(postqueue.code, 0, "{}", postqueue.err);
    expect![[r#"
        {"arrival_time":1700000000,"forced_expire":false,"message_size":47,"queue_id":"a-1-3","queue_name":"active","recipients":[{"address":"three@example.test"},{"address":"four@example.test","delay_reason":"450 4.2.0 not now"}],"sender":"sender@example.test"}
    "#]].assert_eq(&postqueue.out);
    assert_eq!(site.run(&["queue", "owner", "-o", "postqueue-json"]).code, 2);
    let owner = site.run(&["queue", "owner", "--node", "a", "-o", "json"]).json();
    assert_eq!(
        (&owner["items"][0]["owner"], &owner["items"][0]["epoch"]),
        (&Value::from("a"), &Value::from(1))
    );
    let fsck = site.run(&["queue", "fsck", site.path("spool/a").to_str().unwrap()]);
    assert_eq!(fsck.code, 0, "{}{}", fsck.out, fsck.err);
    assert_eq!(files(&site.path("spool")), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_queue_ends_with_7() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let gone = site.run(&["queue", "show", "a-1-1"]);
    assert_eq!(gone.code, 7);
    assert!(gone.err.contains("a-1-1 is not in the queue"), "{}", gone.err);
    assert_eq!(site.run(&["queue", "cat", "x-1-1"]).code, 7);
    assert_eq!(site.run(&["queue", "cat", "nonsense"]).code, 2);
    assert_eq!(site.run(&["queue", "fsck", site.path("spool").to_str().unwrap()]).code, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_lacks_a_queue_says_so_and_ends_with_3() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let list = site.run(&["queue", "list", "-o", "json"]);
    assert_eq!(list.code, 3);
    let answer = list.json();
    assert_eq!((&answer["complete"], &answer["missing"]), (&Value::from(false), &Value::from(vec!["b"])));
    assert_eq!(answer["schema"], "mailswitch.queue.list/1");
    assert!(list.err.contains("'b' is missing"), "{}", list.err);
    assert_eq!(site.run(&["ledger", "verify"]).code, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_balances_and_names_what_is_in_doubt() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let verify = site.run(&["ledger", "verify", "--node", "a"]);
    assert_eq!(verify.code, 0, "{}{}", verify.out, verify.err);
    expect![[r"
        QUEUE  MESSAGES  ACCEPTED  GENERATED  DELIVERED  BOUNCED  EXPIRED  DELETED  QUEUED  IN_DOUBT  BALANCES
        a      3         4         0          1          0        0        0        3       0         true
        all    3         4         0          1          0        0        0        3       0         true

        in doubt: each may have been delivered once more than is counted; 'open': under way, or in doubt if its owner died
        MESSAGE  RECIPIENTS        NEXT_HOP     STARTED               EPOCH  ATTEMPT  STATE
        a-1-2    two@example.test  10.0.0.1:25  2023-11-14T22:13:20Z  1      2        open
        the books balance
    "]].assert_eq(&verify.out);
    let answer = site.run(&["ledger", "verify", "--node", "a", "-o", "json"]).json();
    assert_eq!(answer["in_doubt"][0]["recipients"], Value::from(vec!["two@example.test"]));
    // The only segment began with the queue, so all of it was done since then, and nothing was there.
    let answer = site.run(&["ledger", "verify", "--node", "a", "--since", "1h", "-o", "json"]).json();
    let row = &answer["items"][0];
    assert_eq!((&row["accepted"], &row["queued"], &row["queued_then"]), (&4.into(), &3.into(), &0.into()));
    assert!(row["since"].as_str().unwrap().ends_with('Z') && row["balances"] == true, "{answer}");
    let wrong = site.run(&["ledger", "verify", "--since", "yesterday"]);
    assert!(wrong.code == 2 && wrong.err.contains("2026-03-01T12:00:00Z"), "{}", wrong.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flipped_bit_is_found_by_fsck_with_its_place_and_nothing_is_touched() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    flip_a_bit(&site.path("spool"));
    let before = files(&site.path("spool"));
    let fsck = site.run(&["queue", "fsck", "--node", "a"]);
    assert_eq!(fsck.code, 1, "{}{}", fsck.out, fsck.err);
    assert!(fsck.out.contains("fault: queue a: segment 1-0 offset "), "{}", fsck.out);
    assert_eq!(files(&site.path("spool")), before);
    assert_eq!(site.run(&["queue", "fsck", site.path("spool/a").to_str().unwrap()]).code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_another_cluster_is_refused_with_a_remedy() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let text = std::fs::read_to_string(site.path("m.yaml")).unwrap().replace("id: demo", "id: other");
    std::fs::write(site.path("m.yaml"), text).unwrap();
    let run = site.run(&["ledger", "verify", "--node", "a"]);
    assert_eq!(run.code, 3);
    assert!(run.out.contains("set queue.dir and cluster.id to the right ones"), "{}", run.out);
}

#[test]
fn programs_that_do_not_run_are_named_with_a_remedy() {
    let site = Site::new();
    let run = site.run(&["ha", "status"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("heartbeatd is not running on this node"), "{}", run.err);
    let trace = site.run(&["trace", "in", "192.0.2.1"]);
    assert!(trace.code == 1 && trace.err.contains("is not running on this node"), "{}", trace.err);
    let status = site.run(&["status"]);
    assert_eq!(status.code, 3);
    assert!(status.out.contains("the switch of queue a is not running"), "{}", status.out);
    let check = site.run(&["status", "--check"]);
    assert_eq!(check.code, 2);
    assert!(check.out.starts_with("MAILSWITCH CRITICAL - "), "{}", check.out);
    let elsewhere = site.run(&["ha", "status", "--node", "b"]);
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.err.contains("run this command there"), "{}", elsewhere.err);
    assert_eq!(site.run(&["ha", "takeover", "x"]).code, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_to_heartbeatd_and_its_word_becomes_the_exit_code() {
    let site = Site::new();
    std::fs::create_dir(site.path("state")).unwrap();
    let server = Server::bind(&control::paths::heartbeatd(&site.path("state"))).unwrap();
    let serving = tokio::spawn(server.serve(|request| async move {
        match request {
            heartbeatd::Request::Takeover { queue, .. } if queue.as_str() == "a" => {
                Err(Fault::refused_unsafe("this node owns queue a already; nothing to take"))
            }
            heartbeatd::Request::Pause { for_ms, reason } => {
                Ok(heartbeatd::Answer::Done { message: format!("paused for {for_ms} ms: {reason}") })
            }
            heartbeatd::Request::Why { node } => Ok(heartbeatd::Answer::Records(vec![serde_json::json!({
                "at": "2026-01-02T03:04:05Z", "at_ms": 1_767_323_045_000_u64, "node": "a", "queue": node,
                "decision": "take", "rule": "stale_window", "state": "TAKING", "text": "taken",
                "evidence": { "reads": 9 },
            })])),
            heartbeatd::Request::Status
            | heartbeatd::Request::Takeover { .. }
            | heartbeatd::Request::Handback { .. }
            | heartbeatd::Request::Resume
            | heartbeatd::Request::Drill(_)
            | heartbeatd::Request::StartPrimary
            | heartbeatd::Request::DrillEnd
            | heartbeatd::Request::Log { .. }
            | heartbeatd::Request::AlertTest
            | heartbeatd::Request::History { .. } => Ok(heartbeatd::Answer::Done { message: "begun".into() }),
        }
    }));
    let refused = site.run(&["ha", "takeover", "a"]);
    assert_eq!(refused.code, 4);
    assert!(refused.err.contains("owns queue a already"), "{}", refused.err);
    let paused = site.run(&["ha", "pause", "--for", "10m", "--reason", "work"]);
    assert_eq!((paused.code, paused.out.as_str()), (0, "paused for 600000 ms: work\n"));
    let why = site.run(&["ha", "why", "b"]);
    assert_eq!(why.code, 0);
    expect![[r"
        2026-01-02T03:04:05Z on a queue b: take (stale_window) -> TAKING
            taken
            reads=9
    "]]
    .assert_eq(&why.out);
    let why = site.run(&["ha", "why", "b", "-o", "json"]).json();
    assert_eq!(why["items"][0]["evidence"]["reads"], 9);
    assert_eq!(site.run(&["ha", "pause", "--for", "10", "--reason", "x"]).code, 2);
    assert_eq!(site.run(&["ha", "handback", "b"]).code, 0);
    assert_eq!(site.run(&["ha", "history"]).code, 1);
    serving.abort();
}

#[test]
fn the_version_needs_no_configuration() {
    let site = Site::with("nonsense");
    let run = site.run(&["version"]);
    assert_eq!((run.code, run.out), (0, format!("switchctl {}\n", env!("CARGO_PKG_VERSION"))));
}
