//! Child processes that end with their parent, watched and signalled through a pidfd.
//!
//! Every child gets `PR_SET_PDEATHSIG`: SIGTERM when the parent dies. The kernel sends it when the parent's *thread*
//! that spawned dies, so one thread of a [`Launcher`] spawns all children and lives as long as the launcher or any of
//! its children. A pidfd names one process for ever, so no signal can reach a stranger that got a reused pid.
//!
//! Never restarts a child and never decides when one ends. A [`Child`] that is dropped goes on running until the last
//! child and the launcher are dropped.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program could not be executed.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program as it was named.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The child runs no more: it could not be watched, so it was killed.
    #[error("cannot watch {program}, so it was killed: {source} (pidfd_open needs Linux 5.3)")]
    Watch {
        /// The program as it was named.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The launcher's thread has ended.
    #[error("the launcher's thread has ended")]
    Ended,
}

struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<std::process::Child>>,
}

/// Starts child processes. Cheap to clone: all clones share the thread.
#[derive(Debug, Clone)]
pub struct Launcher {
    orders: Sender<Order>,
}

impl Launcher {
    /// Starts the thread that will spawn.
    pub fn start() -> io::Result<Self> {
        let (orders, arriving) = channel::<Order>();
        std::thread::Builder::new().name("launcher".to_owned()).spawn(move || {
            while let Ok(Order { mut command, reply }) = arriving.recv() {
                // A caller that went away meanwhile leaves a child nobody watches: end it.
                if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                    end(&mut orphan);
                }
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts `command` as a child that gets SIGTERM when this process dies, however it dies. Within a tokio runtime.
    ///
    /// A program with set-uid, set-gid or file capabilities loses that tie when it is executed: that is the kernel's rule.
    pub async fn spawn(&self, mut command: Command) -> Result<Child, LaunchError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let parent = getpid();
        end_with_parent(&mut command, parent);
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { command, reply }).map_err(|_| LaunchError::Ended)?;
        let spawned = answer.await.map_err(|_| LaunchError::Ended)?;
        let mut process =
            spawned.map_err(|source| LaunchError::Spawn { program: program.clone(), source })?;
        match watch(&process) {
            Ok(pidfd) => Ok(Child { process, pidfd, launcher: self.clone() }),
            Err(source) => {
                end(&mut process);
                Err(LaunchError::Watch { program, source })
            }
        }
    }
}

/// Ties the child's life to ours. If the parent died between `fork` and `prctl`, nobody would ever send the signal, so
/// the child looks who its parent is and does not start.
fn end_with_parent(command: &mut Command, parent: Pid) {
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(rustix::io::Errno::SRCH)) }
    };
    #[expect(
        unsafe_code,
        reason = "between fork and exec it makes two system calls and touches no memory or lock"
    )]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The child is not reaped yet, so its pid cannot have been given to another process.
fn watch(process: &std::process::Child) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
    let raw = i32::try_from(process.id()).map_err(io::Error::other)?;
    let pid = Pid::from_raw(raw).ok_or_else(|| io::Error::other("pid 0"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    #[expect(
        unsafe_code,
        reason = "an OwnedFd names the same open descriptor until it is dropped, which is all that is asked"
    )]
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    Ok(Arc::new(watched))
}

/// Both calls fail only if the child is gone already, which is what is wanted.
fn end(process: &mut std::process::Child) {
    drop(process.kill());
    drop(process.wait());
}

/// A running child, or one whose end has not been read yet.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pidfd: Arc<AsyncFd<OwnedFd>>,
    #[expect(dead_code, reason = "keeps the thread alive whose death would end the child")]
    launcher: Launcher,
}

impl Child {
    /// The child's process id, for people and records. Signals go through [`Child::terminate`] and [`Child::kill`].
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Something to signal the child with while another task waits for its end.
    #[must_use]
    pub fn signaller(&self) -> Signaller {
        Signaller { pidfd: Arc::clone(&self.pidfd) }
    }

    /// Sends SIGTERM. A child that has ended already is no error.
    pub fn terminate(&self) -> io::Result<()> {
        self.signaller().terminate()
    }

    /// Sends SIGKILL. A child that has ended already is no error.
    pub fn kill(&self) -> io::Result<()> {
        self.signaller().kill()
    }

    /// Waits for the child's end and reaps it. Safe to drop and call again; answers the same after the end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            self.pidfd.readable().await?.clear_ready();
        }
    }

    /// The child's end, if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }
}

/// Signals one child, never another process.
#[derive(Debug, Clone)]
pub struct Signaller {
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

impl Signaller {
    /// Sends SIGTERM. A child that has ended already is no error.
    pub fn terminate(&self) -> io::Result<()> {
        self.send(Signal::TERM)
    }

    /// Sends SIGKILL. A child that has ended already is no error.
    pub fn kill(&self) -> io::Result<()> {
        self.send(Signal::KILL)
    }

    fn send(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
