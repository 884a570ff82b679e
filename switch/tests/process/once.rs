//! Two switches in a row that speak XONCE: whatever breaks between the last octet and the 250, there is one copy. docs/ONCE.md.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster::instance::{Order, State};
use mail_model::{Epoch, Reason};
use queue_format::record::decode_envelope;
use rig::{Load, Rate, Sink, SinkOptions};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::site::{Config, PATIENCE, Site, clock, key, say, send_to, until};

const KNOWN: &str = "once_from: [127.0.0.1/32]";
const RETRY: &str = "retry: { first: 200ms, max: 200ms }";

/// What becomes of a reply that is to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The connection breaks.
    Cut,
    /// Nothing comes, as long as both ends live.
    Silence,
}

/// The line between two switches. It loses replies to whole messages, on order.
#[derive(Debug)]
struct Line {
    address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl Line {
    async fn toward(to: SocketAddr, manner: Loss) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to_lose, lost) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&to_lose), Arc::clone(&lost));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to, manner, counts.clone()));
            }
        });
        Self { address, to_lose, lost }
    }

    /// The next reply is lost; returns when that has happened.
    async fn loses_what_follows<T>(&self, follows: impl Future<Output = T>) -> T {
        let before = self.lost.load(Ordering::SeqCst);
        self.to_lose.store(1, Ordering::SeqCst);
        let done = follows.await;
        until("a reply is lost", || self.lost.load(Ordering::SeqCst) > before).await;
        done
    }
}

async fn carry(
    mut client: TcpStream,
    to: SocketAddr,
    manner: Loss,
    (to_lose, lost): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.split(), server.split());
    let forth = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            let said = buffer.get(..count).unwrap_or_default();
            let taken = String::from_utf8_lossy(said).contains("queued as");
            let one_less = |left: usize| left.checked_sub(1);
            if taken && to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                lost.fetch_add(1, Ordering::SeqCst);
                // Until the server is gone.
                while manner == Loss::Silence
                    && from_server.read(&mut buffer).await.is_ok_and(|count| count > 0)
                {}
                return;
            }
            if to_client.write_all(said).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { _ = forth => {}, () = back => {} }
}

fn behind(sink: &Sink) -> Site {
    Site::new(&Config { listener: KNOWN, next_hop: Some(sink.address()), ..Config::default() })
}

fn before(line: &Line) -> Site {
    Site::new(&Config { next_hop: Some(line.address), top: RETRY.to_owned(), ..Config::default() })
}

fn sink() -> Sink {
    Sink::start(SinkOptions::new(clock())).unwrap()
}

async fn sends_to(front: &Site, recipients: &[&str]) {
    assert_eq!(send_to(front, recipients).await.1.code, 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_lost_makes_no_second_copy_and_names_are_forgotten_when_they_are_over() {
    let sink = sink();
    let back = behind(&sink);
    let receiver = back.start_ready().await;
    let line = Line::toward(back.smtp, Loss::Cut).await;
    let front = before(&line);
    let sender = front.start_ready().await;
    line.loses_what_follows(sends_to(&front, &["b@example.test", "c@example.test"])).await;
    until("the doubt is settled", || sender.log().contains("delivery.doubt_settled")).await;
    assert!(receiver.log().contains("message.repeated"), "{}", receiver.log());
    assert!(sink.wait_for(|tally| tally.deliveries >= 1, PATIENCE).await);
    until("the books say so", || front.inspect().replay.books.is_empty()).await;
    let totals = front.inspect().replay.books.totals();
    assert_eq!((totals.delivered, totals.in_doubt), (2, 2));
    assert_eq!(front.inspect().replay.books.doubts().count(), 0, "they are settled");

    let begun = clock().now();
    let mut sent = 1;
    while back.inspect().replay.books.handovers() >= sent {
        assert!(clock().now().since(begun) < PATIENCE, "all {sent} are remembered");
        sends_to(&front, &["d@example.test"]).await;
        sent += 1;
        assert!(sink.wait_for(|tally| tally.deliveries >= sent as u64, PATIENCE).await);
    }
    assert_eq!(sink.tally().deliveries, sent as u64, "each once");
    assert_eq!(back.inspect().replay.books.totals().messages, sent as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_killed_before_the_reply_is_followed_by_a_secondary_that_makes_no_second_copy() {
    let sink = sink();
    let back = behind(&sink);
    let receiver = back.start_ready().await;
    let line = Line::toward(back.smtp, Loss::Silence).await;
    let front = before(&line);
    let mut sender = front.start_ready().await;
    line.loses_what_follows(sends_to(&front, &["b@example.test"])).await;
    sender.signal(Signal::KILL);
    sender.ended().await;
    front.becomes_survivor();
    let survivor = front.take_over("1");
    until("the doubt is settled", || survivor.log().contains("delivery.doubt_settled")).await;
    assert!(receiver.log().contains("message.repeated"), "{}", receiver.log());
    until("the books say so", || front.inspect().replay.books.is_empty()).await;
    assert_eq!(front.inspect().replay.books.totals().in_doubt, 1);
    assert_eq!(back.inspect().replay.books.totals().messages, 1);
    assert!(sink.wait_for(|tally| tally.deliveries >= 1, PATIENCE).await);
    assert_eq!(sink.tally().deliveries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_before_its_reply_knows_what_it_had_when_it_is_back() {
    let sink = sink();
    let back = behind(&sink);
    let mut receiver = back.start_ready().await;
    let line = Line::toward(back.smtp, Loss::Silence).await;
    let front = before(&line);
    let sender = front.start_ready().await;
    line.loses_what_follows(sends_to(&front, &["b@example.test"])).await;
    receiver.signal(Signal::KILL);
    receiver.ended().await;
    let receiver = back.start_ready().await;
    until("the doubt is settled", || sender.log().contains("delivery.doubt_settled")).await;
    assert!(receiver.log().contains("message.repeated"), "{}", receiver.log());
    assert_eq!(back.inspect().replay.books.totals().messages, 1);
    assert!(sink.wait_for(|tally| tally.deliveries >= 1, PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_lost_reply_and_no_death_of_the_receiver_makes_a_second_copy_or_loses_one() {
    // It keeps what it takes.
    let back = Site::new(&Config { listener: KNOWN, ..Config::default() });
    let mut receiver = back.start_ready().await;
    let line = Line::toward(back.smtp, Loss::Cut).await;
    let front = before(&line);
    let _sender = front.start_ready().await;
    let run = Load { rate: Rate::PerSecond(200), ..Load::new(front.smtp, "once") }.start(clock());
    let mut tally = run.watch();
    for accepted in (20..=400).step_by(20) {
        let enough = tally.wait_for(|tally| tally.accepted >= accepted);
        tokio::time::timeout(PATIENCE, enough).await.unwrap().unwrap();
        line.to_lose.fetch_add(1, Ordering::SeqCst);
        if accepted % 160 == 0 {
            receiver.signal(Signal::KILL);
            receiver.ended().await;
            receiver = back.start_ready().await;
        }
    }
    run.stop();
    let probes = run.finish(Duration::from_secs(10)).await;
    let accepted = probes.iter().filter(|probe| probe.accepted.is_some()).count() as u64;
    until("all is handed over", || front.inspect().replay.books.is_empty()).await;
    let (sent, taken) = (front.inspect().replay.books.totals(), back.inspect().replay.books.totals());
    assert_eq!((sent.messages, taken.messages), (accepted, accepted));
    assert_eq!(sent.delivered, sent.accepted);
    assert!(sent.in_doubt >= 10, "{sent:?}");
    println!("{accepted} accepted, {} doubts, {} taken", sent.in_doubt, taken.messages);
}

/// Hands `text` over as x. The reply to the whole.
async fn hand_over(site: &Site, recipients: &[&str], text: &str) -> String {
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test> XONCE=x").await.code, 250);
    for recipient in recipients {
        assert_eq!(say(&mut client, &format!("RCPT TO:<{recipient}>")).await.code, 250);
    }
    assert_eq!(say(&mut client, "DATA").await.code, 354);
    client.send(format!("{text}\r\n.\r\n")).await.unwrap();
    let reply = client.reply().await.unwrap();
    assert_eq!(reply.code, 250);
    reply.text().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_reaches_whom_the_first_did_not_and_other_content_is_another_message() {
    let site = Site::new(&Config { listener: KNOWN, ..Config::default() });
    let mut switch = site.start_ready().await;
    let first = hand_over(&site, &["b@example.test"], "one").await;
    assert!(first.starts_with("2.0.0 queued as "), "{first}");
    let rest = hand_over(&site, &["b@example.test", "c@example.test"], "one").await;
    assert!(rest.starts_with("2.0.0 queued as "), "{rest}");
    let books = site.inspect().replay.books;
    let to = decode_envelope(&books.message(key(&rest)).unwrap().envelope).unwrap().recipients;
    assert_eq!(to.iter().map(|to| to.address.to_string()).collect::<Vec<_>>(), ["c@example.test"]);

    let again = hand_over(&site, &["c@example.test", "b@example.test"], "one").await;
    assert!(again.starts_with("2.0.0 taken before, queued as ") && key(&again) == key(&first), "{again}");
    let other = hand_over(&site, &["b@example.test"], "two").await;
    assert!(other.starts_with("2.0.0 queued as "), "{other}");
    assert!(switch.log().contains("handover.differs"), "{}", switch.log());

    // Whoever owns the queue next knows it too.
    switch.signal(Signal::KILL);
    switch.ended().await;
    let taken = site.open_elsewhere(Some(Order { expected: Epoch(1), reason: Reason::Forced }));
    let mut state = taken.state();
    tokio::time::timeout(PATIENCE, state.wait_for(|state| *state == State::Active)).await.unwrap().unwrap();
    assert_eq!(taken.books(|books| books.handed_over("x").count()), Some(3));
    taken.release().await;
    let _switch = site.start_ready().await;
    let again = hand_over(&site, &["b@example.test"], "one").await;
    assert!(again.starts_with("2.0.0 taken before, queued as ") && key(&again) == key(&first), "{again}");
}

#[tokio::test]
async fn who_is_not_listed_is_not_offered_names_and_may_not_use_them() {
    let site = Site::new(&Config { listener: "once_from: [192.0.2.0/24]", ..Config::default() });
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "EHLO client.test").await.extension("XONCE"), None);
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test> XONCE=x").await.code, 555);
    assert_eq!(say(&mut client, "XDONE x").await.code, 550);
}
