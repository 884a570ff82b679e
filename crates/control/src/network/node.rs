//! A node of the cluster, as it is reached from another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mail_model::NodeId;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::keys::Members;
use crate::line::{Named, VERSION, written};
use crate::program::Program;

/// How long a node may take to answer a connection, and as long again for the handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Why a node is not spoken to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It does not answer.
    #[error(
        "node {node} is not reached at {address}: {source}; is its heartbeatd up, and cluster.nodes[].control right on both nodes?"
    )]
    Unreached {
        /// The node.
        node: NodeId,
        /// Its control address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// It does not prove to be of this cluster, or does not believe that we are.
    #[error("node {node} at {address}: {source}; have both nodes the same cluster.id and cluster key?")]
    Strange {
        /// The node.
        node: NodeId,
        /// Its control address.
        address: SocketAddr,
        /// What TLS said.
        source: io::Error,
    },
}

/// A node with its control address.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Its control address.
    pub address: SocketAddr,
}

impl Node {
    /// A connection on which `program` of that node answers.
    pub(crate) async fn connect(
        &self,
        members: &Members,
        program: &Program,
    ) -> Result<TlsStream<TcpStream>, NodeError> {
        let (node, address) = (self.id.clone(), self.address);
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await.unwrap_or_else(late);
        let stream = match stream {
            Ok(stream) => stream,
            Err(source) => return Err(NodeError::Unreached { node, address, source }),
        };
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        let secured =
            timeout(CONNECT_WITHIN, self.secure(stream, members, program)).await.unwrap_or_else(late);
        secured.map_err(|source| NodeError::Strange { node, address, source })
    }

    async fn secure(
        &self,
        stream: TcpStream,
        members: &Members,
        program: &Program,
    ) -> io::Result<TlsStream<TcpStream>> {
        stream.set_nodelay(true)?;
        let config =
            members.toward(&self.id).ok_or_else(|| io::Error::other("it is no node of the cluster"))?;
        let config = config.map_err(io::Error::other)?;
        // The key tells who it is; the name is not even sent.
        let name = ServerName::from(self.address.ip());
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let named = written(&Named { version: VERSION, program: program.clone() });
        stream.write_all(&named.unwrap_or_default()).await?;
        Ok(stream)
    }
}
