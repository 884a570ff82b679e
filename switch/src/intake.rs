//! SMTP in: listeners, a bound on connections, and a task for each session.
//!
//! | file | noun |
//! |---|---|
//! | `admission` | how many connections there may be |
//! | `checks` | what DNS says of a stranger |
//! | `inspection` | who must see a whole message before its 250 |
//! | `outcome` | what they say of it, carried out |
//! | `parts` | what every session needs of the rest of the switch |
//! | `login` | whether a client is the user it says |
//! | `named` | a message that another switch hands over under a name |
//! | `conversation` | one connection, from greeting to close |
//! | `pickup` | mail that was left in the maildrop |
//! | `turns` | one at a time of those who hand over the same message |
//! | `visitor` | who is at the other end, behind a balancer or a front too |
//! | `upload` | one message on its way into the queue |
//!
//! Never answers 250 to a message unless the queue said that it is durable and this owner was not fenced.

mod admission;
mod checks;
mod conversation;
mod inspection;
mod login;
mod named;
mod outcome;
mod parts;
mod pickup;
mod recipients;
mod turns;
mod upload;
mod visitor;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use settings::TlsMode;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::inspection::{Inspection, LiveInspection};
pub(crate) use self::login::{LiveDirectory, Logins, directory};
pub(crate) use self::parts::{Door, Notice, Parts, Phase};
pub(crate) use self::turns::Turns;

use self::admission::{Admission, Crowded, Place};
use self::conversation::Conversation;
use self::visitor::{Nameless, Visitor};

/// Connections the kernel holds for us until we take them.
const BACKLOG: i32 = 1024;
/// The pause after a failed accept (out of file descriptors): long enough not to spin, short enough to recover.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket. Clients wait in its backlog until [`Intake::listen`].
pub(crate) fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A restarted switch must not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// All sessions of all listeners.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    parts: Arc<Parts>,
    admission: Arc<Admission>,
}

impl Intake {
    /// Without a listener yet.
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), admission: Arc::new(Admission::default()) }
    }

    /// Takes mail that is left in `directory`, from now on. Within a tokio runtime.
    pub(crate) fn pick_up(&self, directory: PathBuf) {
        tokio::spawn(pickup::run(Arc::clone(&self.parts), directory));
    }

    /// Takes connections of `listener`, which is `door`, until the program ends. Within a tokio runtime.
    pub(crate) fn listen(&self, listener: StdListener, door: Door) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        tracing::info!(event = "intake.listening", %address);
        let intake = self.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => intake.take(stream, peer, door),
                    Err(error) => {
                        tracing::warn!(event = "intake.accept_failed", %address, %error);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Ok(())
    }

    fn take(&self, mut stream: TcpStream, peer: SocketAddr, door: Door) {
        let settings = self.parts.settings.load();
        let balancer = visitor::is_balancer(&settings, door, peer.ip());
        // An IPv4 client of a listener on `[::]` is the same client. A balancer has everybody's connections.
        let visitor = Visitor::direct(peer.ip());
        let client = (!balancer).then_some(visitor.client);
        let place = match self.admission.enter(self.parts.clock.now(), client, &settings.limits) {
            Ok(place) => place,
            Err(crowded) => return turn_away(&stream, visitor.client, crowded, door, &self.parts),
        };
        let parts = Arc::clone(&self.parts);
        tokio::spawn(async move {
            let (visitor, place) = if balancer {
                match introduced(&mut stream, peer.ip(), place, door, &parts).await {
                    Some(known) => known,
                    None => return,
                }
            } else {
                (visitor, place)
            };
            if !visitor.unnamed {
                parts.counters.sessions.add(1);
            }
            Conversation::new(stream, visitor, place, parts, door).run().await;
        });
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.admission.open()
    }

    /// Returns when no connection is open.
    pub(crate) async fn finished(&self) {
        self.admission.empty().await;
    }
}

/// Whose connection a balancer passes on, and its place among that client's. `None` if it has no future.
async fn introduced(
    stream: &mut TcpStream,
    balancer: IpAddr,
    mut place: Place,
    door: Door,
    parts: &Parts,
) -> Option<(Visitor, Place)> {
    match visitor::introduced(stream, balancer).await {
        Ok(visitor) => {
            let limits = &parts.settings.load().limits;
            if let Err(crowded) = place.move_to(parts.clock.now(), visitor.counted(), limits) {
                turn_away(stream, visitor.client, crowded, door, parts);
                return None;
            }
            Some((visitor, place))
        }
        // A check that only connects.
        Err(error @ Nameless::Gone(_)) => {
            tracing::debug!(event = "session.cut", client = %balancer, %error);
            None
        }
        Err(error @ (Nameless::Fault(_) | Nameless::TimedOut)) => {
            parts.counters.refusals.add(["connection", "proxy"], 1);
            tracing::warn!(event = "proxy.refused", %balancer, %error);
            None
        }
    }
}

fn turn_away(stream: &TcpStream, client: IpAddr, crowded: Crowded, door: Door, parts: &Parts) {
    let line = match crowded {
        Crowded::All => &b"421 4.3.2 too many connections, try again later\r\n"[..],
        Crowded::Client => b"421 4.7.0 too many connections from you, try again later\r\n",
        Crowded::Network => b"421 4.7.0 too many connections from your network, try again later\r\n",
        Crowded::Rate => b"421 4.7.0 too many connections in a short time, try again later\r\n",
    };
    parts.counters.refusals.add(["connection", crowded.reason()], 1);
    // A fresh socket has room for a line, so nothing is waited for and no task is spent on it. A client that
    // expects TLS would not understand it.
    let told = door.mode == TlsMode::StartTls && SockRef::from(stream).send(line).is_ok();
    tracing::info!(event = "intake.turned_away", %client, scope = crowded.name(), told);
}
