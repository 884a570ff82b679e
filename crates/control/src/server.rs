//! Answering.
//!
//! A server holds a lock beside its socket (`NAME.lock`) for as long as it lives. So the socket file of a dead process is
//! replaced, that of a live one never is, and two that start at once cannot take it from each other.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::fault::{Code, Fault};
use crate::line::{Call, LINE_BYTES_MAX, Outcome, Read, Reply, Request, VERSION, Versioned, read, written};

/// Connections the kernel holds for us until we take them.
const BACKLOG: u32 = 64;

/// The pause after a failed accept (out of file descriptors): long enough not to spin, short enough to recover.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one server bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Connections at a time; one more is answered `busy` and closed.
    pub connections: usize,
    /// The longest a request may take, whatever deadline it names.
    pub request: Duration,
    /// The longest a connection may be silent, and the longest an answer may take to be read.
    pub idle: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { connections: 64, request: Duration::from_mins(2), idle: Duration::from_mins(1) }
    }
}

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers there.
    #[error("{}: another process listens there; is this program running twice with one node.state_dir?", .0.display())]
    InUse(PathBuf),
    /// Something else lies at the path, and it is left alone.
    #[error("{}: is there and is no socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// Anything else of the operating system.
    #[error("{}: {source}; check that node.state_dir exists and is writable", .path.display())]
    Io {
        /// The socket, or its lock.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A socket that answers.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    limits: ServeLimits,
    /// Held to the end: who holds it owns the socket file.
    _lock: File,
}

impl Server {
    /// Makes the socket at `path`, mode 600. Within a tokio runtime. Nobody is answered before [`Server::serve`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::bind_with(path, ServeLimits::default())
    }

    /// As [`Server::bind`], with limits of its own.
    pub fn bind_with(path: &Path, limits: ServeLimits) -> Result<Self, BindError> {
        let lock = lock(path)?;
        remove_stale(path)?;
        let listener = listen(path).map_err(|source| BindError::Io { path: path.to_owned(), source })?;
        Ok(Self { listener, path: path.to_owned(), limits, _lock: lock })
    }

    /// Answers with `handler` until the future is dropped, which closes every connection and removes the socket.
    pub async fn serve<R, H, F>(self, handler: H)
    where
        R: Request,
        H: Fn(R) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R::Answer, Fault>> + Send,
    {
        let handler = Arc::new(handler);
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                        Ok(place) => {
                            let handler = Arc::clone(&handler);
                            let limits = self.limits;
                            connections.spawn(async move {
                                converse::<R, H, F>(stream, &*handler, limits).await;
                                drop(place);
                            });
                        }
                        Err(_) => turn_away(&stream),
                    },
                    Err(error) => {
                        tracing::warn!(event = "control.accept_failed", socket = %self.path.display(), %error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lock is still held, so the file is ours. A leftover is replaced at the next start.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Takes the lock beside the socket.
fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let beside = PathBuf::from(name);
    let fault = |source| BindError::Io { path: beside.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&beside).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BindError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
}

/// Removes the socket file of a process that ended without removing it. Called with the lock held.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let fault = |source| BindError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(fault),
        Ok(_) => Err(BindError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fault(error)),
    }
}

/// The file gets the mode of the unbound socket, so there is no instant at which others may connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = Address::of(path)?;
    let socket = UnixSocket::new_stream()?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(address.path())?;
    socket.listen(BACKLOG)
}

/// Says `busy` if that can be done without waiting.
fn turn_away(stream: &UnixStream) {
    let fault = Fault::busy("too many control connections at once; ask again later");
    let reply: Reply<()> = Reply { version: VERSION, outcome: Outcome::Fault(fault) };
    if let Some(line) = written(&reply) {
        drop(stream.try_write(&line));
    }
}

/// One connection, to its end: the other side's, a silence, or a line that is none of ours.
async fn converse<R, H, F>(stream: UnixStream, handler: &H, limits: ServeLimits)
where
    R: Request,
    H: Fn(R) -> F,
    F: Future<Output = Result<R::Answer, Fault>>,
{
    let mut stream = BufReader::new(stream);
    loop {
        let Ok(Ok(incoming)) = timeout(limits.idle, read(&mut stream)).await else { return };
        let (outcome, last) = match incoming {
            Read::Line(line) => (answer::<R, H, F>(&line, handler, limits).await, false),
            Read::TooLong => {
                (Outcome::Fault(invalid(format!("a request has at most {LINE_BYTES_MAX} bytes"))), true)
            }
            Read::End | Read::Cut => return,
        };
        let Ok(Ok(())) = timeout(limits.idle, stream.get_mut().write_all(&reply(outcome))).await else {
            return;
        };
        if last {
            return;
        }
    }
}

async fn answer<R, H, F>(line: &[u8], handler: &H, limits: ServeLimits) -> Outcome<R::Answer>
where
    R: Request,
    H: Fn(R) -> F,
    F: Future<Output = Result<R::Answer, Fault>>,
{
    let call: Call<R> = match understood(line) {
        Ok(call) => call,
        Err(fault) => return Outcome::Fault(fault),
    };
    let deadline =
        call.deadline_ms.map_or(limits.request, |ms| limits.request.min(Duration::from_millis(ms)));
    match timeout(deadline, handler(call.request)).await {
        Ok(Ok(answer)) => Outcome::Answer(answer),
        Ok(Err(fault)) => Outcome::Fault(fault),
        Err(_) => {
            let message = format!("not done within {} ms; it may still happen", deadline.as_millis());
            Outcome::Fault(Fault::new(Code::Timeout, message))
        }
    }
}

/// The version is looked at first: a request of another version may have words we do not know.
fn understood<R: Request>(line: &[u8]) -> Result<Call<R>, Fault> {
    let Versioned { version } =
        serde_json::from_slice(line).map_err(|error| invalid(format!("not a request: {error}")))?;
    if version != VERSION {
        return Err(invalid(format!("version {version} is not spoken here, only version {VERSION}")));
    }
    serde_json::from_slice(line).map_err(|error| invalid(format!("not a request: {error}")))
}

fn invalid(message: String) -> Fault {
    Fault::new(Code::Invalid, message)
}

/// The line of an outcome. An answer that does not fit into a line becomes a fault, which does.
fn reply<A: serde::Serialize>(outcome: Outcome<A>) -> Vec<u8> {
    written(&Reply { version: VERSION, outcome }).unwrap_or_else(|| {
        let fault = Fault::failed(format!("the answer is longer than {LINE_BYTES_MAX} bytes; ask for less"));
        let outcome: Outcome<()> = Outcome::Fault(fault);
        written(&Reply { version: VERSION, outcome }).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
