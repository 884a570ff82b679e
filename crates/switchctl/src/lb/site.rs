//! A cluster as a balancer needs to know it: addresses, ports, checks, and what is doubtful about them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use control::heartbeatd::HeartbeatdStatus;
use mail_model::NodeId;
use settings::{ListenerSettings, Settings, TlsMode};

/// Everything that a snippet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) cluster: String,
    pub(super) places: Vec<Place>,
    pub(super) services: Vec<Service>,
    /// The port of `/health/ready`.
    pub(super) health: Option<u16>,
    /// The port of the agent-check.
    pub(super) agent: Option<u16>,
    /// What an operator should know before this is used; a sentence with its remedy each.
    pub(super) doubts: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: NodeId,
    pub(super) address: IpAddr,
}

/// A port that clients come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) port: u16,
    /// It expects a PROXY header from the balancer.
    pub(super) proxy: bool,
    /// TLS begins with the first byte: no greeting can be read.
    pub(super) implicit_tls: bool,
}

impl Site {
    /// From the configuration, and from what heartbeatd hears if it is asked.
    pub(super) fn of(settings: &Settings, view: Option<&HeartbeatdStatus>) -> Self {
        let mut doubts = Vec::new();
        let places = places(settings, view, &mut doubts);
        let services: Vec<Service> = settings.listeners.iter().map(service).collect();
        if services.iter().any(|service| !service.proxy) {
            doubts.push(
                "Without the PROXY protocol every client has the balancer's address: relay control, limits and the log \
                 go by it. Set proxy_protocol: true and proxy_from: [BALANCER] on the listener."
                    .to_owned(),
            );
        }
        let reached = |address: Option<SocketAddr>, key: &str, doubts: &mut Vec<String>| {
            let port = address.map(|address| address.port());
            let shut = address.is_some_and(|address| {
                address.ip().is_loopback() && places.iter().any(|place| !place.address.is_loopback())
            });
            if shut {
                doubts.push(format!("{key} is a loopback address: a balancer elsewhere cannot reach it."));
            }
            port
        };
        let health = reached(settings.health, "health.address", &mut doubts);
        let agent = reached(settings.agent, "agent.address", &mut doubts);
        if health.is_none() {
            doubts.push(
                "health.address is not set: the SMTP greeting is checked, which is 421 while a node takes no mail."
                    .to_owned(),
            );
        }
        Self { cluster: settings.cluster.id.clone(), places, services, health, agent, doubts }
    }
}

fn service(listener: &ListenerSettings) -> Service {
    Service {
        port: listener.address.port(),
        proxy: listener.proxy_protocol,
        implicit_tls: listener.tls.is_some() && listener.tls_mode == TlsMode::Implicit,
    }
}

fn places(settings: &Settings, view: Option<&HeartbeatdStatus>, doubts: &mut Vec<String>) -> Vec<Place> {
    let own = settings.listeners.first().map(|listener| listener.address.ip());
    let mut places = Vec::new();
    for node in &settings.cluster.nodes {
        let is_own = node.id == settings.node.id;
        let said = view.and_then(|view| view.peers.iter().find(|peer| peer.node == node.id)?.smtp);
        let listened = own.filter(|ip| is_own && !ip.is_unspecified());
        let heartbeat = node.heartbeat.first().map(SocketAddr::ip);
        let address = listened.or(said.map(|smtp| smtp.ip())).or(heartbeat).unwrap_or_else(|| {
            doubts.push(format!(
                "The address of node {} stands nowhere: write the one that the balancer reaches it at.",
                node.id
            ));
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        });
        if !is_own && said.is_none() {
            doubts.push(format!("Node {} is not heard: its address is where its heartbeats go.", node.id));
        }
        places.push(Place { node: node.id.clone(), address });
    }
    places
}
