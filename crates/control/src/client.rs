//! Asking a program.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::address::Address;
use crate::fault::Fault;
use crate::line::{Call, LINE_BYTES_MAX, Outcome, Read, Reply, Request, VERSION, read, written};
use crate::network::{Members, Node, NodeError};
use crate::paths;
use crate::program::Program;

/// How much longer than the server the client waits, so that the server's own word for it arrives.
const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there.
    #[error(
        "{listener} is not running on this node: nothing listens at {path}; start it, or check node.state_dir"
    )]
    NotRunning {
        /// Who should listen there.
        listener: String,
        /// The socket.
        path: PathBuf,
    },
    /// This user may not ask.
    #[error("no permission to use {path}: call as the user who runs {listener}, or as root")]
    Permission {
        /// Who listens there.
        listener: String,
        /// The socket.
        path: PathBuf,
    },
    /// No answer within the deadline. What was asked may still happen.
    #[error("{listener} did not answer within {} ms; it may still do what was asked", .waited.as_millis())]
    Timeout {
        /// Who was asked.
        listener: String,
        /// How long.
        waited: Duration,
    },
    /// The answer was a refusal.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The connection ended before an answer. What was asked may still happen, or the program ended doing it.
    #[error("{listener} closed the connection without an answer; it may have ended")]
    Closed {
        /// Who was asked.
        listener: String,
    },
    /// The request or the answer does not fit this protocol.
    #[error("{listener}: {why}; are both programs of one version?")]
    Protocol {
        /// Who was asked.
        listener: String,
        /// What does not fit.
        why: String,
    },
    /// Another node is not reached.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Anything else of the operating system.
    #[error("{listener}: {source}")]
    Io {
        /// Who was asked, and where.
        listener: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What bears the lines.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Duplex for T {}

/// A connection to one program.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    /// Who answers, in words.
    listener: String,
}

impl Client {
    /// Connects to the socket at `path`. See [`paths`].
    pub async fn connect(path: &Path) -> Result<Self, CallError> {
        match Self::open(path).await {
            Ok(stream) => {
                Ok(Self { stream: BufReader::new(Box::new(stream)), listener: paths::listener(path) })
            }
            Err(error) => Err(unreached(path, error)),
        }
    }

    /// Connects to `program` of another node.
    pub async fn connect_to(node: &Node, members: &Members, program: &Program) -> Result<Self, CallError> {
        let stream = node.connect(members, program).await?;
        let listener = format!("{program} on node {}", node.id);
        Ok(Self { stream: BufReader::new(Box::new(stream)), listener })
    }

    async fn open(path: &Path) -> io::Result<UnixStream> {
        let address = Address::of(path)?;
        UnixStream::connect(address.path()).await
    }

    /// Asks, and waits for the answer up to `deadline`. After an error other than [`CallError::Fault`] the connection
    /// is of no more use.
    pub async fn call<R: Request>(&mut self, request: R, deadline: Duration) -> Result<R::Answer, CallError> {
        let limit = deadline.saturating_add(DEADLINE_MARGIN);
        match timeout(limit, self.exchange(request, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Timeout { listener: self.listener(), waited: limit }),
        }
    }

    async fn exchange<R: Request>(&mut self, request: R, deadline: Duration) -> Result<R::Answer, CallError> {
        let deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        let line = written(&Call { version: VERSION, deadline_ms, request })
            .ok_or_else(|| self.misfit(format!("the request is longer than {LINE_BYTES_MAX} bytes")))?;
        self.stream.get_mut().write_all(&line).await.map_err(|error| self.broken(error))?;
        self.stream.get_mut().flush().await.map_err(|error| self.broken(error))?;
        let line = match read(&mut self.stream).await {
            Ok(Read::Line(line)) => line,
            Ok(Read::End | Read::Cut) => return Err(CallError::Closed { listener: self.listener() }),
            Ok(Read::TooLong) => {
                return Err(self.misfit(format!("the answer is longer than {LINE_BYTES_MAX} bytes")));
            }
            Err(error) => return Err(self.broken(error)),
        };
        let reply: Reply<R::Answer> = serde_json::from_slice(&line)
            .map_err(|error| self.misfit(format!("the answer cannot be read: {error}")))?;
        match reply.outcome {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Fault(fault) => Err(fault.into()),
        }
    }

    fn listener(&self) -> String {
        self.listener.clone()
    }

    fn misfit(&self, why: String) -> CallError {
        CallError::Protocol { listener: self.listener(), why }
    }

    fn broken(&self, source: io::Error) -> CallError {
        if matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            CallError::Closed { listener: self.listener() }
        } else {
            CallError::Io { listener: self.listener(), source }
        }
    }
}

fn unreached(path: &Path, source: io::Error) -> CallError {
    let listener = paths::listener(path);
    let path = path.to_owned();
    if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        CallError::NotRunning { listener, path }
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        CallError::Permission { listener, path }
    } else {
        CallError::Io { listener: format!("{listener}, {}", path.display()), source }
    }
}

/// Connects, asks once, and closes.
pub async fn ask<R: Request>(path: &Path, request: R, deadline: Duration) -> Result<R::Answer, CallError> {
    Client::connect(path).await?.call(request, deadline).await
}

/// The same to a program of another node.
pub async fn ask_node<R: Request>(
    node: &Node,
    members: &Members,
    program: &Program,
    request: R,
    deadline: Duration,
) -> Result<R::Answer, CallError> {
    Client::connect_to(node, members, program).await?.call(request, deadline).await
}
