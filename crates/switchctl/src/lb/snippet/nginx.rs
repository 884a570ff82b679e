//! For nginx (module stream). The free nginx does not check: a node is tried, and left out for a while if it cannot be
//! reached. It does not read the greeting, so a client of a node that drains gets its 421 and comes again.

use super::super::site::Site;
use super::text::{Front, at, head, line};

pub(super) fn written(site: &Site, front: Front) -> String {
    let mut text = head(site, "nginx, beside the block http (module stream)");
    line(
        &mut text,
        format_args!("# nginx only sees whether a node takes connections. One that drains answers 421."),
    );
    line(&mut text, format_args!("stream {{"));
    for service in &site.services {
        let name = format!("mailswitch_{}", service.port);
        let listen = front.address.map_or_else(|| service.port.to_string(), |ip| at(ip, service.port));
        line(&mut text, format_args!("    upstream {name} {{\n        least_conn;"));
        for place in &site.places {
            let server = at(place.address, service.port);
            line(
                &mut text,
                format_args!("        server {server} max_fails=1 fail_timeout=5s; # node {}", place.node),
            );
        }
        line(&mut text, format_args!("    }}\n    server {{"));
        line(&mut text, format_args!("        listen {listen};"));
        line(&mut text, format_args!("        proxy_pass {name};"));
        line(&mut text, format_args!("        proxy_connect_timeout 2s;"));
        line(&mut text, format_args!("        proxy_next_upstream on;"));
        line(&mut text, format_args!("        proxy_timeout 11m;"));
        if service.proxy {
            line(&mut text, format_args!("        proxy_protocol on;"));
        }
        line(&mut text, format_args!("    }}"));
    }
    line(&mut text, format_args!("}}"));
    text
}
