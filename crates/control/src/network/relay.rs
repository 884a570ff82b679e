//! A heartbeatd's control address: members of the cluster are passed on to the programs of this node.
//!
//! It reads no request and no answer. Never: a byte from a connection that has not proved to be a member's.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_model::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::keys::Members;
use crate::address::Address;
use crate::fault::{Code, Fault};
use crate::line::{Named, Outcome, Read, Reply, VERSION, read, written};

/// Connections at a time. One more is closed.
const CONNECTIONS_MAX: usize = 64;
/// A stranger holds a place for as long at most.
const INTRODUCTION_WITHIN: Duration = Duration::from_secs(5);
/// The pause after a failed accept: long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a refusal may take to be read.
const LINGER: Duration = Duration::from_secs(1);

/// Why nobody is answered.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address.
    #[error("{address}: {source}; look at cluster.nodes[].control of this node")]
    Bind {
        /// The control address of this node.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The keys.
    #[error("TLS for control connections: {0}")]
    Tls(#[from] rustls::Error),
}

struct Relay {
    members: Members,
    acceptor: TlsAcceptor,
    state_dir: PathBuf,
}

/// Listens at `address` and passes members on to the sockets below `state_dir`, until the runtime ends.
pub async fn serve(address: SocketAddr, members: Members, state_dir: &Path) -> Result<(), RelayError> {
    let acceptor = TlsAcceptor::from(Arc::new(members.answering()?));
    let listener = TcpListener::bind(address).await.map_err(|source| RelayError::Bind { address, source })?;
    let relay = Arc::new(Relay { members, acceptor, state_dir: state_dir.to_owned() });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let relay = Arc::clone(&relay);
                    tokio::spawn(async move {
                        relay.converse(stream, from).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(event = "control.accept_failed", socket = %address, %error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(())
}

impl Relay {
    async fn converse(&self, stream: TcpStream, from: SocketAddr) {
        let introduced = timeout(INTRODUCTION_WITHIN, self.introduce(stream)).await;
        let (mut stream, node, named) =
            match introduced.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(introduced) => introduced,
                Err(error) => {
                    tracing::info!(event = "control.stranger", %from, %error);
                    return;
                }
            };
        let program = &named.program;
        tracing::debug!(event = "control.asked", %from, %node, %program);
        match self.reach(&named).await {
            Ok(mut local) => drop(copy_bidirectional(&mut stream, &mut local).await),
            Err(fault) => refuse(stream, fault).await,
        }
    }

    /// Who it is, and whom it asks for.
    async fn introduce(
        &self,
        stream: TcpStream,
    ) -> io::Result<(BufReader<TlsStream<TcpStream>>, NodeId, Named)> {
        stream.set_nodelay(true)?;
        let stream = self.acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let node = shown.and_then(|key| self.members.who(key)).cloned();
        let node = node.ok_or_else(|| io::Error::other("it shows no key of a node"))?;
        let mut stream = BufReader::new(stream);
        let Read::Line(line) = read(&mut stream).await? else {
            return Err(io::Error::other("it does not say whom it asks for"));
        };
        Ok((stream, node, serde_json::from_slice(&line)?))
    }

    async fn reach(&self, named: &Named) -> Result<UnixStream, Fault> {
        let Named { version, program } = named;
        if *version != VERSION {
            return Err(Fault::failed(format!(
                "version {version} is not spoken here, only version {VERSION}"
            )));
        }
        let path = program.socket(&self.state_dir);
        let open = async { UnixStream::connect(Address::of(&path)?.path()).await };
        open.await.map_err(|_: io::Error| {
            Fault::new(
                Code::NotRunning,
                format!("{program} is not running on node {}; start it", self.members.me()),
            )
        })
    }
}

/// Says why nobody answers. The request may still be on its way: a close before it came would take the word back.
async fn refuse(mut stream: BufReader<TlsStream<TcpStream>>, fault: Fault) {
    let reply: Reply<()> = Reply { version: VERSION, outcome: Outcome::Fault(fault) };
    let told = async {
        stream.write_all(&written(&reply).unwrap_or_default()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    drop(timeout(LINGER, told).await);
}
