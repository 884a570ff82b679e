//! Nodes ask each other's programs: real TCP, real TLS, real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cluster::heartbeat::ClusterKey;
use control::heartbeatd::{Answer, Request};
use control::network::{self, Members, Node, NodeError};
use control::{CallError, Client, Code, Program, Server, ask_node, paths};
use mail_model::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(10);

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn members(key: u8, cluster: &str, me: &str) -> Members {
    let nodes = [node("a"), node("b")];
    Members::new(&ClusterKey::new([key; 32]), cluster, &node(me), &nodes).unwrap()
}

/// A port that is free now.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Node b: a heartbeatd that answers, and its control address.
async fn node_b(state_dir: &Path) -> Node {
    let server = Server::bind(&paths::heartbeatd(state_dir)).unwrap();
    let answer = |request: Request| async move { Ok(Answer::Done { message: format!("{request:?}") }) };
    tokio::spawn(server.serve(answer));
    let address = free();
    network::serve(address, members(7, "demo", "b"), state_dir).await.unwrap();
    Node { id: node("b"), address }
}

#[tokio::test]
async fn a_member_asks_a_program_of_another_node() {
    let dir = tempfile::tempdir().unwrap();
    let b = node_b(dir.path()).await;
    let a = members(7, "demo", "a");
    let mut client = Client::connect_to(&b, &a, &Program::Heartbeatd).await.unwrap();
    for _ in 0..2 {
        let answer = client.call(Request::Resume, WITHIN).await.unwrap();
        assert_eq!(answer, Answer::Done { message: "Resume".to_owned() });
    }
}

#[tokio::test]
async fn a_program_that_does_not_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let b = node_b(dir.path()).await;
    let (a, switch) = (members(7, "demo", "a"), Program::Switch("b".parse().unwrap()));
    let asked = ask_node(&b, &a, &switch, control::switch::Request::Status, WITHIN).await;
    let Err(CallError::Fault(fault)) = asked else { panic!("{asked:?}") };
    assert_eq!(fault.code, Code::NotRunning);
    assert_eq!(fault.message, "the switch of queue b is not running on node b; start it");
}

#[tokio::test]
async fn another_key_another_cluster_and_another_node_are_strangers() {
    let dir = tempfile::tempdir().unwrap();
    let b = node_b(dir.path()).await;
    let at_a = Node { id: node("a"), ..b.clone() };
    for (what, node, members) in [
        ("another key", &b, members(8, "demo", "a")),
        ("another cluster", &b, members(7, "prod", "a")),
        ("node b where a is expected", &at_a, members(7, "demo", "a")),
    ] {
        let asked = ask_node(node, &members, &Program::Heartbeatd, Request::Resume, WITHIN).await;
        assert!(matches!(asked, Err(CallError::Node(NodeError::Strange { .. }))), "{what}: {asked:?}");
    }
}

#[tokio::test]
async fn a_stranger_in_clear_gets_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let b = node_b(dir.path()).await;
    let mut stream = TcpStream::connect(b.address).await.unwrap();
    let lines = b"{\"version\":1,\"program\":\"heartbeatd\"}\n{\"version\":1,\"request\":\"resume\"}\n";
    stream.write_all(lines).await.unwrap();
    let mut said = Vec::new();
    // An alert of TLS at most, and then the end.
    let ended = tokio::time::timeout(WITHIN, stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "the connection stays open");
    assert!(!String::from_utf8_lossy(&said).contains("answer"), "{said:?}");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_named_with_its_address() {
    let gone = Node { id: node("b"), address: free() };
    let a = members(7, "demo", "a");
    let asked = ask_node(&gone, &a, &Program::Heartbeatd, Request::Resume, WITHIN).await;
    let error = asked.unwrap_err().to_string();
    assert!(error.contains(&format!("node b is not reached at {}", gone.address)), "{error}");
}
