//! Servers and clients over real sockets.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use super::*;
use crate::client::{CallError, Client, ask};
use crate::heartbeatd::{Answer, Request};
use crate::paths;

const SOON: Duration = Duration::from_secs(10);

async fn handle(request: Request) -> Result<Answer, Fault> {
    match request {
        Request::Resume => Ok(Answer::Done { message: "resumed".to_owned() }),
        Request::History { limit } => Ok(Answer::Records(
            (0..limit).map(|n| serde_json::json!({"number": n, "text": "x".repeat(1000)})).collect(),
        )),
        Request::Why { node } => Err(Fault::not_found(format!("no node {node}"))),
        Request::Status => std::future::pending().await,
        other @ (Request::Takeover { .. }
        | Request::Handback { .. }
        | Request::Pause { .. }
        | Request::Drill(_)
        | Request::StartPrimary
        | Request::DrillEnd
        | Request::AlertTest
        | Request::Log { .. }) => Err(Fault::refused_unsafe(format!("{other:?}"))),
    }
}

fn serve(path: &Path, limits: ServeLimits) -> JoinHandle<()> {
    tokio::spawn(Server::bind_with(path, limits).unwrap().serve(handle))
}

fn done() -> Answer {
    Answer::Done { message: "resumed".to_owned() }
}

#[tokio::test]
async fn a_request_gets_its_answer_and_a_connection_carries_many() {
    let place = tempfile::tempdir().unwrap();
    let path = paths::heartbeatd(place.path());
    let _server = serve(&path, ServeLimits::default());
    let mut client = Client::connect(&path).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.call(Request::Resume, SOON).await.unwrap(), done());
    }
    let Err(CallError::Fault(fault)) = client.call(Request::Why { node: "x".parse().unwrap() }, SOON).await
    else {
        panic!("no fault")
    };
    assert_eq!(fault, Fault::not_found("no node x"));
    let Answer::Records(records) = client.call(Request::History { limit: 100 }, SOON).await.unwrap() else {
        panic!("no records")
    };
    assert_eq!(records.len(), 100);
}

#[tokio::test]
async fn only_its_user_may_open_the_socket() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    let _server = Server::bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[tokio::test]
async fn the_socket_of_a_live_server_is_never_replaced() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    let _server = serve(&path, ServeLimits::default());
    assert!(matches!(Server::bind(&path), Err(BindError::InUse(_))));
    assert_eq!(ask(&path, Request::Resume, SOON).await.unwrap(), done());
}

#[tokio::test]
async fn the_socket_of_a_dead_process_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("heartbeatd.sock");
    // A listener of the standard library leaves its file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Client::connect(&path).await.unwrap_err();
    assert!(matches!(error, CallError::NotRunning { .. }), "{error}");
    let _server = serve(&path, ServeLimits::default());
    assert_eq!(ask(&path, Request::Resume, SOON).await.unwrap(), done());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(&path), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_server_that_ends_leaves_no_socket_and_says_who_is_not_running() {
    let place = tempfile::tempdir().unwrap();
    let path = paths::switch(place.path(), &"b".parse().unwrap());
    let server = serve(&path, ServeLimits::default());
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
    let error = Client::connect(&path).await.unwrap_err().to_string();
    assert!(
        error.contains("the switch of queue b is not running") && error.contains("switch-b.sock"),
        "{error}"
    );
}

#[tokio::test]
async fn a_state_directory_with_a_long_path_just_works() {
    let place = tempfile::tempdir().unwrap();
    let deep = place.path().join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    let path = paths::heartbeatd(&deep);
    let server = serve(&path, ServeLimits::default());
    assert_eq!(ask(&path, Request::Resume, SOON).await.unwrap(), done());
    assert!(matches!(Server::bind(&path), Err(BindError::InUse(_))));
    server.abort();
    assert!(server.await.is_err());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended_and_said_so() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    let limits = ServeLimits { request: Duration::from_millis(50), ..ServeLimits::default() };
    let _server = serve(&path, limits);
    for deadline in [Duration::from_millis(20), SOON] {
        let Err(CallError::Fault(fault)) = ask(&path, Request::Status, deadline).await else {
            panic!("no fault")
        };
        assert_eq!(fault.code, Code::Timeout);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_caller_no_more_than_the_deadline() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    // Bound, but nobody accepts.
    let _server = Server::bind(&path).unwrap();
    let error = ask(&path, Request::Resume, Duration::from_millis(10)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_busy_and_a_free_place_is_used_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    let _server = serve(&path, ServeLimits { connections: 1, ..ServeLimits::default() });
    let mut first = Client::connect(&path).await.unwrap();
    first.call(Request::Resume, SOON).await.unwrap();
    let mut refused = UnixStream::connect(&path).await.unwrap();
    let mut said = String::new();
    refused.read_to_string(&mut said).await.unwrap();
    assert!(said.contains(r#""code":"busy""#), "{said}");
    drop(first);
    let give_up = tokio::time::Instant::now() + SOON;
    while ask(&path, Request::Resume, SOON).await.is_err() {
        assert!(tokio::time::Instant::now() < give_up, "the place was never free again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_becomes_a_fault_and_the_connection_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    let _server = serve(&path, ServeLimits::default());
    let mut client = Client::connect(&path).await.unwrap();
    let Err(CallError::Fault(fault)) = client.call(Request::History { limit: 2000 }, SOON).await else {
        panic!("no fault")
    };
    assert_eq!(fault.code, Code::Failed);
    assert_eq!(client.call(Request::Resume, SOON).await.unwrap(), done());
}

#[tokio::test]
async fn lines_from_outside_are_refused_with_a_reason_and_reach_no_handler() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.sock");
    let server = Server::bind(&path).unwrap();
    let _server = tokio::spawn(server.serve(|request: Request| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        handle(request)
    }));
    let mut long = vec![b'x'; LINE_BYTES_MAX];
    long.push(b'\n');
    let cases: [(&[u8], &str); 7] = [
        (b"{}\n", "missing field"),
        (b"\n", "not a request"),
        (b"\xff\xfe\n", "not a request"),
        (b"{\"version\":2,\"request\":{\"unheard_of\":{}}}\n", "version 2 is not spoken here"),
        (b"{\"version\":1,\"request\":\"format_disk\"}\n", "unknown variant"),
        (b"{\"version\":1,\"request\":{\"history\":{\"limit\":-1}}}\n", "invalid value"),
        (&long, "at most"),
    ];
    for (sent, reason) in cases {
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        stream.get_mut().write_all(sent).await.unwrap();
        let Read::Line(line) = read(&mut stream).await.unwrap() else { panic!("no line for {reason}") };
        let said = String::from_utf8(line).unwrap();
        assert!(said.contains(r#""code":"invalid""#) && said.contains(reason), "{said}");
    }
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);
}

#[test]
fn the_lines_are_as_documented() {
    let call = |request| {
        String::from_utf8(written(&Call { version: 1, deadline_ms: Some(5000), request }).unwrap()).unwrap()
    };
    assert_eq!(call(Request::Status), "{\"version\":1,\"deadline_ms\":5000,\"request\":\"status\"}\n");
    assert_eq!(
        call(Request::Takeover { queue: "b".parse().unwrap(), reason: "drill".to_owned() }),
        "{\"version\":1,\"deadline_ms\":5000,\"request\":{\"takeover\":{\"queue\":\"b\",\"reason\":\"drill\"}}}\n"
    );
    let said: String = String::from_utf8(reply::<Answer>(Outcome::Fault(Fault::busy("later")))).unwrap();
    assert_eq!(said, "{\"version\":1,\"fault\":{\"code\":\"busy\",\"message\":\"later\"}}\n");
}
