//! A connection to a filter: over TCP, or by a unix socket.

use settings::FilterAddress;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Any of them.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection.
pub(super) type Wire = Box<dyn Duplex>;

/// Connects. A new connection for each message: filters restart, and a kept one would be found dead by a message.
pub(super) async fn connect(address: &FilterAddress) -> Result<Wire, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    match address {
        FilterAddress::Tcp(socket) => {
            let stream = TcpStream::connect(socket).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Ok(Box::new(stream))
        }
        FilterAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
    }
}
