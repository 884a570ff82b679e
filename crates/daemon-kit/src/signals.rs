//! Signals of operators and service managers, as a stream of wishes.
//!
//! | signal | wish |
//! |---|---|
//! | SIGTERM, SIGINT | first: [`Signal::Terminate`]; each further one: [`Signal::TerminateNow`] |
//! | SIGHUP | [`Signal::Reload`] |
//! | SIGUSR1 | [`Signal::Dump`] |
//!
//! The sender's process and user are logged where the kernel tells them: who stopped a node is the first question of
//! an investigation. Never acts on a signal itself.

use std::ffi::c_int;
use std::fmt;
use std::io;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::signal_name;
use signal_hook_tokio::SignalsInfo;

/// What somebody wants of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// End in order: drain, release, exit.
    Terminate,
    /// End at once: asked a second time.
    TerminateNow,
    /// Read the configuration again.
    Reload,
    /// Write the state to the log.
    Dump,
}

/// The signals this process receives. From its making on, none of them ends the process by itself.
pub struct Signals {
    arriving: SignalsInfo<WithOrigin>,
    terminating: bool,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("terminating", &self.terminating).finish_non_exhaustive()
    }
}

impl Signals {
    /// Starts to listen. Within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let arriving =
            SignalsInfo::with_exfiltrator([SIGTERM, SIGINT, SIGHUP, SIGUSR1], WithOrigin::default())?;
        Ok(Self { arriving, terminating: false })
    }

    /// The next wish. Safe to drop and call again. Pending for ever once the stream has ended, which no signal does.
    pub async fn next(&mut self) -> Signal {
        loop {
            let Some(origin) = self.arriving.next().await else { return std::future::pending().await };
            let name = signal_name(origin.signal).unwrap_or("?");
            let (pid, uid) = origin.process.as_ref().map(|sender| (sender.pid, sender.uid)).unzip();
            tracing::info!(event = "signal.received", signal = name, pid, uid);
            if let Some(wish) = self.meaning(origin.signal) {
                return wish;
            }
        }
    }

    fn meaning(&mut self, number: c_int) -> Option<Signal> {
        match number {
            SIGTERM | SIGINT if self.terminating => Some(Signal::TerminateNow),
            SIGTERM | SIGINT => {
                self.terminating = true;
                Some(Signal::Terminate)
            }
            SIGHUP => Some(Signal::Reload),
            SIGUSR1 => Some(Signal::Dump),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_second_request_to_end_means_now() {
        let mut signals = Signals::listen().unwrap();
        for (sent, wish) in [
            (Number::HUP, Signal::Reload),
            (Number::TERM, Signal::Terminate),
            (Number::USR1, Signal::Dump),
            (Number::INT, Signal::TerminateNow),
            (Number::TERM, Signal::TerminateNow),
        ] {
            kill_process(getpid(), sent).unwrap();
            assert_eq!(signals.next().await, wish);
        }
    }
}
