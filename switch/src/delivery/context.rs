//! What the dispatcher and its workers share.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use mail_model::{Clock, Moment, RecipientIndex, WallTime};
use parking_lot::Mutex;
use queue_format::record::MessageKey;
use queue_store::Queue;
use schedule::RetryPolicy;
use settings::Settings;
use tokio::sync::{Notify, mpsc, watch};

use super::claims::Claims;
use super::clear::ClearHosts;
use super::destination::Destination;
use super::handovers::Handovers;
use super::idle::Idle;
use super::pool::Pool;
use super::recent::Recent;
use super::suspended::Suspended;
use crate::counters::Counters;
use crate::names::LiveNames;
use crate::sts::StsPolicies;
use crate::tls::LiveTls;
use crate::tracers::Tracers;

/// A destination that cannot be reached is left alone for this long at first.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// And for this long at most.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// What delivery is given.
#[derive(Debug, Clone)]
pub struct DeliveryParts {
    /// The open queue; active when delivery starts.
    pub queue: Queue,
    /// The settings, which may be replaced at any time.
    pub settings: Arc<ArcSwap<Settings>>,
    /// What is asked of next hops under TLS; replaced as the settings are.
    pub tls: LiveTls,
    /// Who watches dialogues.
    pub tracers: Arc<Tracers>,
    /// Who is asked for names; replaced as the settings are.
    pub names: LiveNames,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where is counted.
    pub counters: Arc<Counters>,
}

/// How far delivery still goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// All the way.
    Running,
    /// What runs is finished, nothing new begins.
    Draining,
    /// Nothing more is sent, not even a final dot.
    Stopped,
}

/// Everything they share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) queue: Queue,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) tls: LiveTls,
    pub(crate) tracers: Arc<Tracers>,
    pub(crate) names: LiveNames,
    pub(crate) sts: StsPolicies,
    pub(crate) clear: ClearHosts,
    pub(crate) suspended: Suspended,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) schedule: Mutex<schedule::Queue<Destination, MessageKey>>,
    pub(crate) claims: Claims,
    pub(crate) pool: Pool,
    pub(crate) recent: Recent,
    pub(crate) handovers: Handovers,
    /// Messages whose recipients must be looked at. Without a bound: each is on disk already, and is one number here.
    pub(crate) news: mpsc::UnboundedSender<MessageKey>,
    /// The dispatcher should look at the schedule.
    pub(crate) wake: Notify,
    /// Until when the dispatcher waits if nobody wakes it. Written and read while the schedule is locked.
    pub(crate) sleeps_until: AtomicU64,
    /// Workers without work.
    pub(crate) idle: Idle,
    pub(crate) phase: watch::Sender<Phase>,
    /// Which host refused a recipient that is owed a bounce, until the bounce is made.
    pub(crate) remotes: Mutex<HashMap<(MessageKey, RecipientIndex), String>>,
    random: AtomicU64,
}

impl Context {
    pub(crate) fn new(parts: DeliveryParts, news: mpsc::UnboundedSender<MessageKey>) -> Self {
        let settings = parts.settings.load();
        let pause = RetryPolicy {
            first: settings.retry.first.min(PAUSE_FIRST),
            max: settings.retry.max.min(PAUSE_MAX),
            lifetime: settings.retry.lifetime,
        };
        let sts = StsPolicies::new(&settings.node.state_dir);
        let suspended = Suspended::load(&settings.queue.dir.join(parts.queue.id().as_str()));
        let schedule = schedule::Queue::new(settings.limits.concurrency, pause);
        drop(settings);
        Self {
            queue: parts.queue,
            settings: parts.settings,
            tls: parts.tls,
            tracers: parts.tracers,
            names: parts.names,
            sts,
            clear: ClearHosts::default(),
            suspended,
            clock: parts.clock,
            counters: parts.counters,
            schedule: Mutex::new(schedule),
            claims: Claims::default(),
            pool: Pool::default(),
            recent: Recent::default(),
            handovers: Handovers::default(),
            news,
            wake: Notify::new(),
            sleeps_until: AtomicU64::new(u64::MAX),
            idle: Idle::default(),
            phase: watch::Sender::new(Phase::Running),
            remotes: Mutex::default(),
            // The keys of a hash table come from the operating system's random numbers.
            random: AtomicU64::new(RandomState::new().build_hasher().finish()),
        }
    }

    /// A number to spread retries with; nobody must be unable to guess it. (`SplitMix64`.)
    pub(crate) fn random(&self) -> u32 {
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)
    }

    /// Says that the recipients of `key` must be looked at.
    pub(crate) fn notice(&self, key: MessageKey) {
        // Without a dispatcher nothing is delivered any more: the next owner reads it from disk.
        self.news.send(key).ok();
    }

    /// True while new attempts may begin.
    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Lets `key` wait at `destination` for `delay`, for a reason that is no fault of the destination.
    pub(crate) fn put_off(&self, destination: &Destination, key: MessageKey, delay: Duration) {
        let due = self.clock.now() + delay;
        self.schedule.lock().add(destination, key, due, Moment(u64::MAX));
        self.wake.notify_one();
    }
}

/// Wall-clock times of the queue as moments of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) moment: Moment,
    pub(crate) wall: WallTime,
    policy: RetryPolicy,
}

impl Times {
    pub(crate) fn now(context: &Context, policy: RetryPolicy) -> Self {
        Self { moment: context.clock.now(), wall: context.clock.wall(), policy }
    }

    /// The same times under another policy.
    pub(crate) fn under(self, policy: RetryPolicy) -> Self {
        Self { policy, ..self }
    }

    /// No due time is further away than this, whatever was done to the wall clock.
    fn furthest(&self) -> Duration {
        self.policy.max.max(self.policy.first).saturating_mul(2)
    }

    /// When something `due` is due.
    pub(crate) fn due(&self, due: WallTime) -> Moment {
        self.moment + due.since(self.wall).min(self.furthest())
    }

    /// True if it is due now. The two clocks round apart by a few milliseconds.
    pub(crate) fn is_due(&self, due: WallTime) -> bool {
        let wait = due.since(self.wall);
        wait <= Duration::from_millis(5) || wait > self.furthest()
    }

    /// When what was `received` then is given up.
    pub(crate) fn expiry(&self, received: WallTime) -> Moment {
        self.moment + (received + self.policy.lifetime).since(self.wall)
    }
}
