//! The switches this program starts: secondaries for foreign queues, and its own primary again after a crash.
//!
//! One process for each queue at a time: a former one that hangs is killed and reaped first. With `launcher: systemd` they
//! are units (`units`), and what is a child here is the `systemctl` that waits for the unit's end. Never decides to start one.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use daemon_kit::process::{Launcher, Signaller};
use mail_model::{Epoch, QueueId, Reason};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::plan::Plan;
use crate::units;

/// What a process is started as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// The own queue's primary.
    Primary,
    /// A secondary that takes a queue over.
    Secondary {
        /// The epoch it must find as the top.
        expected: Epoch,
        /// What its claim says.
        reason: Reason,
    },
}

/// The end of a process, or that it could not be started.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) queue: QueueId,
    /// The number of its start.
    pub(crate) run: u64,
}

struct Running {
    run: u64,
    pid: u32,
    signaller: Signaller,
    gone: watch::Receiver<bool>,
}

#[derive(Default)]
struct Table {
    running: BTreeMap<QueueId, Running>,
    /// The last start of each queue's process.
    latest: BTreeMap<QueueId, u64>,
    runs: u64,
}

/// All of them.
#[derive(Clone)]
pub(crate) struct Children {
    plan: Arc<Plan>,
    launcher: Launcher,
    table: Arc<Mutex<Table>>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Children {
    /// No children yet. Their ends arrive at `ended`.
    pub(crate) fn new(plan: Arc<Plan>, ended: mpsc::UnboundedSender<Ended>) -> std::io::Result<Self> {
        Ok(Self { plan, launcher: Launcher::start()?, table: Arc::default(), ended })
    }

    /// Starts a process for `queue`. Its end, or that it could not be started, is told later.
    pub(crate) fn start(&self, queue: QueueId, task: Task) {
        let mut table = self.table.lock();
        table.runs += 1;
        let run = table.runs;
        table.latest.insert(queue.clone(), run);
        drop(table);
        let this = self.clone();
        tokio::spawn(async move {
            this.run(&queue, run, task).await;
            this.ended.send(Ended { queue, run }).ok();
        });
    }

    /// A start that was wanted and could not even be tried.
    pub(crate) fn not_started(&self, queue: QueueId) {
        let mut table = self.table.lock();
        table.runs += 1;
        let run = table.runs;
        table.latest.insert(queue.clone(), run);
        drop(table);
        self.ended.send(Ended { queue, run }).ok();
    }

    async fn run(&self, queue: &QueueId, run: u64, task: Task) {
        self.clear(queue).await;
        let command = match self.command(queue, task).await {
            Ok(command) => command,
            Err(error) => {
                tracing::error!(event = "launch.failed", %queue, %error);
                return;
            }
        };
        let mut child = match self.launcher.spawn(command).await {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(event = "launch.failed", %queue, %error);
                return;
            }
        };
        let pid = child.pid();
        let (tell, gone) = watch::channel(false);
        let running = Running { run, pid, signaller: child.signaller(), gone };
        self.table.lock().running.insert(queue.clone(), running);
        match task {
            Task::Primary => tracing::info!(event = "launch.primary", %queue, pid),
            Task::Secondary { expected, reason } => {
                tracing::info!(event = "launch.secondary", %queue, pid, expected = expected.0, %reason);
            }
        }
        match child.wait().await {
            Ok(status) => tracing::info!(event = "launch.ended", %queue, pid, status = %status),
            Err(error) => tracing::error!(event = "launch.lost", %queue, pid, %error),
        }
        let mut table = self.table.lock();
        if table.running.get(queue).is_some_and(|running| running.run == run) {
            table.running.remove(queue);
        }
        tell.send_replace(true);
    }

    /// Ends what still runs for this queue: it did not renew, or we would not start another.
    async fn clear(&self, queue: &QueueId) {
        let former = self.table.lock().running.get(queue).map(|r| (r.signaller.clone(), r.gone.clone()));
        let Some((signaller, mut gone)) = former else { return };
        if let Err(error) = signaller.kill() {
            tracing::error!(event = "launch.kill_failed", %queue, %error);
        }
        gone.wait_for(|gone| *gone).await.ok();
    }

    async fn command(&self, queue: &QueueId, task: Task) -> std::io::Result<Command> {
        let Some(orders) = &self.plan.orders else { return Ok(self.program(queue, task)) };
        match task {
            // systemd restarts it, too: then this order changes nothing.
            Task::Primary => Ok(units::start(&units::primary(queue))),
            Task::Secondary { expected, reason } => {
                let unit = units::secondary(queue);
                units::clear(&unit).await?;
                units::order(orders, queue, expected, reason)?;
                Ok(units::start(&unit))
            }
        }
    }

    fn program(&self, queue: &QueueId, task: Task) -> Command {
        let mut command = Command::new(&self.plan.switch);
        command.arg("run").arg("--config").arg(&self.plan.config);
        if let Task::Secondary { expected, reason } = task {
            command.args(["--queue", queue.as_str(), "--secondary"]);
            command.args(["--expected-epoch", &expected.to_string(), "--reason", reason.as_str()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // What our service manager told us is not for the child.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command
    }

    /// True if this is the end of the last process started for its queue.
    pub(crate) fn is_latest(&self, ended: &Ended) -> bool {
        self.table.lock().latest.get(&ended.queue) == Some(&ended.run)
    }

    /// True if a process that was started here runs for `queue`.
    pub(crate) fn runs(&self, queue: &QueueId) -> bool {
        self.table.lock().running.contains_key(queue)
    }

    /// The process that runs for `queue`, if it is a child.
    pub(crate) fn pid(&self, queue: &QueueId) -> Option<u32> {
        let pid = self.table.lock().running.get(queue).map(|running| running.pid);
        pid.filter(|_| self.end_with_us())
    }

    /// False if they are units, which go on without this program.
    fn end_with_us(&self) -> bool {
        self.plan.orders.is_none()
    }

    /// True if no process is left that has to end before this program does.
    pub(crate) fn is_empty(&self) -> bool {
        !self.end_with_us() || self.table.lock().running.is_empty()
    }

    /// Asks the secondary of one queue to end in order.
    pub(crate) async fn terminate(&self, queue: &QueueId) {
        if self.end_with_us() {
            self.signal(Signaller::terminate, |name| name == queue);
        } else if let Err(error) = units::stop(&units::secondary(queue)).await {
            tracing::error!(event = "launch.kill_failed", %queue, %error);
        }
    }

    /// Ends the process of one queue at once: it owns nothing any more.
    pub(crate) fn stop(&self, queue: QueueId) {
        if self.end_with_us() {
            return self.signal(Signaller::kill, |name| *name == queue);
        }
        let own = queue == self.plan.own();
        tokio::spawn(async move {
            // systemd starts a primary again, and that waits for its queue.
            let ended = if own {
                units::kill(&units::primary(&queue)).await
            } else {
                units::clear(&units::secondary(&queue)).await
            };
            if let Err(error) = ended {
                tracing::error!(event = "launch.kill_failed", %queue, %error);
            }
        });
    }

    /// Asks all that end with this program to end in order.
    pub(crate) fn terminate_all(&self) {
        self.signal(Signaller::terminate, |_| self.end_with_us());
    }

    /// Ends all that end with this program.
    pub(crate) fn kill_all(&self) {
        self.signal(Signaller::kill, |_| self.end_with_us());
    }

    fn signal(&self, signal: fn(&Signaller) -> std::io::Result<()>, whom: impl Fn(&QueueId) -> bool) {
        for (queue, running) in self.table.lock().running.iter().filter(|(queue, _)| whom(queue)) {
            if let Err(error) = signal(&running.signaller) {
                tracing::error!(event = "launch.kill_failed", %queue, %error);
            }
        }
    }
}
