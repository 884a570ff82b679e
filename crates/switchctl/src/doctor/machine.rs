//! What the machine must give: ports, open files, names.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use control::switch::{Answer, Request};
use lookup::Resolver;
use mail_model::{Domain, QueueId};
use nix::sys::resource::{Resource, getrlimit};
use routing::{Host, NextHop};
use settings::Settings;

use super::finding::Findings;
use crate::command::{Context, runtime};
use crate::lights::Light;

/// Sockets of a switch that are no connections: journal, control, tables.
const OTHER_FILES: u64 = 200;

pub(super) fn look(context: &Context, findings: &mut Findings) {
    let own = QueueId::of(context.settings.node.id.clone());
    let running = match context.ask_switch(&own, Request::Status) {
        Ok(Answer::Status(status)) => Some(status.pid),
        Ok(
            Answer::Ready(_)
            | Answer::Done { .. }
            | Answer::Operated(_)
            | Answer::Traced(_)
            | Answer::Metrics { .. },
        )
        | Err(_) => None,
    };
    ports(&context.settings, running.is_some(), findings);
    open_files(&context.settings, running, findings);
    own_name(&context.settings, findings);
    dns(&context.settings, findings);
}

/// Nobody else has them. A running switch has its own.
fn ports(settings: &Settings, running: bool, findings: &mut Findings) {
    let check = "ports";
    let listeners = settings.listeners.iter().map(|listener| ("listeners", listener.address));
    let places: Vec<(&str, SocketAddr)> =
        listeners.chain(settings.health.map(|address| ("health.address", address))).collect();
    for (key, address) in places {
        match (TcpListener::bind(address), running) {
            (Ok(_), true) => {
                let remedy = "it was started with another configuration: systemctl restart switch@NODE";
                findings.bad(
                    check,
                    format_args!("{key} {address}: the switch runs and does not listen there"),
                    remedy,
                );
            }
            (Ok(_), false) => {
                findings.ok(check, format_args!("{key} {address}: free, and the switch does not run"));
            }
            (Err(error), true) if error.kind() == std::io::ErrorKind::AddrInUse => {
                findings.ok(check, format_args!("{key} {address}: in use while the switch runs"));
            }
            // The unit has the right to these ports, whoever calls doctor may have not.
            (Err(error), _) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                findings.ok(check, format_args!("{key} {address}: this user cannot try it"));
            }
            (Err(error), _) => {
                let remedy = format!(
                    "see who has it: ss -ltnp 'sport = :{}'; is the address this machine's?",
                    address.port()
                );
                findings.bad(check, format_args!("{key} {address}: {error}"), remedy);
            }
        }
    }
}

/// Enough for every connection that is allowed.
fn open_files(settings: &Settings, running: Option<u32>, findings: &mut Findings) {
    let needed = u64::try_from(settings.limits.connections.saturating_add(settings.limits.concurrency.total))
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    let (whose, limit) = match running.and_then(limit_of) {
        Some(limit) => ("of the switch", limit),
        // The switch raises its own to what is allowed.
        None => ("allowed here", getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard)),
    };
    let state = if limit < needed { Light::Amber } else { Light::Green };
    findings.add(
        "open_files",
        state,
        &format_args!("{limit} {whose}; all connections together may need {needed}"),
        &"raise LimitNOFILE of the unit, or lower limits.connections",
    );
}

/// The soft limit of a process.
fn limit_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Others look up the name that is said in EHLO.
fn own_name(settings: &Settings, findings: &mut Findings) {
    let name = settings.node.hostname.to_string();
    let remedy =
        "set node.hostname to a name that DNS leads to this node, or to the address its mail comes from";
    match (name.as_str(), 25).to_socket_addrs().map(Iterator::count) {
        Ok(count) if count > 0 => findings.ok("hostname", &name),
        Ok(_) => findings.warn("hostname", format_args!("{name} has no address"), remedy),
        Err(error) => findings.warn("hostname", format_args!("{name}: {error}"), remedy),
    }
}

/// Every name that a route asks of DNS.
fn dns(settings: &Settings, findings: &mut Findings) {
    let check = "dns";
    let hops: Vec<&NextHop> = settings.routes.iter().filter_map(|route| route.target.next_hop()).collect();
    let names: BTreeSet<&Domain> =
        hops.iter().flat_map(|hop| hop.hosts()).filter_map(|host| name(&host.host)).collect();
    let mx = hops.iter().any(|hop| hop.is_mx());
    if names.is_empty() && !mx {
        findings.ok(check, "no route needs it");
        return;
    }
    let remedy = "look at dns.servers and /etc/resolv.conf; does a firewall let port 53 pass, UDP and TCP?";
    let resolver = match Resolver::new(&settings.dns) {
        Ok(resolver) => resolver,
        Err(error) => return findings.bad(check, error, remedy),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return findings.bad(check, error, "raise the limit of processes of this user"),
    };
    for name in names {
        match runtime.block_on(resolver.host(name)) {
            Ok(found) if found.is_empty() => {
                findings.bad(check, format_args!("{name} has no address"), "mend the route, or the name");
            }
            Ok(found) => findings.ok(check, format_args!("{name} has {} addresses", found.len())),
            Err(error) => findings.bad(check, error, remedy),
        }
    }
    // Any domain will do: that it has no mail hosts is an answer too.
    let domain = settings.node.hostname.clone();
    if mx {
        match runtime.block_on(resolver.mx(&domain)) {
            Ok(_) => {
                findings.ok(check, format_args!("a question for the mail hosts of {domain} was answered"));
            }
            Err(error) => findings.bad(check, error, remedy),
        }
    }
}

fn name(host: &Host) -> Option<&Domain> {
    match host {
        Host::Name(name) => Some(name),
        Host::Address(_) | Host::Socket(_) => None,
    }
}
