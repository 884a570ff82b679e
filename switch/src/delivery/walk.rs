//! The hosts of a next hop, looked up and tried one after the other.
//!
//! Written hosts are looked up when it is their turn; MX hosts all at once, because one of them may be this switch, and then
//! those behind it are none of ours to speak to. Never: a host that is left out by `routing::mx`.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;

use mail_model::{Domain, EnhancedStatus, Reply};
use routing::mx::{self, Candidate, HostAnswer, MxFault};
use routing::{Host, HostPort, NextHop, Protocol, TlsPolicy};
use tokio::task::JoinSet;

use super::connection::{Approach, Connection, Failure, unreachable};
use super::context::{Context, Phase};

/// One of them.
#[derive(Debug)]
struct Stop {
    host: HostPort,
    /// `None` if they are still to be looked up.
    addresses: Option<Vec<IpAddr>>,
}

/// Those that were not tried yet.
#[derive(Debug)]
pub(crate) struct Walk {
    stops: VecDeque<Stop>,
    protocol: Protocol,
    tls: TlsPolicy,
    /// They are MX hosts: their order is not always the same.
    is_mx: bool,
}

impl Walk {
    /// All hosts of `hop`. The error is what is said to the recipients: for good, or for now.
    pub(crate) async fn of(context: &Context, hop: &NextHop) -> Result<Self, Reply> {
        let stops = match hop.mx_domain() {
            Some(domain) => unless_stopped(context, mx_hosts(context, domain)).await??,
            None => hop.hosts().iter().map(|host| Stop { host: host.clone(), addresses: None }).collect(),
        };
        Ok(Self { stops, protocol: hop.protocol(), tls: hop.tls().clone(), is_mx: hop.is_mx() })
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
            match unless_stopped(context, open(context, self.protocol, &self.tls, &stop)).await? {
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

/// The hosts that take mail for `domain`, with their addresses.
async fn mx_hosts(context: &Context, domain: &Domain) -> Result<VecDeque<Stop>, Reply> {
    let names = context.names.load_full();
    let fault = |fault: MxFault| fault.reply(domain);
    let stop = |host: Host, addresses| Stop {
        host: HostPort { host, port: names.mx_port },
        addresses: Some(addresses),
    };
    if domain.is_literal() {
        let address = mx::literal(domain).ok_or_else(|| fault(MxFault::Literal))?;
        if names.own.has_any(&[address]) {
            return Err(fault(MxFault::Loop));
        }
        return Ok(VecDeque::from([stop(Host::Address(address), vec![address])]));
    }
    let answer =
        names.resolver.mx(domain).await.map_err(|error| fault(MxFault::Unknown(error.to_string())))?;
    let candidates = mx::candidates(domain, answer.value, &names.own).map_err(fault)?;
    let mut asked = JoinSet::new();
    for candidate in candidates {
        let resolver = names.resolver.clone();
        asked.spawn(async move {
            let answer = match resolver.addresses(&candidate.host).await {
                Ok(answer) => HostAnswer::Addresses(answer.value),
                Err(error) => HostAnswer::Unknown(error.to_string()),
            };
            (candidate, answer)
        });
    }
    let found: Vec<(Candidate, HostAnswer)> = asked.join_all().await;
    let exchanges =
        mx::exchanges(domain, found, &names.own, names.order, || context.random()).map_err(fault)?;
    Ok(exchanges.into_iter().map(|exchange| stop(Host::Name(exchange.host), exchange.addresses)).collect())
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

/// A new connection to a host. One that may be spoken to in clear is, on another connection, if its TLS does not work.
async fn open(
    context: &Context,
    protocol: Protocol,
    policy: &TlsPolicy,
    stop: &Stop,
) -> Result<Connection, Reply> {
    let host = &stop.host;
    let addresses = match &stop.addresses {
        Some(addresses) => addresses.clone(),
        None => resolve(context, host).await?,
    };
    let is_socket = matches!(host.host, Host::Socket(_));
    if addresses.is_empty() && !is_socket {
        return Err(unreachable(host, "the name has no address"));
    }
    let settings = context.settings.load_full();
    let tls = context.tls.load_full();
    let under = |policy| Approach {
        protocol,
        name: &settings.node.hostname,
        timeouts: &settings.limits.send,
        policy,
        tls: &tls,
        handshake: settings.limits.tls_handshake,
    };
    let plainly = |failure: Failure| failure.reply;
    let may_be_clear = *policy == TlsPolicy::May;
    if may_be_clear && context.clear.holds(host, context.clock.now()) {
        return under(&TlsPolicy::None).open(host, &addresses).await.map_err(plainly);
    }
    match under(policy).open(host, &addresses).await {
        Err(failure) if failure.of_tls && may_be_clear => {
            tracing::info!(event = "tls.next_hop_failed", %host, reply = %failure.reply);
            let opened = under(&TlsPolicy::None).open(host, &addresses).await.map_err(plainly)?;
            // A host that is just not reached says nothing about its TLS.
            context.clear.remember(host, context.clock.now());
            Ok(opened)
        }
        opened => opened.map_err(plainly),
    }
}
