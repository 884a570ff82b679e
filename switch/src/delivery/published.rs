//! What DNS and the web say of a domain: its MX hosts, and what is to be asked of each.
//!
//! | route | a host is asked for |
//! |---|---|
//! | `tls: dane` | what its TLSA records name, if it, its addresses and they are signed; nothing more than `may` else (RFC 7672 2.2) |
//! | `tls: mta-sts` | a certificate for its name, if the domain's policy enforces; and it must be in the policy (RFC 8461 5) |
//! | any other | what the route says |
//!
//! What cannot be looked up now is never taken for nothing: the host is left out, and the mail waits if none is left.

use std::collections::{HashMap, VecDeque};

use lookup::{Answer, Found, Resolver};
use mail_model::{Domain, EnhancedStatus, Reply};
use routing::mx::{self, Candidate, Exchange, HostAnswer, MxFault};
use routing::sts::{StsMode, StsPolicy};
use routing::{Host, HostPort, Roots, TlsPolicy};
use tokio::task::JoinSet;

use super::context::Context;
use super::stop::Stop;
use crate::sts::Asking;
use crate::tls::{Demand, is_usable};

/// The hosts that take mail for `domain`, with their addresses.
pub(super) async fn stops(
    context: &Context,
    domain: &Domain,
    tls: &TlsPolicy,
) -> Result<VecDeque<Stop>, Reply> {
    let names = context.names.load_full();
    let fault = |fault: MxFault| fault.reply(domain);
    let at = |host: Host| HostPort { host, port: names.mx_port };
    if domain.is_literal() {
        let address = mx::literal(domain).ok_or_else(|| fault(MxFault::Literal))?;
        if names.own.has_any(&[address]) {
            return Err(fault(MxFault::Loop));
        }
        let host = at(Host::Address(address));
        let stop = Stop { host, addresses: Some(vec![address]), demand: Demand::of(tls), wish: None };
        return Ok(VecDeque::from([stop]));
    }
    let answer =
        names.resolver.mx(domain).await.map_err(|error| fault(MxFault::Unknown(error.to_string())))?;
    // A domain that is its own host is as trustworthy as its address.
    let signed = *tls == TlsPolicy::Dane && (answer.secure || answer.value == mx::MxAnswer::NoRecords);
    let candidates = mx::candidates(domain, answer.value, &names.own).map_err(fault)?;
    let mut asked = JoinSet::new();
    for candidate in candidates {
        let (resolver, port, domain) = (names.resolver.clone(), names.mx_port, domain.clone());
        let otherwise = Demand::of(tls);
        asked.spawn(async move {
            let (answer, demand) = look_at(&resolver, &candidate.host, signed.then_some(port), &domain).await;
            (candidate, answer, demand.unwrap_or(otherwise))
        });
    }
    let mut demands: HashMap<Domain, Demand> = HashMap::new();
    let mut found: Vec<(Candidate, HostAnswer)> = Vec::new();
    for (candidate, answer, demand) in asked.join_all().await {
        demands.insert(candidate.host.clone(), demand);
        found.push((candidate, answer));
    }
    let mut exchanges =
        mx::exchanges(domain, found, &names.own, names.order, || context.random()).map_err(fault)?;
    let mut wish = None;
    if let TlsPolicy::Sts(roots) = tls {
        let tls = context.tls.load_full();
        let asking = Asking { names: &names, tls: &tls, roots, now: context.clock.wall() };
        let policy = context.sts.of(domain, asking).await;
        let policy = policy
            .map_err(|why| waits((4, 4, 3), domain, &format!("its MTA-STS policy is unknown now: {why}")))?;
        wish = policy
            .map(|policy| apply(&policy, roots, domain, &mut exchanges, &mut demands))
            .transpose()?
            .flatten();
    }
    let stop = |exchange: Exchange| {
        let demand = demands.remove(&exchange.host).unwrap_or_else(|| Demand::of(tls));
        let host = at(Host::Name(exchange.host));
        Stop { host, addresses: Some(exchange.addresses), demand, wish: wish.clone() }
    };
    Ok(exchanges.into_iter().map(stop).collect())
}

fn waits(status: (u8, u16, u16), domain: &Domain, why: &str) -> Reply {
    let (class, subject, detail) = status;
    Reply::local(451, EnhancedStatus::new(class, subject, detail), format!("{domain}: {why}"))
}

/// The addresses of a host, and what signed DNS asks of it on `port`.
async fn look_at(
    resolver: &Resolver,
    host: &Domain,
    port: Option<u16>,
    domain: &Domain,
) -> (HostAnswer, Option<Demand>) {
    let Answer { value: addresses, secure } = match resolver.addresses(host).await {
        Ok(answer) => answer,
        Err(error) => return (HostAnswer::Unknown(error.to_string()), None),
    };
    // RFC 7672 2.2.2: records of a host whose address is not signed are not even asked for.
    let Some(port) = port.filter(|_| secure) else { return (HostAnswer::Addresses(addresses), None) };
    match resolver.tlsa(&format!("_{port}._tcp.{host}")).await {
        // RFC 7672 2.1.2: such a host is as one that cannot be reached.
        Err(error) => (HostAnswer::Unknown(error.to_string()), None),
        Ok(Answer { value: Found::Data(records), secure: true }) => {
            let usable: Vec<_> = records.into_iter().filter(is_usable).collect();
            // RFC 7672 2.2: it has TLS, and nothing to know it by.
            let demand =
                if usable.is_empty() { Demand::Encrypt } else { Demand::Named(usable, domain.clone()) };
            (HostAnswer::Addresses(addresses), Some(demand))
        }
        Ok(_) => (HostAnswer::Addresses(addresses), None),
    }
}

/// Asks of the hosts what their domain's policy says. Answers what is wished for, and not demanded.
fn apply(
    policy: &StsPolicy,
    roots: &Roots,
    domain: &Domain,
    exchanges: &mut Vec<Exchange>,
    demands: &mut HashMap<Domain, Demand>,
) -> Result<Option<Demand>, Reply> {
    match policy.mode {
        StsMode::None => Ok(None),
        StsMode::Testing => {
            for exchange in exchanges.iter().filter(|exchange| !policy.takes(&exchange.host)) {
                let reply = "the policy does not name it";
                tracing::info!(event = "sts.would_fail", host = %exchange.host, reply);
            }
            Ok(Some(Demand::Verify(roots.clone())))
        }
        StsMode::Enforce => {
            exchanges.retain(|exchange| policy.takes(&exchange.host));
            for exchange in exchanges.iter() {
                demands.insert(exchange.host.clone(), Demand::Verify(roots.clone()));
            }
            if exchanges.is_empty() {
                // RFC 8461 5: the mail waits for a policy that fits, or for the end of its lifetime.
                return Err(waits((4, 7, 5), domain, "its MTA-STS policy names none of its mail hosts"));
            }
            Ok(None)
        }
    }
}
