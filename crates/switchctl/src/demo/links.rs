//! Heartbeat links that can be cut: a UDP relay for each ordered pair of nodes. What a node sends to a peer goes to the
//! relay, and on to the peer while neither is cut off. Storage is not touched: this is a network partition and no more.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::site::free_udp;

/// Longer than any heartbeat.
const DATAGRAM_BYTES: usize = 2048;

/// All relays of a site.
#[derive(Debug, Clone, Default)]
pub struct Links {
    cut_off: Arc<Mutex<BTreeSet<usize>>>,
}

impl Links {
    /// Opens a relay from node `from` to node `to`, which listens at `target`, and returns the address to send to. Its
    /// task ends with the runtime.
    pub fn relay(&self, from: usize, to: usize, target: SocketAddr) -> Result<SocketAddr> {
        let address = free_udp()?;
        let socket =
            std::net::UdpSocket::bind(address).with_context(|| format!("open a link at {address}"))?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let links = self.clone();
        tokio::spawn(async move {
            let mut datagram = [0; DATAGRAM_BYTES];
            loop {
                // An error here is the refusal of an earlier datagram by a peer that is down: that is its business.
                let Ok((len, _)) = socket.recv_from(&mut datagram).await else { continue };
                if !links.is_cut(from, to) {
                    socket.send_to(datagram.get(..len).unwrap_or_default(), target).await.ok();
                }
            }
        });
        Ok(address)
    }

    /// Cuts a node off from all others, or joins it again.
    pub fn set_cut(&self, node: usize, cut: bool) {
        let mut cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        if cut {
            cut_off.insert(node);
        } else {
            cut_off.remove(&node);
        }
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        cut_off.contains(&from) || cut_off.contains(&to)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_link_carries_nothing_while_one_of_its_ends_is_cut_off() {
        let links = Links::default();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let cut = links.relay(0, 1, peer.local_addr().unwrap()).unwrap();
        let whole = links.relay(0, 2, peer.local_addr().unwrap()).unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut datagram = [0; 16];
        from.send_to(b"before", cut).unwrap();
        assert_eq!(peer.recv(&mut datagram).unwrap(), b"before".len());
        links.set_cut(1, true);
        from.send_to(b"cut", cut).unwrap();
        from.send_to(b"another link", whole).unwrap();
        let len = peer.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..len], b"another link");
        peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(peer.recv(&mut datagram).is_err(), "a link that is cut carried something");
    }
}
