//! The configuration as rows: every key with its value, defaults filled in and paths absolute.

use settings::{Launcher, ListenerKind, Settings, Storage, TlsMode};

/// Every key with its value, in the order of the reference page.
pub(super) fn rows(s: &Settings) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
    row("cluster.id", s.cluster.id.clone());
    for (index, peer) in s.cluster.nodes.iter().enumerate() {
        row(&format!("cluster.nodes[{index}].id"), peer.id.to_string());
        row(&format!("cluster.nodes[{index}].heartbeat"), joined(&peer.heartbeat));
        row(&format!("cluster.nodes[{index}].control"), joined(peer.control.as_slice()));
    }
    if let Some(witness) = &s.cluster.witness {
        let index = s.cluster.nodes.len();
        row(&format!("cluster.nodes[{index}].id"), witness.id.to_string());
        row(&format!("cluster.nodes[{index}].heartbeat"), joined(&witness.heartbeat));
        row(&format!("cluster.nodes[{index}].control"), joined(witness.control.as_slice()));
        row(&format!("cluster.nodes[{index}].witness"), "true".to_owned());
    }
    row("cluster.arbiter.etcd", joined(&s.cluster.etcd));
    row(
        "cluster.key_file",
        s.cluster.key_file.as_ref().map_or("-".to_owned(), |path| path.display().to_string()),
    );
    row("cluster.takeover.order", joined(&s.cluster.takeover_order));
    let timers = &s.cluster.timers;
    for (name, span) in [
        ("window", timers.window),
        ("renew", timers.renew),
        ("observe", timers.observe),
        ("own_limit", timers.own_limit),
        ("heartbeat", timers.heartbeat),
        ("suspect", timers.suspect),
        ("stagger", timers.stagger),
        ("handback_hold", timers.handback_hold),
        ("grace", timers.grace),
    ] {
        row(&format!("cluster.takeover.{name}"), settings::show_duration(span));
    }
    row("node.id", s.node.id.to_string());
    row("node.state_dir", s.node.state_dir.display().to_string());
    row("node.hostname", s.node.hostname.to_string());
    row("queue.dir", s.queue.dir.display().to_string());
    row("queue.storage", storage(s.queue.storage).to_owned());
    row("queue.segment_size", format!("{}B", s.queue.segment_size));
    row("queue.free_space_reserve", format!("{}B", s.queue.free_space_reserve));
    rows.extend(promoted(s));
    rows.extend(mail(s));
    rows.extend(inspection(s));
    rows
}

/// What moves devices, and what puts nodes off.
fn promoted(s: &Settings) -> Vec<(String, String)> {
    let hooks = [
        ("queue.promoted", s.queue.promoted.as_ref().map(|hook| (&hook.command, hook.timeout))),
        ("fence", s.fence.as_ref().map(|fence| (&fence.command, fence.timeout))),
    ];
    let rows = hooks.into_iter().filter_map(|(key, hook)| {
        let (command, timeout) = hook?;
        let timeout = settings::show_duration(timeout);
        Some([(format!("{key}.command"), command.join(" ")), (format!("{key}.timeout"), timeout)])
    });
    rows.flatten().collect()
}

/// What is looked into, and with what it is signed.
fn inspection(s: &Settings) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |key: String, value: String| rows.push((key, value));
    for (index, listener) in s.listeners.iter().enumerate() {
        row(format!("listeners[{index}].authentication"), listener.authentication.as_str().to_owned());
    }
    row("checks.helo".to_owned(), s.checks.helo.as_str().to_owned());
    row("checks.sender_domain".to_owned(), s.checks.sender_domain.to_string());
    for (index, list) in s.checks.block_lists.iter().enumerate() {
        row(format!("checks.block_lists[{index}].zone"), list.zone.to_string());
        row(format!("checks.block_lists[{index}].replies"), joined(&list.replies));
    }
    for (index, filter) in s.filters.iter().enumerate() {
        let listeners =
            if filter.listeners.is_empty() { "all".to_owned() } else { joined(&filter.listeners) };
        for (key, value) in [
            ("name", filter.name.clone()),
            ("kind", filter.kind.as_str().to_owned()),
            ("address", filter.address.to_string()),
            ("timeout", settings::show_duration(filter.timeout)),
            ("on_error", filter.on_error.as_str().to_owned()),
            ("size_max", format!("{}B", filter.size_max)),
            ("clients", filter.clients.as_str().to_owned()),
            ("listeners", listeners),
        ] {
            row(format!("filters[{index}].{key}"), value);
        }
    }
    for (index, key) in s.dkim.iter().enumerate() {
        row(format!("dkim[{index}].domain"), key.domain.to_string());
        row(format!("dkim[{index}].selector"), key.selector.clone());
        row(format!("dkim[{index}].key"), key.file.display().to_string());
    }
    rows
}

/// What mail is taken, and where it goes.
fn mail(s: &Settings) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
    let auth = &s.auth;
    row("auth.users", auth.users.display().to_string());
    row("auth.mechanisms", auth.mechanisms.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "));
    row("auth.failure_delay", settings::show_duration(auth.failure_delay));
    row("auth.failures_per_client", auth.failures_per_client.to_string());
    for (index, listener) in s.listeners.iter().enumerate() {
        row(&format!("listeners[{index}].address"), listener.address.to_string());
        row(&format!("listeners[{index}].kind"), listener_kind(listener.kind).to_owned());
        row(&format!("listeners[{index}].add_missing_fields"), listener.add_missing_fields.to_string());
        if let Some(tls) = &listener.tls {
            row(&format!("listeners[{index}].tls.cert"), tls.cert.display().to_string());
            row(&format!("listeners[{index}].tls.key"), tls.key.display().to_string());
            row(&format!("listeners[{index}].tls_mode"), tls_mode(listener.tls_mode).to_owned());
        }
    }
    row("health.address", joined(s.health.as_slice()));
    row("agent.address", joined(s.agent.as_slice()));
    row("relay.trusted_networks", joined(&s.relay.trusted_networks));
    row("relay.domains", joined(&s.relay.domains));
    for route in s.routes.iter() {
        row(&format!("routes '{}'", route.pattern), route.target.to_string());
        let Some(hop) = route.target.next_hop() else { continue };
        let tls = hop.tls();
        row(&format!("routes '{}' tls", route.pattern), tls.to_string());
        row(&format!("routes '{}' in_doubt", route.pattern), hop.in_doubt().to_string());
        if let Some(rate) = hop.rate() {
            row(&format!("routes '{}' rate", route.pattern), rate.to_string());
        }
        if let Some(credentials) = hop.credentials() {
            row(&format!("routes '{}' auth.user", route.pattern), credentials.user.to_string());
            row(&format!("routes '{}' auth.password", route.pattern), credentials.password.to_string());
        }
        if let Some(file) = tls.roots_file() {
            row(&format!("routes '{}' tls_roots", route.pattern), file.display().to_string());
        }
    }
    row("dns.servers", joined(&s.dns.servers));
    row("dns.timeout", settings::show_duration(s.dns.timeout));
    row("dns.trust_ad", s.dns.trust_ad.to_string());
    row("dns.mx_port", s.dns.mx_port.to_string());
    row("dns.own", [joined(&s.dns.own.names), joined(&s.dns.own.addresses)].join(", "));
    let files = &s.table_files;
    for (name, file) in [
        ("routes", &files.routes),
        ("aliases", &files.aliases),
        ("recipients", &files.recipients),
        ("senders", &files.senders),
    ] {
        if let Some(file) = file {
            row(&format!("tables.{name}"), file.display().to_string());
        }
    }
    let limits = &s.limits;
    row("limits.message_size", format!("{}B", limits.session.limits.message_size));
    row("limits.recipients", limits.session.limits.recipients.to_string());
    row("limits.connections", limits.connections.to_string());
    row("limits.connections_per_client", limits.connections_per_client.to_string());
    row("limits.tls_handshake", settings::show_duration(limits.tls_handshake));
    row("limits.hops", limits.hops.to_string());
    row("limits.header_size", format!("{}B", limits.shape.header_size));
    row("limits.header_fields", limits.shape.header_fields.to_string());
    row("limits.mime_depth", limits.shape.mime_depth.to_string());
    row("limits.concurrency_per_destination", limits.concurrency.per_destination.to_string());
    row("limits.concurrency", limits.concurrency.total.to_string());
    row("limits.concurrency_initial", limits.concurrency.initial.to_string());
    row("retry.first", settings::show_duration(s.retry.first));
    row("retry.max", settings::show_duration(s.retry.max));
    row("retry.lifetime", settings::show_duration(s.retry.lifetime));
    row("retry.warn", settings::show_duration(s.bounces.warn.unwrap_or_default()));
    row("delivery.eight_bit", s.delivery.eight_bit.as_str().to_owned());
    row("delivery.crash_hold", s.delivery.crash_hold.to_string());
    row("delivery.cache.connections", s.delivery.cache.connections.to_string());
    row("delivery.cache.idle", settings::show_duration(s.delivery.cache.idle));
    row("delivery.cache.messages", s.delivery.cache.messages.to_string());
    for owner in &s.delivery.owners {
        let ehlo = owner.ehlo.as_ref().unwrap_or(&s.node.hostname);
        row(&format!("delivery.owners '{}' ehlo", owner.queue), ehlo.to_string());
        row(&format!("delivery.owners '{}' source", owner.queue), joined(&owner.source));
    }
    row("bounces.double", s.bounces.double.as_str().to_owned());
    row("bounces.postmaster", s.bounces.postmaster.to_string());
    row("launcher", launcher(s.launcher).to_owned());
    row("(hash)", s.hash.clone());
    rows
}

fn joined<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn storage(storage: Storage) -> &'static str {
    match storage {
        Storage::Shared => "shared",
        Storage::Promoted => "promoted",
    }
}

fn tls_mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::StartTls => "starttls",
        TlsMode::Implicit => "implicit",
    }
}

fn listener_kind(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Relay => "relay",
        ListenerKind::Submission => "submission",
    }
}

fn launcher(launcher: Launcher) -> &'static str {
    match launcher {
        Launcher::Exec => "exec",
        Launcher::Systemd => "systemd",
    }
}
