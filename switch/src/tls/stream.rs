//! A connection in clear or under TLS. Who reads and writes need not know which.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::tracers::Tap;

/// The connection, and who listens to what is said on it.
#[derive(Debug)]
pub(crate) struct Stream {
    wire: Wire,
    tap: Option<Box<Tap>>,
}

/// What bears the bytes.
#[derive(Debug)]
enum Wire {
    /// In clear.
    Plain(TcpStream),
    /// In clear, to a server on this machine.
    Local(UnixStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake has it, or had it and failed. Everything on it fails.
    Gone,
}

impl Stream {
    /// A connection in clear.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { wire: Wire::Plain(stream), tap: None }
    }

    /// A connection in clear to a server on this machine.
    pub(crate) fn local(stream: UnixStream) -> Self {
        Self { wire: Wire::Local(stream), tap: None }
    }

    /// No connection.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { wire: Wire::Gone, tap: None }
    }

    /// Lets somebody listen from now on, unless somebody does. Only between two commands, or before all.
    pub(crate) fn listen_with(&mut self, tap: impl FnOnce() -> Option<Box<Tap>>) {
        if self.tap.as_ref().is_none_or(|tap| tap.is_over()) {
            self.tap = tap();
        }
    }

    /// The socket below, to ask and to set it up.
    pub(crate) fn socket(&self) -> io::Result<&TcpStream> {
        match &self.wire {
            Wire::Plain(stream) => Ok(stream),
            Wire::Tls(stream) => Ok(stream.get_ref().0),
            Wire::Local(_) | Wire::Gone => Err(gone()),
        }
    }

    /// True once TLS is spoken.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }

    /// The certificates that the other side showed, its own first; none in clear.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        match &self.wire {
            Wire::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
            Wire::Plain(_) | Wire::Local(_) | Wire::Gone => &[],
        }
    }

    /// Shakes hands with a client. The connection is gone if that fails.
    pub(crate) async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let stream = TlsAcceptor::from(config).accept(self.take_plain()?).await?;
        self.wire = Wire::Tls(Box::new(stream.into()));
        Ok(())
    }

    /// Shakes hands with a server that is known as `name`. The connection is gone if that fails.
    pub(crate) async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let stream = TlsConnector::from(config).connect(name, self.take_plain()?).await?;
        self.wire = Wire::Tls(Box::new(stream.into()));
        Ok(())
    }

    fn take_plain(&mut self) -> io::Result<TcpStream> {
        match std::mem::replace(&mut self.wire, Wire::Gone) {
            Wire::Plain(stream) => Ok(stream),
            Wire::Local(_) | Wire::Tls(_) | Wire::Gone => Err(gone()),
        }
    }

    /// Reads what is there, without waiting; `WouldBlock` if nothing is. Under TLS more may come to light than the socket
    /// shows, and less: a ticket is no word of the peer.
    pub(crate) fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(self).poll_read(&mut idle(), &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes a last word and closes, as far as that goes without waiting.
    pub(crate) fn close_now(mut self, last_word: &[u8]) {
        let mut stream = Pin::new(&mut self);
        if matches!(stream.as_mut().poll_write(&mut idle(), last_word), Poll::Ready(Ok(_))) {
            // Whatever comes of it, the connection is dropped now.
            let _ = stream.poll_shutdown(&mut idle());
        }
    }
}

/// Nobody is woken: who polls so does not wait.
fn idle() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { wire, tap } = self.get_mut();
        let before = buffer.filled().len();
        let read = match wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Local(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Gone => Poll::Ready(Err(gone())),
        };
        if let (Some(tap), Poll::Ready(Ok(()))) = (tap, &read) {
            tap.came(buffer.filled().get(before..).unwrap_or_default());
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { wire, tap } = self.get_mut();
        let written = match wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Local(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Gone => Poll::Ready(Err(gone())),
        };
        if let (Some(tap), Poll::Ready(Ok(count))) = (tap, &written) {
            tap.went(bytes.get(..*count).unwrap_or_default());
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Local(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
            Wire::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Local(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Gone => Poll::Ready(Err(gone())),
        }
    }
}
