//! A queue with delivery, and the sinks it delivers to.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cluster::Timers;
use cluster::instance::{Order, State};
use daemon_kit::clock::SystemClock;
use mail_model::{
    BootId, Clock, Envelope, InstanceId, Mailbox, NodeId, Recipient, ReversePath, Role, WallTime,
};
use queue_format::books::Balance;
use queue_format::record::{Content, MessageKey, MessageRecord, encode_envelope};
use queue_store::{Queue, QueueOptions};
use rig::{Behaviour, Sink, SinkOptions};
use schedule::RetryPolicy;
use settings::{Environment, Settings, Source};
use switch::counters::Counters;
use switch::delivery::{Delivery, DeliveryParts};
use switch::names::Names;
use switch::tls::Tls;
use switch::tracers::Tracers;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BODY: &[u8] =
    b"Received: from x ([127.0.0.1]) by y id z; now\r\nSubject: hi\r\n\r\n.dot first\r\n..\r\nbye\r\n";

static INSTANCES: AtomicU64 = AtomicU64::new(1);

pub(crate) fn settings(next_hop: &str) -> Settings {
    let text = format!(
        "cluster: {{ id: test }}\nnode: {{ id: a }}\nlisteners: [ {{ address: 127.0.0.1:0 }} ]\n\
         routes: [ {{ match: \"*\", next_hop: \"{next_hop}\" }} ]\n"
    );
    let source = Source { path: "/etc/mailswitch.yaml".into(), text };
    let mut settings =
        settings::parse(&[source], &Environment::default()).unwrap_or_else(|f| panic!("{f:?}"));
    settings.retry = RetryPolicy {
        first: Duration::from_millis(100),
        max: Duration::from_millis(400),
        lifetime: Duration::from_hours(1),
    };
    settings
}

pub(crate) async fn open(spool: &Path, owner: &str, order: Option<Order>) -> Queue {
    let queue = Queue::open(QueueOptions {
        dir: spool.join("a"),
        cluster: "test".into(),
        queue: "a".parse().unwrap(),
        owner: NodeId::new(owner).unwrap(),
        instance: InstanceId(u128::from(INSTANCES.fetch_add(1, Ordering::Relaxed))),
        boot: BootId(1),
        role: if owner == "a" { Role::Primary } else { Role::Secondary },
        order,
        timers: Timers::default(),
        segment_size: 1 << 20,
        free_space_reserve: 0,
        clock: Arc::new(SystemClock),
        proof: None,
    })
    .unwrap();
    let mut state = queue.state();
    let active = tokio::time::timeout(PATIENCE, state.wait_for(|s| *s == State::Active)).await;
    assert!(active.is_ok(), "never active");
    queue
}

pub(crate) fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse_stored(text).unwrap()
}

pub(crate) fn envelope(from: &str, to: &[&str]) -> Envelope {
    let from = if from.is_empty() { ReversePath::Null } else { ReversePath::Mailbox(mailbox(from)) };
    let mut envelope = Envelope::from_sender(from);
    envelope.recipients.extend(to.iter().map(|to| Recipient::plain(mailbox(to))));
    envelope
}

pub(crate) struct Site {
    pub(crate) spool: tempfile::TempDir,
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    /// What delivery reads, once it runs.
    pub(crate) live: Arc<ArcSwap<Settings>>,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) counters: Arc<Counters>,
}

impl Site {
    /// A queue without delivery.
    pub(crate) async fn new(next_hop: &str) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let queue = open(spool.path(), "a", None).await;
        let settings = settings(next_hop);
        let live = Arc::new(ArcSwap::from_pointee(settings.clone()));
        Self { spool, queue, settings, live, delivery: None, counters: Arc::default() }
    }

    pub(crate) async fn with_sink(behaviour: Behaviour) -> (Self, Sink) {
        let sink = sink_at("127.0.0.1:0".parse().unwrap(), behaviour);
        (Self::new(&sink.address().to_string()).await, sink)
    }

    pub(crate) fn start(&mut self) {
        self.live.store(Arc::new(self.settings.clone()));
        self.delivery = Some(Delivery::start(DeliveryParts {
            queue: self.queue.clone(),
            settings: Arc::clone(&self.live),
            tls: Arc::new(ArcSwap::from_pointee(Tls::load(&self.settings, Role::Secondary).unwrap())),
            tracers: Arc::new(Tracers::new(Arc::new(SystemClock))),
            names: Arc::new(ArcSwap::from_pointee(Names::new(&self.settings).unwrap())),
            clock: Arc::new(SystemClock),
            counters: Arc::clone(&self.counters),
        }));
    }

    pub(crate) fn delivery(&self) -> &Delivery {
        self.delivery.as_ref().unwrap()
    }

    pub(crate) async fn accept_at(&self, envelope: &Envelope, body: &[u8], received: WallTime) -> MessageKey {
        let key = self.queue.next_key();
        let record = MessageRecord {
            key,
            received,
            size: body.len() as u64,
            origin: "client 127.0.0.1".into(),
            envelope: encode_envelope(envelope),
            content: Content::Inline,
            settles: None,
            handover: None,
        };
        self.queue.accept(record, Bytes::copy_from_slice(body)).await.unwrap();
        if let Some(delivery) = &self.delivery {
            delivery.notice(key);
        }
        key
    }

    pub(crate) async fn accept(&self, from: &str, to: &[&str]) -> MessageKey {
        self.accept_at(&envelope(from, to), BODY, SystemClock.wall()).await
    }

    pub(crate) fn balance(&self) -> Balance {
        self.queue.books(queue_format::books::Books::balance).expect("the queue is owned")
    }

    /// Waits until the books are as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Balance) -> bool) -> Balance {
        let begun = SystemClock.now();
        loop {
            let balance = self.balance();
            assert!(balance.holds, "{balance:?}");
            if wanted(&balance) {
                return balance;
            }
            assert!(SystemClock.now().since(begun) < PATIENCE, "never {what}: {balance:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn sink_at(address: SocketAddr, behaviour: Behaviour) -> Sink {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Sink::start(SinkOptions { address, behaviour, keep_bytes_max: 1 << 20, ..SinkOptions::new(clock) })
        .unwrap()
}

/// An address where nobody listens.
pub(crate) fn dead_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) async fn took(sink: &Sink, deliveries: u64) {
    let came = sink.wait_for(|tally| tally.deliveries >= deliveries, PATIENCE).await;
    assert!(came, "the sink has {:?}, wanted {deliveries}", sink.tally());
    assert_eq!(sink.tally().violations, 0, "{:?}", sink.violations());
}

pub(crate) fn recipients(sink: &Sink) -> Vec<Vec<String>> {
    sink.deliveries().into_iter().map(|delivery| delivery.recipients).collect()
}
