//! The part of `limits` that is about clients: how much each may do, and how long it may take.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use message::ShapeLimits;
use policy::limits::{ClientLimits, PerMinute};
use routing::RelayPolicy;
use smtp::session::{EarlyTalk, Pipelining, SessionConfig};

use super::networks::networks;
use crate::model::{ClusterSettings, LimitSettings};
use crate::reader::{At, Reader};

/// Clients keep to the numbers of Postfix unless something else is written.
const NETWORK_FACTOR: u64 = 5;
const TARPIT_AFTER: u64 = 10;
const TARPIT: Duration = Duration::from_secs(1);
/// Far more than any mail has that is meant to be read.
const HEADER_SIZE: u64 = 1 << 20;
const HEADER_FIELDS: u32 = 2_000;
const MIME_DEPTH: u32 = 100;
const INSPECTION_MEMORY: u64 = 512 << 20;
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Reads the bounds of clients, and those of their sessions into `session`. Who is exempt is read by [`exempt`].
pub(super) fn clients<'a>(read: &mut Reader<'a>, at: &At<'a>, session: &mut SessionConfig) -> ClientLimits {
    let minute = at.key("per_minute");
    let mut bound = |key: &str| number(read, &minute.key(key), 1..=10_000_000).and_then(NonZeroU32::new);
    let per_minute = PerMinute {
        connections: bound("connections"),
        messages: bound("messages"),
        recipients: bound("recipients"),
        commands: bound("commands"),
        errors: bound("errors"),
    };
    let factor = read.number(&at.key("network_factor"), 1..=65_536).unwrap_or(NETWORK_FACTOR);
    let factor = u32::try_from(factor).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let after = read.number(&at.key("tarpit_after"), 0..=1_000).unwrap_or(TARPIT_AFTER);
    let pauses = Duration::ZERO..=PAUSE_MAX;
    let limits = ClientLimits {
        per_minute,
        network_factor: factor,
        exempt: Vec::new(),
        greet_delay: read.duration(&at.key("greet_delay"), pauses.clone()).unwrap_or_default(),
        tarpit: read.duration(&at.key("tarpit"), pauses).unwrap_or(TARPIT),
        tarpit_after: u32::try_from(after).unwrap_or(u32::MAX),
    };
    sessions(read, at, session);
    limits
}

fn sessions<'a>(read: &mut Reader<'a>, at: &At<'a>, session: &mut SessionConfig) {
    let bounds = &mut session.limits;
    if let Some(errors) = number(read, &at.key("errors"), 1..=10_000) {
        bounds.errors = errors;
    }
    if let Some(commands) = number(read, &at.key("commands_without_mail"), 1..=1_000_000) {
        bounds.commands_without_mail = commands;
    }
    for (key, place) in [
        ("command_timeout", &mut bounds.command_ms),
        ("data_timeout", &mut bounds.data_ms),
        ("message_timeout", &mut bounds.message_ms),
        ("session_timeout", &mut bounds.session_ms),
    ] {
        let span = read.duration(&at.key(key), Duration::from_secs(1)..=Duration::from_hours(24));
        if let Some(span) = span.and_then(|span| u64::try_from(span.as_millis()).ok()) {
            *place = span;
        }
    }
    if let Some(rate) = read.size(&at.key("data_rate"), 0..=1 << 20, "0B", "1MiB") {
        bounds.data_rate = rate;
    }
    let early = read.parsed(&at.key("early_talk"), |text| match text {
        "refuse" => Ok(EarlyTalk::Refuse),
        "tolerate" => Ok(EarlyTalk::Tolerate),
        other => Err(format!("'{other}' is neither; write refuse or tolerate")),
    });
    session.early_talk = early.unwrap_or_default();
    let pipelining = read.parsed(&at.key("pipelining"), |text| match text {
        "strict" => Ok(Pipelining::Strict),
        "tolerate" => Ok(Pipelining::Tolerate),
        other => Err(format!("'{other}' is neither; write tolerate or strict")),
    });
    session.pipelining = pipelining.unwrap_or_default();
}

/// What all messages under inspection may take. The default grows with `message_size`; what is written must hold one message.
pub(super) fn inspection_memory<'a>(read: &mut Reader<'a>, at: &At<'a>, message_size: u64) -> u64 {
    let at = at.key("inspection_memory");
    let written = read.size(&at, 1 << 20..=1 << 40, "1MiB", "1TiB");
    if written.is_some_and(|written| written < message_size) {
        let what = format!(
            "less than limits.message_size ({message_size} bytes), so that the largest message could never be taken; raise it"
        );
        read.fault(&at, what);
    }
    written.unwrap_or(INSPECTION_MEMORY.max(message_size))
}

/// How a message may be built.
pub(super) fn shape<'a>(read: &mut Reader<'a>, at: &At<'a>) -> ShapeLimits {
    let size = read.size(&at.key("header_size"), 64 << 10..=64 << 20, "64KiB", "64MiB");
    ShapeLimits {
        header_size: size.unwrap_or(HEADER_SIZE),
        header_fields: number(read, &at.key("header_fields"), 100..=1_000_000).unwrap_or(HEADER_FIELDS),
        mime_depth: number(read, &at.key("mime_depth"), 1..=1_000).unwrap_or(MIME_DEPTH),
    }
}

/// Who is exempt: whoever is written, else the trusted networks; and always the nodes of the cluster, whose monitors and
/// deliveries come from there.
pub(super) fn exempt<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    cluster: &ClusterSettings,
    relay: &RelayPolicy,
    limits: &mut LimitSettings,
) {
    let written = at.key("exempt");
    let mut exempt =
        if written.is_there() { networks(read, &written) } else { relay.trusted_networks.clone() };
    let peers = cluster.nodes.iter().flat_map(|node| node.heartbeat.iter().chain(&node.control));
    exempt
        .extend(peers.map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| net(ip.to_canonical())));
    exempt.sort_unstable();
    exempt.dedup();
    limits.clients.exempt = exempt;
}

fn net(address: IpAddr) -> IpNet {
    address.into()
}

fn number<'a>(read: &mut Reader<'a>, at: &At<'a>, bounds: std::ops::RangeInclusive<u64>) -> Option<u32> {
    read.number(at, bounds).and_then(|number| u32::try_from(number).ok())
}
