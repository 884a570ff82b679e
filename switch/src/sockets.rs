//! Listening sockets that the service manager holds for us (`switch-smtp@.socket` and its like).
//!
//! Each belongs to the listener of the configuration that has the very same address. One that belongs to none is refused:
//! clients would be taken by the kernel and never be greeted.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use daemon_kit::sockets::{self, Inherited};
use socket2::Socket;

/// What was handed down and is not taken yet.
#[derive(Debug, Default)]
pub(crate) struct HandedDown(Vec<(String, SocketAddr, TcpListener)>);

impl HandedDown {
    /// Takes them from the environment of this process.
    pub(crate) fn receive() -> Result<Self> {
        let inherited = sockets::inherited().context("cannot take the sockets of the service manager")?;
        inherited.into_iter().map(adopted).collect::<Result<_>>().map(Self)
    }

    /// The one that listens on `address`.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(_, held, _)| *held == address)?;
        let (name, _, listener) = self.0.swap_remove(place);
        tracing::info!(event = "intake.handed_down", %address, name);
        Some(listener)
    }

    /// Refuses what nobody took.
    pub(crate) fn end(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, address, _)) => bail!(
                "the service manager holds socket '{name}' on {address}, and no listener of the configuration has this \
                 address; add 'listeners: [{{ address: {address} }}]', or disable its socket unit"
            ),
        }
    }
}

fn adopted(inherited: Inherited) -> Result<(String, SocketAddr, TcpListener)> {
    let Inherited { name, socket } = inherited;
    let socket = Socket::from(socket);
    if !socket.is_listener().unwrap_or(false) {
        bail!("socket '{name}' of the service manager does not listen; write ListenStream= in its unit");
    }
    let address = socket.local_addr().context("cannot read the address of a socket")?;
    let Some(address) = address.as_socket() else {
        bail!("socket '{name}' of the service manager is no TCP socket; write ADDRESS:PORT in its unit");
    };
    socket.set_nonblocking(true).context("cannot use a socket of the service manager")?;
    Ok((name, address, socket.into()))
}
