//! Who is at the other end of a connection, as far as those may be believed who say so.
//!
//! A balancer says it in front of everything (PROXY), a front by a command (XCLIENT). Both are believed only where the
//! listener lists them, and only about somebody else: what they say never makes a client of nobody's name trusted.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use policy::proxy::{self, Frame, Origin, ProxyFault};
use settings::Settings;
use smtp::xclient::{ClientClaim, Said};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::parts::Door;

/// How long a balancer may take for its header, which it sends with the first packet.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// A client whom a balancer or front does not name. In no network that anybody may trust.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// The client's address; IPv4 in its own form.
    pub(crate) client: IpAddr,
    /// Its host name, if a front said it.
    pub(crate) name: Option<Box<str>>,
    /// Who passed the connection on.
    pub(crate) via: Option<IpAddr>,
    /// A balancer's own connection, or one whose client it does not name: no client's limit counts it.
    pub(crate) unnamed: bool,
}

impl Visitor {
    /// Who connected, without anybody between.
    pub(crate) fn direct(peer: IpAddr) -> Self {
        Self { client: peer.to_canonical(), name: None, via: None, unnamed: false }
    }

    /// Who a balancer says it is.
    fn behind(balancer: IpAddr, origin: Origin) -> Self {
        let via = Some(balancer);
        match origin {
            Origin::Client(address) => Self { via, ..Self::direct(address.ip()) },
            Origin::Balancer => Self { via, unnamed: true, ..Self::direct(balancer) },
            Origin::Unknown => Self { via, unnamed: true, ..Self::direct(NOBODY) },
        }
    }

    /// Whose connections and deeds are counted for it, if anybody's.
    pub(crate) fn counted(&self) -> Option<IpAddr> {
        (!self.unnamed).then_some(self.client)
    }

    /// What a front says replaces what was known.
    pub(crate) fn passed_on(&self, claim: &ClientClaim) -> Self {
        let mut visitor = self.clone();
        visitor.via = self.via.or(Some(self.client));
        match claim.address {
            Said::Nothing => {}
            Said::Unavailable => (visitor.client, visitor.unnamed) = (NOBODY, true),
            Said::Is(address) => (visitor.client, visitor.unnamed) = (address, false),
        }
        match &claim.name {
            Said::Nothing => {}
            Said::Unavailable => visitor.name = None,
            Said::Is(name) => visitor.name = Some(name.clone()),
        }
        visitor
    }
}

/// True if whoever connects from `peer` to this door must say whose connection it is.
pub(crate) fn is_balancer(settings: &Settings, door: Door, peer: IpAddr) -> bool {
    let listener = settings.listeners.get(door.index).filter(|listener| listener.proxy_protocol);
    let peer = peer.to_canonical();
    listener.is_some_and(|listener| listener.proxy_from.iter().any(|network| network.contains(&peer)))
}

/// True if `client` may say at this door whose session it passes on.
pub(crate) fn is_front(settings: &Settings, door: Door, client: IpAddr) -> bool {
    let listener = settings.listeners.get(door.index);
    listener.is_some_and(|listener| listener.xclient_from.iter().any(|network| network.contains(&client)))
}

/// True if `client` may name at this door what it hands over.
pub(crate) fn is_known_switch(settings: &Settings, door: Door, client: IpAddr) -> bool {
    let listener = settings.listeners.get(door.index);
    listener.is_some_and(|listener| listener.once_from.iter().any(|network| network.contains(&client)))
}

/// Why nobody is known behind a balancer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Nameless {
    /// What came is no header.
    #[error(transparent)]
    Fault(#[from] ProxyFault),
    /// It did not come.
    #[error("no PROXY header within 5 s; let the balancer send one, or take it out of proxy_from")]
    TimedOut,
    /// The connection ended: a check that only connects, or a broken line.
    #[error(transparent)]
    Gone(#[from] io::Error),
}

/// Reads the balancer's header and not one byte more.
pub(crate) async fn introduced(stream: &mut TcpStream, balancer: IpAddr) -> Result<Visitor, Nameless> {
    let header = timeout(HEADER_TIME, header(stream)).await.map_err(|_| Nameless::TimedOut)??;
    Ok(Visitor::behind(balancer.to_canonical(), proxy::origin(&header)?))
}

async fn header(stream: &mut TcpStream) -> Result<Vec<u8>, Nameless> {
    let mut header = Vec::new();
    let mut seen = [0; 512];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let held = header.len();
        header.extend(seen.iter().take(count));
        let frame = proxy::frame(&header)?;
        if let Frame::Whole(length) = frame {
            header.truncate(length);
        }
        // What was looked at and belongs to the header is taken, so that the next look waits for new bytes.
        let mut taken = vec![0; header.len().saturating_sub(held)];
        stream.read_exact(&mut taken).await?;
        if matches!(frame, Frame::Whole(_)) {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_a_balancer_or_front_names_is_taken_for_itself() {
        let balancer = IpAddr::from([127, 0, 0, 1]);
        let unknown = Visitor::behind(balancer, Origin::Unknown);
        assert_eq!((unknown.client, unknown.via, unknown.unnamed), (NOBODY, Some(balancer), true));
        let check = Visitor::behind(balancer, Origin::Balancer);
        assert_eq!((check.client, check.unnamed), (balancer, true));
        let client = Visitor::behind(balancer, Origin::Client("[::ffff:192.0.2.7]:5".parse().unwrap()));
        assert_eq!((client.client, client.unnamed), (IpAddr::from([192, 0, 2, 7]), false));
        let claim = ClientClaim { address: Said::Unavailable, ..ClientClaim::default() };
        assert_eq!(Visitor::direct(balancer).passed_on(&claim).client, NOBODY);
        let claim = ClientClaim { name: Said::Is("c.test".into()), ..ClientClaim::default() };
        let named = client.passed_on(&claim);
        assert_eq!(
            (named.client, named.name.as_deref(), named.via),
            (client.client, Some("c.test"), Some(balancer))
        );
    }
}
