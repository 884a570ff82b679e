//! Lines for people: one for each event, one a second with the counts.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use mail_model::{Clock, Moment};
use rig::{LoadTally, SinkTally};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::leases::History;

/// Where the lines go.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    clock: Arc<dyn Clock>,
    began: Moment,
    to_stderr: bool,
}

impl Screen {
    /// Lines go to standard output, or to standard error where that belongs to a machine-readable line.
    pub(crate) fn new(clock: Arc<dyn Clock>, to_stderr: bool) -> Self {
        Self { began: clock.now(), clock, to_stderr }
    }

    /// A line as it is. A reader that went away does not end a demo.
    pub(crate) fn line(&self, text: &str) {
        let written = if self.to_stderr {
            writeln!(std::io::stderr().lock(), "{text}")
        } else {
            writeln!(std::io::stdout().lock(), "{text}")
        };
        drop(written);
    }

    /// Something happened now.
    pub(crate) fn event(&self, text: &str) {
        self.stamped(&format!("* {text}"));
    }

    fn stamped(&self, text: &str) {
        let passed = self.clock.now().since(self.began);
        self.line(&format!("{:>5}.{} s  {text}", passed.as_secs(), passed.subsec_millis() / 100));
    }

    /// A line a second until the answer is dropped.
    pub(crate) fn progress(
        &self,
        load: watch::Receiver<LoadTally>,
        sink: watch::Receiver<SinkTally>,
        leases: watch::Receiver<History>,
    ) -> Progress {
        let screen = self.clone();
        Progress(tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let (load, sink) = (*load.borrow(), *sink.borrow());
                let owners: Vec<String> = leases.borrow().latest.iter().map(owner).collect();
                screen.stamped(&format!(
                    "sent {:>5}  accepted {:>5}  delivered {:>5}  {}",
                    load.begun,
                    load.accepted,
                    sink.probes,
                    owners.join("  ")
                ));
            }
        }))
    }
}

fn owner(seen: &super::leases::Seen) -> String {
    let lease = &seen.lease;
    let place =
        if lease.owner == *seen.queue.home() { String::new() } else { format!(" at {}", lease.owner) };
    format!("queue {}{place}: {} (epoch {})", seen.queue, lease.queued, lease.epoch)
}

/// The lines that come every second. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress(JoinHandle<()>);

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.abort();
    }
}
