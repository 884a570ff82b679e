//! Verbs on messages: what is shown, asked, refused and sent.

use std::sync::{Arc, Mutex};

use control::switch::{Answer, Operated, Request, Verb};
use control::{Fault, Server, network};
use expect_test::expect;
use serde_json::Value;

use super::{Site, fill};

pub(super) type Orders = Arc<Mutex<Vec<(Verb, Vec<String>, String)>>>;

/// A switch of queue a, which says that it moved one recipient of each message; what it was told.
pub(super) fn serve(site: &Site) -> Orders {
    std::fs::create_dir(site.path("state")).unwrap();
    let server = Server::bind(&control::paths::switch(&site.path("state"), &"a".parse().unwrap())).unwrap();
    let orders = Orders::default();
    let told = Arc::clone(&orders);
    tokio::spawn(server.serve(move |request: Request| {
        let answer = if let Request::Operate { verb, messages, reason, .. } = request {
            let count = messages.len() as u64;
            let ids = messages.iter().map(ToString::to_string).collect();
            told.lock().unwrap().push((verb, ids, reason));
            Ok(Answer::Operated(Operated { messages: count, recipients: count, absent: 0 }))
        } else {
            Err(Fault::failed("not asked for"))
        };
        async move { answer }
    }));
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed_that_was_not_confirmed() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let orders = serve(&site);
    let run = site.run(&["queue", "hold", "a-1-3"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("add --yes"), "{}", run.err);
    let plan = expect![[r"
        ID     RECEIVED              SENDER                 RECIPIENTS                             STATE   TO_MOVE
        a-1-3  2023-11-14T22:13:20Z  <sender@example.test>  three@example.test, four@example.test  queued  2
        hold: 1 messages, 2 recipients to move
    "]];
    plan.assert_eq(&run.out);
    let run = site.run(&["queue", "hold", "a-1-3", "--dry-run"]);
    assert_eq!(run.code, 0, "{}", run.err);
    plan.assert_eq(&run.out);
    for wrong in [
        &["queue", "hold"][..],
        &["queue", "hold", "a-1-3", "--all", "--yes"],
        &["queue", "hold", "to:example.test", "--yes"],
        &["queue", "hold", "subject:x", "--yes"],
        &["queue", "delete", "a-1-3", "--yes"],
        &["queue", "delete", "a-1-3", "--yes", "--reason", " "],
    ] {
        assert_eq!(site.run(wrong).code, 2, "{wrong:?}");
    }
    assert!(orders.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_told_which_messages_who_ordered_it_and_why() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let orders = serve(&site);
    let run = site.run(&["queue", "delete", "a-1-3", "a-1-2", "a-1-3", "--yes", "--reason", "a loop"]);
    assert_eq!(run.code, 0, "{}", run.err);
    expect![[r"
        QUEUE  MESSAGES  RECIPIENTS  UNCHANGED  ABSENT
        a      2         2           0          0
    "]]
    .assert_eq(&run.out);
    let (verb, ids, reason) = orders.lock().unwrap().pop().unwrap();
    assert_eq!((verb, ids), (Verb::Delete, vec!["a-1-2".to_owned(), "a-1-3".to_owned()]));
    assert!(reason.contains('@') && reason.ends_with(": a loop"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_choose_and_a_queue_that_cannot_be_reached_is_named() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let orders = serve(&site);
    let chosen = |filters: &[&str]| {
        let run = site.run(&[&["queue", "retry", "--yes", "--node", "a"], filters].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        orders.lock().unwrap().drain(..).flat_map(|(_, ids, _)| ids).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&["to:four@example.test"]), ["a-1-3"]);
    assert_eq!(chosen(&["from:@EXAMPLE.test", "age:>1h", "state:queued", "size:<1MiB"]).len(), 2);
    assert_eq!(chosen(&["reply~NOT NOW", "node:a"]), ["a-1-3"]);
    for none in ["to:@test", "from:<>", "state:held", "age:>9999d", "size:>1MiB", "reply~other", "node:b"] {
        let none = &[none];
        assert!(chosen(none).is_empty(), "{none:?}");
    }
    let run = site.run(&["queue", "retry", "--all", "--yes", "-o", "json"]);
    assert_eq!(run.code, 3, "{}", run.err);
    let answer = run.json();
    assert_eq!(
        (&answer["missing"][0], &answer["items"][0]["messages"]),
        (&Value::from("b"), &Value::from(2))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_not_there_ends_with_7_and_the_others_are_done() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let orders = serve(&site);
    let run = site.run(&["queue", "retry", "a-1-1", "a-1-2", "x-1-1", "--yes"]);
    assert_eq!(run.code, 7, "{}", run.err);
    assert!(run.err.contains("a-1-1 is not in the queue") && run.err.contains("x-1-1"), "{}", run.err);
    assert_eq!(orders.lock().unwrap().pop().unwrap().1, ["a-1-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_goes_to_the_node_that_owns_the_queue_or_its_owner_is_named() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let silent = site.run(&["queue", "hold", "a-1-2", "--yes"]);
    assert_eq!(silent.code, 1);
    assert!(silent.out.contains("the switch of queue a is not running"), "{}", silent.out);
    let text =
        std::fs::read_to_string(site.path("m.yaml")).unwrap().replace("node: { id: a", "node: { id: b");
    std::fs::write(site.path("m.yaml"), text).unwrap();
    let run = site.run(&["queue", "hold", "a-1-2", "--yes"]);
    assert_eq!(run.code, 1);
    let unknown = "node a has no control address; write cluster.nodes[].control, or run this command there";
    assert!(run.out.contains(unknown), "{}", run.out);
    let orders = serve(&site);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = std::fs::read_to_string(site.path("m.yaml")).unwrap();
    let text = text.replace("[127.0.0.1:7101]", &format!("[127.0.0.1:7101], control: '{address}'"));
    std::fs::write(site.path("m.yaml"), text).unwrap();
    assert_eq!(site.run(&["cluster", "keygen"]).code, 0);
    let key = network::read_key(&site.path("keys/cluster.key")).unwrap();
    let nodes = ["a".parse().unwrap(), "b".parse().unwrap()];
    let members = network::Members::new(&key, "demo", &nodes[0], &nodes).unwrap();
    network::serve(address, members, &site.path("state")).await.unwrap();
    let run = site.run(&["queue", "hold", "a-1-2", "--yes"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert_eq!(orders.lock().unwrap().pop().unwrap().1, ["a-1-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_applied_by_every_switch_of_a_node_and_what_refuses_it_is_named() {
    let site = Site::new();
    let run = site.run(&["config", "apply"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("no switch runs on node a"), "{}", run.err);
    std::fs::create_dir(site.path("state")).unwrap();
    let serve = |queue: &str, answer: Result<&'static str, &'static str>| {
        let path = control::paths::switch(&site.path("state"), &queue.parse().unwrap());
        let answer =
            answer.map_err(Fault::failed).map(|message| Answer::Done { message: message.to_owned() });
        tokio::spawn(Server::bind(&path).unwrap().serve(move |request: Request| {
            let answer =
                if request == Request::Reload { answer.clone() } else { Err(Fault::failed("not asked")) };
            async move { answer }
        }))
    };
    serve("a", Ok("configuration 12 is in use"));
    let run = site.run(&["config", "apply", "-o", "tsv"]);
    assert_eq!((run.code, run.out.as_str()), (0, "node\tqueue\tanswer\na\ta\tconfiguration 12 is in use\n"));
    serve("b", Err("limits.hopps: there is no such key"));
    let run = site.run(&["config", "apply"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(run.out.contains("switch of queue b") && run.out.contains("limits.hopps"), "{}", run.out);
    std::fs::write(site.path("m.yaml"), "nothing: right\n").unwrap();
    assert_eq!(site.run(&["config", "apply"]).code, 2);
}
