//! For HAProxy.
//!
//! The plain check takes a node out that is dead or answers 503; the agent says `drain`, so that sessions finish before a
//! node goes. Both are needed: an agent that cannot be reached leaves the last state. Sessions of a node that is marked down
//! are left alone: a node that drains is one. Those of a machine that lost its power end by `tcp-ut`.

use super::super::site::{Service, Site};
use super::text::{Front, at, head, line};

/// RFC 5321 4.5.3.2: the longest a client or server may wait is ten minutes, after the final dot.
const DEFAULTS: &str = "
defaults mailswitch
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 11m
    timeout server 11m
    retries 3
    option redispatch 1
";

pub(super) fn written(site: &Site, front: Front) -> String {
    let mut text = head(site, "HAProxy 2.4 or later");
    text.push_str(DEFAULTS);
    for service in &site.services {
        one(&mut text, site, front, service);
    }
    text
}

fn one(text: &mut String, site: &Site, front: Front, service: &Service) {
    let name = format!("mailswitch-{}", service.port);
    let bind = front.address.map_or_else(|| format!("*:{}", service.port), |ip| at(ip, service.port));
    line(text, format_args!("\nfrontend {name} from mailswitch"));
    line(text, format_args!("    bind {bind}"));
    line(text, format_args!("    default_backend {name}"));
    line(text, format_args!("\nbackend {name} from mailswitch"));
    line(text, format_args!("    balance leastconn"));
    let mut server =
        "check inter 1s fastinter 250ms downinter 1s fall 2 rise 2 slowstart 10s tcp-ut 30s".to_owned();
    if let Some(port) = site.health {
        line(text, format_args!("    option httpchk"));
        line(text, format_args!("    http-check send meth GET uri /health/ready"));
        line(text, format_args!("    http-check expect status 200"));
        server.extend([" port ", &port.to_string()]);
    } else if service.implicit_tls {
        line(
            text,
            format_args!(
                "    # No check but the connection: with TLS from the first byte there is no greeting."
            ),
        );
    } else {
        line(text, format_args!("    option smtpchk EHLO balancer.invalid"));
    }
    if let Some(port) = site.agent {
        server.extend([" agent-check agent-inter 1s agent-port ", &port.to_string()]);
    }
    if service.proxy {
        server.push_str(" send-proxy-v2");
    }
    line(text, format_args!("    default-server {server}"));
    for place in &site.places {
        line(text, format_args!("    server {} {}", place.node, at(place.address, service.port)));
    }
}
