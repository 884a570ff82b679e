//! Who is asked: the servers of `dns.servers`, or those of the machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf;
use settings::DnsSettings;

/// Servers, how they are asked, and the domains in which a name without a dot is looked for.
pub(crate) struct Servers {
    pub(crate) list: Vec<NameServerConfig>,
    pub(crate) options: ResolverOpts,
    pub(crate) search: Vec<Name>,
}

impl Servers {
    /// Reads `/etc/resolv.conf`, unless the settings name servers. Without both it is this machine, as for everybody else
    /// here (resolv.conf(5)).
    pub(crate) fn of(settings: &DnsSettings) -> Self {
        let system = system_conf::read_system_conf().ok();
        let (list, mut options, search) = match system {
            Some((config, options)) => {
                let (_, search, list) = config.into_parts();
                (list, options, search)
            }
            None => (Vec::new(), ResolverOpts::default(), Vec::new()),
        };
        let list = match (settings.servers.as_slice(), list.is_empty()) {
            ([], false) => list,
            ([], true) => vec![server(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53))],
            (written, _) => {
                options = ResolverOpts::default();
                written.iter().copied().map(server).collect()
            }
        };
        options.timeout = settings.timeout;
        options.attempts = 2;
        options.edns0 = true;
        Self { list, options, search }
    }
}

/// Over UDP, and over TCP what does not fit.
fn server(address: SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
