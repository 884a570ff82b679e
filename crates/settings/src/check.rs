//! From the tree to [`Settings`]: types, bounds, and the rules between keys.

mod alerts;
mod auth;
mod authentication;
mod certificates;
mod checks;
mod clients;
mod cluster;
mod delivery;
mod dns;
mod filters;
mod name;
mod networks;
mod promoted;
mod route_auth;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use mail_model::Domain;
use routing::{NextHop, RelayPolicy, Roots, Route, Routes, Target, TlsPolicy};
use schedule::{ConcurrencyLimits, RetryPolicy};
use smtp::limits::{Limits, SendTimeouts};
use smtp::session::SessionConfig;

use self::name::host_name;
use self::networks::networks;
use crate::model::{
    Launcher, LimitSettings, ListenerSettings, LogSettings, NodeSettings, QueueSettings, Settings, Storage,
    TableFiles, TlsMode,
};
use crate::reader::{At, Reader};
use crate::source::Environment;
use crate::units;

const STATE_DIR: &str = "/var/lib/mailswitch";
const QUEUE_DIR: &str = "/var/spool/mailswitch";
const DAY: Duration = Duration::from_hours(24);

/// Reads everything. `None` only if something was noted as missing or wrong.
pub(crate) fn settings<'a>(
    read: &mut Reader<'a>,
    top: &At<'a>,
    environment: &Environment,
    hash: String,
) -> Option<Settings> {
    // No `?` before the last line: each part must have its say.
    let cluster = cluster::cluster(read, &top.key("cluster"), &top.key("node"));
    let node = node(read, &top.key("node"), cluster.as_ref().map(|c| c.id.as_str()), environment);
    let queue = queue(read, &top.key("queue"));
    let fence = promoted::fence(read, &top.key("fence"));
    if let (Storage::Promoted, Some(cluster)) = (queue.storage, &cluster) {
        promoted::whole(read, &top.key("queue"), cluster);
    }
    let listeners = listeners(read, &top.key("listeners"));
    let auth = auth::auth(read, &top.key("auth"));
    let health = served(read, &top.key("health"));
    let agent = served(read, &top.key("agent"));
    let monitor = served(read, &top.key("monitor"));
    distinct_addresses(read, top);
    let relay = relay(read, &top.key("relay"), &listeners);
    let dns = dns::dns(read, &top.key("dns"));
    let routes = routes(read, &top.key("routes"), dns.trust_ad);
    let table_files = table_files(read, &top.key("tables"));
    let checks = checks::checks(read, &top.key("checks"));
    let filters = filters::filters(read, &top.key("filters"), &listeners);
    let dkim = authentication::keys(read, &top.key("dkim"));
    let hostname = node.as_ref().map(|node| node.hostname.clone());
    let delivery = delivery::delivery(read, &top.key("delivery"));
    let bounces = delivery::bounces(read, top, hostname.as_ref(), &relay);
    let mut limits = limits(read, &top.key("limits"), hostname);
    if let (Some(limits), Some(cluster)) = (&mut limits, &cluster) {
        clients::exempt(read, &top.key("limits"), cluster, &relay, limits);
    }
    let retry = retry(read, &top.key("retry"));
    let launcher = launcher(read, &top.key("launcher"));
    let alerts = alerts::alerts(read, &top.key("alerts"));
    let log = LogSettings {
        format: read.parsed(&top.key("log").key("format"), str::parse).unwrap_or_default(),
        level: read.parsed(&top.key("log").key("level"), str::parse).unwrap_or_default(),
    };
    let postmaster = bounces.as_ref().map(|bounces| bounces.postmaster.clone());
    Some(Settings {
        cluster: cluster?,
        node: node?,
        queue,
        listeners,
        auth,
        health,
        agent,
        monitor,
        relay,
        routes,
        dns,
        table_files,
        tables: routing::Tables { postmaster, ..routing::Tables::default() },
        checks,
        filters,
        dkim,
        limits: limits?,
        retry,
        delivery,
        bounces: bounces?,
        alerts,
        log,
        fence,
        launcher,
        drill_key: None,
        hash,
    })
}

fn node<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    cluster: Option<&str>,
    environment: &Environment,
) -> Option<NodeSettings> {
    let id = read.required(&at.key("id"), cluster::node_id, "name this node, for example 'id: a'");
    let state_dir = read.path(&at.key("state_dir")).unwrap_or_else(|| STATE_DIR.into());
    let written = at.key("hostname");
    let hostname = read.parsed(&written, |text| {
        host_name(text)
            .ok_or_else(|| format!("'{text}' is not a host name; write a full one: mx1.example.test"))
    });
    let id = id?;
    // A name without a dot is no name for the outside: many servers refuse it in EHLO. RFC 5321 2.3.5.
    let machine = || environment.hostname.as_deref().filter(|name| name.contains('.')).and_then(host_name);
    let invented = || host_name(&format!("{id}.{}.invalid", cluster?));
    let hostname = hostname.or_else(machine).or_else(invented)?;
    Some(NodeSettings { id, state_dir, hostname })
}

fn queue<'a>(read: &mut Reader<'a>, at: &At<'a>) -> QueueSettings {
    let storage = read.parsed(&at.key("storage"), |text| match text {
        "shared" => Ok(Storage::Shared),
        "promoted" => Ok(Storage::Promoted),
        other => Err(format!("'{other}' is no kind of storage; write 'shared' or 'promoted'")),
    });
    QueueSettings {
        dir: read.path(&at.key("dir")).unwrap_or_else(|| QUEUE_DIR.into()),
        storage: storage.unwrap_or(Storage::Shared),
        promoted: promoted::promoted(read, &at.key("promoted")),
        segment_size: read
            .size(&at.key("segment_size"), 1 << 20..=1 << 30, "1MiB", "1GiB")
            .unwrap_or(64 << 20),
        free_space_reserve: read
            .size(&at.key("free_space_reserve"), 0..=1 << 50, "0B", "1024TiB")
            .unwrap_or(256 << 20),
    }
}

fn listeners<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Vec<ListenerSettings> {
    let mut listeners = Vec::new();
    if at.has_no_items() {
        read.fault(at, "no listener; add one, for example '- address: 0.0.0.0:25'");
    }
    for item in at.items() {
        let address =
            read.required(&item.key("address"), Reader::address, "write where to listen: 0.0.0.0:25");
        let tls = item.key("tls");
        let tls = tls.is_there().then(|| certificates::listener(read, &tls));
        let kind = auth::kind(read, &item, tls.is_some());
        let add_missing_fields = auth::add_missing_fields(read, &item.key("add_missing_fields"), kind);
        let tls_mode = tls_mode(read, &item.key("tls_mode"), tls.is_some());
        let proxied = item.key("proxy_protocol");
        let proxy_protocol = read.flag(&proxied).unwrap_or(false);
        let balancers = item.key("proxy_from");
        if balancers.is_there() && !proxy_protocol {
            read.fault(&balancers, "nobody is asked for a PROXY header; write 'proxy_protocol: true' too");
        }
        let proxy_from = if balancers.is_there() {
            networks(read, &balancers)
        } else {
            [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].map(loopback).to_vec()
        };
        let xclient_from = networks(read, &item.key("xclient_from"));
        let once_from = networks(read, &item.key("once_from"));
        let authentication = authentication::mode(read, &item.key("authentication"));
        if let Some(address) = address {
            let tls = tls.flatten();
            listeners.push(ListenerSettings {
                address,
                kind,
                add_missing_fields,
                tls,
                tls_mode,
                proxy_protocol,
                proxy_from,
                xclient_from,
                once_from,
                authentication,
            });
        }
    }
    listeners
}

fn tls_mode<'a>(read: &mut Reader<'a>, at: &At<'a>, has_certificate: bool) -> TlsMode {
    let mode = read.parsed(at, |text| match text {
        "starttls" => Ok(TlsMode::StartTls),
        "implicit" => Ok(TlsMode::Implicit),
        other => Err(format!("'{other}' is no mode of TLS; write starttls or implicit")),
    });
    if mode == Some(TlsMode::Implicit) && !has_certificate {
        read.fault(at, "TLS at once needs a certificate; add 'tls: { cert: …, key: … }' to this listener");
    }
    mode.unwrap_or_default()
}

/// `health`, `agent` and `monitor`: an address, if the section is there.
fn served<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Option<SocketAddr> {
    if !at.is_there() {
        return None;
    }
    read.required(&at.key("address"), Reader::address, "write where to answer, for example 127.0.0.1:8025")
}

/// Two sockets of this node cannot listen at one address.
fn distinct_addresses<'a>(read: &mut Reader<'a>, top: &At<'a>) {
    let mut places: Vec<(String, At<'a>)> = vec![
        ("health.address".to_owned(), top.key("health").key("address")),
        ("agent.address".to_owned(), top.key("agent").key("address")),
        ("monitor.address".to_owned(), top.key("monitor").key("address")),
    ];
    for (index, item) in top.key("listeners").items().iter().enumerate() {
        places.push((format!("listeners[{index}].address"), item.key("address")));
    }
    let mut seen: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for (name, at) in places {
        // What is no address was noted when it was read.
        let Some(address) = at.quietly_text().and_then(|text| text.parse::<SocketAddr>().ok()) else {
            continue;
        };
        if address.port() == 0 {
            continue;
        }
        if let Some(other) = seen.get(&address) {
            read.fault(&at, format!("{address} is the address of {other} too; give each its own"));
        } else {
            seen.insert(address, name);
        }
    }
}

fn relay<'a>(read: &mut Reader<'a>, at: &At<'a>, listeners: &[ListenerSettings]) -> RelayPolicy {
    let trusted_networks = networks(read, &at.key("trusted_networks"));
    let trusted_certificates = certificates::trusted(read, &at.key("trusted_certificates"), listeners);
    let mut policy = RelayPolicy { trusted_networks, trusted_certificates, domains: Vec::new() };
    for item in at.key("domains").items() {
        let domain =
            read.parsed(&item, |text| text.parse().map_err(|e: routing::DomainPatternError| e.to_string()));
        policy.domains.extend(domain);
    }
    policy
}

/// The loopback network of an address, whole.
fn loopback(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => IpNet::V4(ipnet::Ipv4Net::new_assert(address, 8).trunc()),
        IpAddr::V6(address) => IpNet::V6(address.into()),
    }
}

fn routes<'a>(read: &mut Reader<'a>, at: &At<'a>, trust_ad: bool) -> Routes {
    let mut routes: Vec<Route> = Vec::new();
    if at.has_no_items() {
        read.fault(
            at,
            "no route, so nothing could be delivered; add one: { match: \"*\", next_hop: \"10.0.0.1\" }",
        );
    }
    for item in at.items() {
        let matched = item.key("match");
        let pattern = read.required(
            &matched,
            |read, at| read.parsed(at, |text| text.parse().map_err(|e: routing::PatternError| e.to_string())),
            "write what the route is for: \"*\" or a domain",
        );
        let target: Option<Target> = read.required(
            &item.key("next_hop"),
            |read, at| read.parsed(at, |text| text.parse().map_err(|e: routing::TargetError| e.to_string())),
            "write where the mail goes: \"10.0.0.1\", \"mx.example.test:25\", or mx",
        );
        let tls = tls_policy(read, &item);
        let tls =
            if let Some(target) = &target { fitting_tls(read, &item, target, tls, trust_ad) } else { tls };
        let identity = certificates::identity(read, &item, &tls);
        let credentials = route_auth::credentials(read, &item, target.as_ref());
        let in_doubt = delivery::in_doubt(read, &item, target.as_ref());
        let rate = delivery::rate(read, &item, target.as_ref());
        let (Some(pattern), Some(target)) = (pattern, target) else { continue };
        if routes.iter().any(|route| route.pattern == pattern) {
            read.fault(
                &matched,
                format!("an earlier route is for '{pattern}' too and always wins; remove one"),
            );
        }
        routes.push(Route {
            pattern,
            target: target
                .with_tls(tls)
                .with_identity(identity)
                .with_credentials(credentials)
                .with_in_doubt(in_doubt)
                .with_rate(rate),
        });
    }
    Routes::new(routes)
}

/// Whether they can be read is seen by who reads them.
fn table_files<'a>(read: &mut Reader<'a>, at: &At<'a>) -> TableFiles {
    TableFiles {
        routes: read.path(&at.key("routes")),
        aliases: read.path(&at.key("aliases")),
        recipients: read.path(&at.key("recipients")),
        senders: read.path(&at.key("senders")),
    }
}

/// Where there is no connection, or none that leaves the machine, TLS has no place.
fn fitting_tls<'a>(
    read: &mut Reader<'a>,
    route: &At<'a>,
    target: &Target,
    tls: TlsPolicy,
    trust_ad: bool,
) -> TlsPolicy {
    if tls.is_published() && !target.next_hop().is_some_and(NextHop::is_mx) {
        let what =
            format!("'{tls}' is what domains say of their MX hosts; write 'next_hop: mx', or 'tls: verify'");
        read.fault(&route.key("tls"), what);
    } else if tls == TlsPolicy::Dane && !trust_ad {
        read.fault(
            &route.key("tls"),
            "'dane' rests on signed DNS; let a validating resolver on this machine answer, and write 'dns: { servers: [127.0.0.1], trust_ad: true }'",
        );
    }
    if let Some(hop) = target.next_hop().filter(|hop| !hop.is_socket()) {
        if hop.is_wrapped() && tls == TlsPolicy::None {
            read.fault(
                &route.key("tls"),
                format!("TLS is what '{target}' begins with; write encrypt or verify"),
            );
        }
        return tls;
    }
    for key in ["tls", "tls_roots"] {
        if route.key(key).is_there() {
            read.fault(&route.key(key), format!("no TLS is spoken with '{target}'; remove this"));
        }
    }
    TlsPolicy::None
}

/// `tls` and `tls_roots` of a route.
fn tls_policy<'a>(read: &mut Reader<'a>, route: &At<'a>) -> TlsPolicy {
    let written = |text: &str| text.parse::<TlsPolicy>().map_err(|e: routing::TlsPolicyError| e.to_string());
    let policy = read.parsed(&route.key("tls"), written).unwrap_or_default();
    let at = route.key("tls_roots");
    match (policy, read.path(&at)) {
        (TlsPolicy::Verify(_), Some(file)) => TlsPolicy::Verify(Roots::File(file)),
        (TlsPolicy::Sts(_), Some(file)) => TlsPolicy::Sts(Roots::File(file)),
        (policy @ (TlsPolicy::None | TlsPolicy::May | TlsPolicy::Encrypt | TlsPolicy::Dane), Some(_)) => {
            read.fault(
                &at,
                format!(
                    "certificates are not looked at with 'tls: {policy}'; write 'tls: verify', or remove this"
                ),
            );
            policy
        }
        (policy, None) => policy,
    }
}

fn limits<'a>(read: &mut Reader<'a>, at: &At<'a>, hostname: Option<Domain>) -> Option<LimitSettings> {
    let default = Limits::default();
    // RFC 5321 4.5.3.1.7 and 4.5.3.1.8: the least a server must take.
    let message_size = read.size(&at.key("message_size"), 64 << 10..=1 << 30, "64KiB", "1GiB");
    let recipients =
        read.number(&at.key("recipients"), 100..=u16::MAX.into()).and_then(|n| u16::try_from(n).ok());
    let concurrency = ConcurrencyLimits::default();
    let (connections, connections_per_client) =
        whole_and_part(read, at, ("connections", 10_000), ("connections_per_client", 100));
    let (total, per_destination) = whole_and_part(
        read,
        at,
        ("concurrency", concurrency.total),
        ("concurrency_per_destination", concurrency.per_destination),
    );
    let initial = read.number(&at.key("concurrency_initial"), 1..=1_000_000);
    let initial = initial.and_then(|n| usize::try_from(n).ok()).unwrap_or(concurrency.initial);
    let handshakes = Duration::from_millis(100)..=Duration::from_mins(5);
    let tls_handshake =
        read.duration(&at.key("tls_handshake"), handshakes).unwrap_or(Duration::from_secs(30));
    let hops = read.number(&at.key("hops"), 1..=1_000).and_then(|n| u32::try_from(n).ok()).unwrap_or(100);
    let mut session = SessionConfig::new(hostname?);
    session.limits.message_size = message_size.unwrap_or(default.message_size);
    session.limits.recipients = recipients.unwrap_or(default.recipients);
    let clients = clients::clients(read, at, &mut session);
    let inspection_memory = clients::inspection_memory(read, at, session.limits.message_size);
    Some(LimitSettings {
        session,
        connections,
        connections_per_client,
        clients,
        tls_handshake,
        hops,
        shape: clients::shape(read, at),
        inspection_memory,
        send: SendTimeouts::default(),
        concurrency: ConcurrencyLimits { per_destination, total, initial },
    })
}

/// A number, and another that is part of it. A default gives way to what is written; two written ones must agree.
fn whole_and_part<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    whole: (&str, usize),
    part: (&str, usize),
) -> (usize, usize) {
    let mut count = |key| read.number(&at.key(key), 1..=1_000_000).and_then(|n| usize::try_from(n).ok());
    let (total, of_it) = (count(whole.0), count(part.0));
    match (total, of_it) {
        (Some(total), Some(of_it)) if of_it > total => {
            let what = format!("more than limits.{} ({total}); lower this or raise that", whole.0);
            read.fault(&at.key(part.0), what);
            (total, of_it)
        }
        (Some(total), None) => (total, part.1.min(total)),
        (None, Some(of_it)) => (whole.1.max(of_it), of_it),
        (Some(_) | None, _) => (total.unwrap_or(whole.1), of_it.unwrap_or(part.1)),
    }
}

/// `first <= max <= lifetime`. A default gives way to what is written; what is written must agree.
fn retry<'a>(read: &mut Reader<'a>, at: &At<'a>) -> RetryPolicy {
    let default = RetryPolicy::default();
    // Below 100 ms a dead next hop would be hammered.
    let bounds = Duration::from_millis(100)..=100 * DAY;
    let mut span = |key: &str| read.duration(&at.key(key), bounds.clone());
    let written = [("first", span("first")), ("max", span("max")), ("lifetime", span("lifetime"))];
    for (index, (small, less)) in written.iter().enumerate() {
        for (great, more) in written.iter().skip(index + 1) {
            if let (Some(less), Some(more)) = (less, more)
                && less > more
            {
                let what = format!(
                    "longer than retry.{great} ({}); keep first <= max <= lifetime",
                    units::shown(*more)
                );
                read.fault(&at.key(small), what);
            }
        }
    }
    let [(_, first), (_, max), (_, lifetime)] = written;
    let longest =
        lifetime.unwrap_or(default.lifetime.max(max.unwrap_or_default()).max(first.unwrap_or_default()));
    let max = max.unwrap_or(default.max.max(first.unwrap_or_default()).min(longest));
    RetryPolicy { first: first.unwrap_or(default.first.min(max)), max, lifetime: longest }
}

fn launcher<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Launcher {
    let written = read.parsed(at, |text| match text {
        "exec" => Ok(Launcher::Exec),
        "systemd" => Ok(Launcher::Systemd),
        other => Err(format!("'{other}' is no launcher; write 'exec' or 'systemd'")),
    });
    written.unwrap_or(Launcher::Exec)
}
