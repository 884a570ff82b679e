//! A switch from its start to its end.
//!
//! | what comes | what is done |
//! |---|---|
//! | ACTIVE | delivery starts, then new mail is taken |
//! | an order to drain with notice | 503, clients are greeted; after the notice as below |
//! | SIGTERM, an order to drain | 503 and 421 to new clients, sessions and attempts finish, the queue is released, exit 0; a home that was ordered to: 3 |
//! | a second SIGTERM | exit 0 at once; the next owner recovers what was open |
//! | SIGHUP | the configuration and the certificates are read again |
//! | SIGUSR1 | the state goes to the log |
//! | FENCED, STORAGE_SICK, GAVE_UP | every effect stops, sessions get 421, exit 75 |

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster::instance::State;
use daemon_kit::signals::{Signal, Signals};
use daemon_kit::{exit, notify};
use mail_model::Role;
use queue_store::Queue;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::admin::{Admin, DrainOrder};
use crate::delivery::{Delivery, DeliveryParts};
use crate::intake::{Intake, Phase};
use crate::names::LiveNames;
use crate::readiness::Gate;
use crate::reload::{Reloader, Watch};
use crate::tls::LiveTls;
use crate::watchdog;

/// The longest to wait for sessions that are in the middle of a message.
const SESSIONS_FINISH: Duration = Duration::from_secs(10);
/// The longest to wait for sessions that were told to close.
const SESSIONS_CLOSE: Duration = Duration::from_secs(2);
/// The longest to wait for anything when this owner may do nothing any more.
const STOP: Duration = Duration::from_millis(500);
/// How often the service manager hears how the queue stands.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// An editor writes a file in several steps: only then is it looked at.
const SETTLE: Duration = Duration::from_millis(300);
/// So often it is waited for again while files go on changing.
const SETTLE_ROUNDS: u32 = 20;
/// The files are looked at this often even if nobody told of a change.
const RESCAN: Duration = Duration::from_mins(1);

/// What is run.
pub(crate) struct Lifecycle {
    /// The queue.
    pub(crate) queue: Queue,
    /// At home or not.
    pub(crate) role: Role,
    /// The certificates in use.
    pub(crate) tls: LiveTls,
    /// Who is asked for names.
    pub(crate) names: LiveNames,
    /// Whether new mail is taken.
    pub(crate) gate: Arc<Gate>,
    /// The sessions; a secondary has none.
    pub(crate) intake: Option<Intake>,
    /// Empty until the queue is owned.
    pub(crate) delivery: Arc<OnceLock<Delivery>>,
    /// Knows how the switch stands.
    pub(crate) admin: Arc<Admin>,
    /// Reads the configuration again.
    pub(crate) reloader: Arc<Reloader>,
    /// What sessions are to do.
    pub(crate) phase: watch::Sender<Phase>,
}

/// How the working time of a switch ends.
enum End {
    /// Give the queue up in order.
    Drain(DrainOrder),
    /// The same, told over the control socket: not to come back by itself.
    Leave(DrainOrder),
    /// Nothing may be done any more.
    Lost(State),
}

impl Lifecycle {
    /// Runs to the end. The exit code.
    pub(crate) async fn run(
        self,
        mut signals: Signals,
        mut orders: mpsc::Receiver<DrainOrder>,
        watch: Watch,
    ) -> u8 {
        tokio::spawn(watchdog::feed(self.queue.clone()));
        let looking = tokio::spawn(look_at_changes(Arc::clone(&self.reloader), watch));
        if self.role == Role::Primary {
            // The doors are open: who waits for this service gets an answer, if only 421.
            notify::ready();
        }
        let end = self.work(&mut signals, &mut orders).await;
        looking.abort();
        match end {
            End::Drain(order) => self.drain(order, &mut signals).await,
            End::Leave(order) => match self.drain(order, &mut signals).await {
                // A secondary is not missed; a home that left would be started again by its service manager.
                exit::OK if self.role == Role::Primary => exit::LEFT,
                code => code,
            },
            End::Lost(state) => self.lost(state).await,
        }
    }

    async fn work(&self, signals: &mut Signals, orders: &mut mpsc::Receiver<DrainOrder>) -> End {
        let mut state = self.queue.state();
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut active = false;
        loop {
            let now = *state.borrow_and_update();
            if now.is_final() {
                return End::Lost(now);
            }
            if now == State::Active && !active {
                active = true;
                self.become_active();
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() {
                    return End::Lost(State::StorageSick);
                },
                signal = signals.next() => match signal {
                    Signal::Terminate | Signal::TerminateNow => return End::Drain(self.at_once()),
                    Signal::Reload => self.reload().await,
                    Signal::Dump => self.dump(),
                },
                Some(order) = orders.recv() => return End::Leave(order),
                _ = ticks.tick() => notify::status(&self.admin.line()),
            }
        }
    }

    fn at_once(&self) -> DrainOrder {
        DrainOrder { grace: self.admin.settings.load().cluster.timers.grace, notice: Duration::ZERO }
    }

    fn become_active(&self) {
        self.delivery.get_or_init(|| {
            Delivery::start(DeliveryParts {
                queue: self.queue.clone(),
                settings: Arc::clone(&self.admin.settings),
                tls: Arc::clone(&self.tls),
                tracers: Arc::clone(&self.admin.tracers),
                names: Arc::clone(&self.names),
                clock: Arc::clone(&self.admin.clock),
                counters: Arc::clone(&self.admin.counters),
            })
        });
        self.gate.delivery_works();
        if self.role == Role::Secondary {
            notify::ready();
        }
        notify::status(&self.admin.line());
        let (queue, epoch) = (self.queue.id(), self.queue.epoch().0);
        tracing::info!(event = "switch.active", %queue, epoch, role = %self.role);
    }

    async fn reload(&self) {
        let reloader = Arc::clone(&self.reloader);
        // Both outcomes are in the log.
        tokio::task::spawn_blocking(move || reloader.reload()).await.ok();
    }

    fn dump(&self) {
        tracing::info!(event = "switch.state", status = ?self.admin.status());
    }

    /// Gives the queue up in order, unless somebody cannot wait or somebody else has it already.
    async fn drain(&self, order: DrainOrder, signals: &mut Signals) -> u8 {
        let (queue, epoch) = (self.queue.id(), self.queue.epoch().0);
        tracing::info!(event = "switch.draining", %queue, epoch, grace_ms = ?order.grace.as_millis());
        notify::stopping();
        let mut state = self.queue.state();
        let giving_up = self.give_up(order);
        tokio::pin!(giving_up);
        loop {
            tokio::select! {
                () = &mut giving_up => {
                    let left = *self.queue.state().borrow();
                    if matches!(left, State::Fenced | State::StorageSick) {
                        return self.lost(left).await;
                    }
                    tracing::info!(event = "switch.ended", %queue, epoch, state = left.as_str());
                    return exit::OK;
                }
                lost = state.wait_for(|state| matches!(state, State::Fenced | State::StorageSick)) => {
                    let lost = lost.map_or(State::StorageSick, |state| *state);
                    return self.lost(lost).await;
                }
                signal = signals.next() => match signal {
                    Signal::Terminate | Signal::TerminateNow => {
                        tracing::warn!(event = "switch.ended_at_once", %queue, epoch);
                        return exit::OK;
                    }
                    Signal::Reload => {}
                    Signal::Dump => self.dump(),
                },
            }
        }
    }

    async fn give_up(&self, order: DrainOrder) {
        if !order.notice.is_zero() {
            self.gate.leave();
            sleep(order.notice).await;
        }
        self.gate.drain();
        tokio::join!(self.finish_sessions(), self.finish_deliveries(order.grace));
        self.queue.drain();
        self.queue.release().await;
    }

    /// Sessions between messages are closed; those in a message may finish it, for a while.
    async fn finish_sessions(&self) {
        let Some(intake) = &self.intake else { return };
        self.phase.send_replace(Phase::Finishing);
        if timeout(SESSIONS_FINISH, intake.finished()).await.is_err() {
            self.phase.send_replace(Phase::Closing);
            timeout(SESSIONS_CLOSE, intake.finished()).await.ok();
        }
    }

    async fn finish_deliveries(&self, grace: Duration) {
        if let Some(delivery) = self.delivery.get() {
            delivery.drain(grace).await;
        }
    }

    /// No effect may follow: sessions are reset before a final dot can be answered, and the process ends.
    async fn lost(&self, state: State) -> u8 {
        let (queue, epoch) = (self.queue.id(), self.queue.epoch().0);
        self.gate.drain();
        self.phase.send_replace(Phase::Closing);
        match state {
            State::GaveUp => tracing::warn!(event = "switch.gave_up", %queue),
            State::Init
            | State::Claiming
            | State::Fencing
            | State::Recovering
            | State::Sealing
            | State::Active
            | State::Draining
            | State::Released
            | State::Fenced
            | State::StorageSick => {
                tracing::warn!(event = "switch.lost", %queue, epoch, state = state.as_str());
            }
        }
        let sessions = async {
            if let Some(intake) = &self.intake {
                intake.finished().await;
            }
        };
        let deliveries = async {
            if let Some(delivery) = self.delivery.get() {
                delivery.stop().await;
            }
        };
        // The end of the process stops what has not stopped by then.
        timeout(STOP, async { tokio::join!(sessions, deliveries) }).await.ok();
        exit::FENCED
    }
}

/// Judges the configuration files, and takes tables into use, when they changed and came to rest. A change that nobody told
/// of is seen a little later.
async fn look_at_changes(reloader: Arc<Reloader>, mut watch: Watch) {
    loop {
        timeout(RESCAN, watch.changed()).await.ok();
        for _ in 0..SETTLE_ROUNDS {
            sleep(SETTLE).await;
            if !watch.forget() {
                break;
            }
        }
        let reloader = Arc::clone(&reloader);
        let look = move || {
            reloader.look();
            reloader.look_at_tables();
        };
        tokio::task::spawn_blocking(look).await.ok();
    }
}
