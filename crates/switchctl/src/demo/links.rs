//! Heartbeat links that can be cut: a UDP relay for each ordered pair of nodes. What a node sends to a peer goes to the
//! relay, and on to the peer while the link is up. Storage is not touched, so this is a network partition and no more.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// All relays of a site, cut and mended together.
#[derive(Debug, Clone, Default)]
pub struct Links {
    cut: Arc<AtomicBool>,
}

impl Links {
    /// Opens a relay to `target` and returns the address to send to. Its task ends with the runtime.
    pub fn relay_to(&self, target: SocketAddr) -> Result<SocketAddr> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("open a heartbeat link")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let cut = Arc::clone(&self.cut);
        tokio::spawn(async move {
            let mut datagram = [0; 2048];
            while let Ok((len, _)) = socket.recv_from(&mut datagram).await {
                if !cut.load(Ordering::Relaxed) {
                    // A peer that is down refuses: that is its business, and the next datagram tries again.
                    socket.send_to(datagram.get(..len).unwrap_or_default(), target).await.ok();
                }
            }
        });
        Ok(address)
    }

    /// Cuts or mends every link.
    pub fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}
