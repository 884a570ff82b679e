//! The hosts of a next hop, looked up and tried one after the other.
//!
//! Written hosts are looked up when it is their turn; MX hosts all at once, because one of them may be this switch, and then
//! those behind it are none of ours to speak to. Never: a host that is left out by `routing::mx`.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;

use mail_model::{EnhancedStatus, Reply};
use routing::{Credentials, Host, HostPort, Identity, NextHop, Protocol};
use settings::EightBit;

use super::connection::{Approach, Connection, Failure, unreachable};
use super::context::{Context, Phase};
use super::published;
use super::stop::Stop;
use crate::tls::Demand;

/// Those that were not tried yet.
#[derive(Debug)]
pub(crate) struct Walk {
    stops: VecDeque<Stop>,
    manner: Manner,
    /// They are MX hosts: their order is not always the same.
    is_mx: bool,
}

/// What is the same for all of them.
#[derive(Debug)]
struct Manner {
    protocol: Protocol,
    wrapped: bool,
    credentials: Option<Credentials>,
    identity: Option<Identity>,
    /// The next hop, for people.
    hop: String,
}

impl Walk {
    /// All hosts of `hop`. The error is what is said to the recipients: for good, or for now.
    pub(crate) async fn of(context: &Context, hop: &NextHop) -> Result<Self, Reply> {
        let stops = if let Some(domain) = hop.mx_domain() {
            unless_stopped(context, published::stops(context, domain, hop.tls())).await??
        } else {
            let demand = Demand::of(hop.tls());
            // There is no way to speak to it in clear.
            let in_clear = matches!(demand, Demand::Clear | Demand::May);
            let demand = if hop.is_wrapped() && in_clear { Demand::Encrypt } else { demand };
            let stop = |host: &HostPort| Stop {
                host: host.clone(),
                addresses: None,
                demand: demand.clone(),
                wish: None,
            };
            hop.hosts().iter().map(stop).collect()
        };
        let manner = Manner {
            protocol: hop.protocol(),
            wrapped: hop.is_wrapped(),
            credentials: hop.credentials().cloned(),
            identity: hop.identity().cloned(),
            hop: hop.to_string(),
        };
        Ok(Self { stops, manner, is_mx: hop.is_mx() })
    }

    /// Those that are tried when `host` failed.
    pub(crate) fn after(mut self, host: &HostPort) -> Self {
        if self.is_mx {
            self.stops.retain(|stop| stop.host != *host);
        } else if let Some(position) = self.stops.iter().position(|stop| stop.host == *host) {
            self.stops.drain(..=position);
        } else {
            self.stops.clear();
        }
        self
    }

    /// A new connection to the next host that gives service. RFC 5321 5.1: the others are tried in order.
    pub(crate) async fn next(&mut self, context: &Context) -> Result<Connection, Reply> {
        let mut failure = stopped();
        while let Some(stop) = self.stops.pop_front() {
            match unless_stopped(context, open(context, &self.manner, stop)).await? {
                Ok(connection) => return Ok(connection),
                Err(reply) => failure = reply,
            }
        }
        Err(failure)
    }
}

fn stopped() -> Reply {
    Reply::local(451, EnhancedStatus::new(4, 3, 2), "delivery was stopped")
}

async fn unless_stopped<T>(context: &Context, work: impl Future<Output = T>) -> Result<T, Reply> {
    let mut phase = context.phase.subscribe();
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Stopped) => Err(stopped()),
        done = work => Ok(done),
    }
}

/// The addresses of a host that a route names.
async fn resolve(context: &Context, host: &HostPort) -> Result<Vec<IpAddr>, Reply> {
    match &host.host {
        Host::Address(address) => Ok(vec![*address]),
        Host::Socket(_) => Ok(Vec::new()),
        Host::Name(name) => {
            let found = context.names.load_full().resolver.host(name).await;
            // RFC 3463 3.5: directory server failure.
            found.map_err(|error| {
                let text = format!("{host}: the name cannot be looked up now: {error}");
                Reply::local(451, EnhancedStatus::new(4, 4, 3), text)
            })
        }
    }
}

/// A new connection to a host, as it is asked for.
async fn open(context: &Context, manner: &Manner, stop: Stop) -> Result<Connection, Reply> {
    let Stop { host, addresses, demand, wish } = stop;
    let addresses = match addresses {
        Some(addresses) => addresses,
        None => resolve(context, &host).await?,
    };
    let is_socket = matches!(host.host, Host::Socket(_));
    if addresses.is_empty() && !is_socket {
        return Err(unreachable(&host, "the name has no address"));
    }
    let door = Door { context, manner, host: &host, addresses: &addresses };
    if let Some(wish) = wish {
        match door.open(&wish).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => tracing::info!(event = "sts.would_fail", %host, reply = %failure.reply),
        }
    }
    door.open_leniently(&demand).await
}

/// A host whose addresses are known.
#[derive(Clone, Copy)]
struct Door<'a> {
    context: &'a Context,
    manner: &'a Manner,
    host: &'a HostPort,
    addresses: &'a [IpAddr],
}

impl Door<'_> {
    async fn open(self, demand: &Demand) -> Result<Connection, Failure> {
        let settings = self.context.settings.load_full();
        let tls = self.context.tls.load_full();
        let owner = settings.delivery.owner(self.context.queue.id());
        let approach = Approach {
            protocol: self.manner.protocol,
            wrapped: self.manner.wrapped,
            name: owner.and_then(|owner| owner.ehlo.as_ref()).unwrap_or(&settings.node.hostname),
            source: owner.map_or(&[], |owner| &owner.source),
            timeouts: &settings.limits.send,
            demand,
            credentials: self.manner.credentials.as_ref(),
            identity: self.manner.identity.as_ref(),
            tls: &tls,
            tracers: &self.context.tracers,
            hop: &self.manner.hop,
            handshake: settings.limits.tls_handshake,
            takes_eight_bit: settings.delivery.eight_bit == EightBit::Send,
        };
        let opened = approach.open(self.host, self.addresses).await;
        let handshakes = &self.context.counters.handshakes;
        match &opened {
            Ok(connection) if connection.is_secured() => handshakes.add(["out", "done"], 1),
            Err(failure) if failure.of_tls => handshakes.add(["out", "failed"], 1),
            Ok(_) | Err(_) => {}
        }
        opened
    }

    /// A host that may be spoken to in clear is, on another connection, if its TLS does not work.
    async fn open_leniently(self, demand: &Demand) -> Result<Connection, Reply> {
        let (clear, host) = (&self.context.clear, self.host);
        let plainly = |failure: Failure| failure.reply;
        let may_be_clear = *demand == Demand::May;
        if may_be_clear && clear.holds(host, self.context.clock.now()) {
            return self.open(&Demand::Clear).await.map_err(plainly);
        }
        match self.open(demand).await {
            Err(failure) if failure.of_tls && may_be_clear => {
                tracing::info!(event = "tls.next_hop_failed", %host, reply = %failure.reply);
                let opened = self.open(&Demand::Clear).await.map_err(plainly)?;
                // A host that is just not reached says nothing about its TLS.
                clear.remember(host, self.context.clock.now());
                Ok(opened)
            }
            opened => opened.map_err(plainly),
        }
    }
}
