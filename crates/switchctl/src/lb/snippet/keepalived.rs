//! For keepalived: one address that is always on a node that takes mail. The other nodes work too, for who names them, so
//! with two such addresses, one preferred by each node, DNS spreads the load.

use super::super::site::Site;
use super::text::{Front, head, line};

/// An address of RFC 5737, which no network has.
const PLACEHOLDER: &str = "192.0.2.25";

pub(super) fn written(site: &Site, front: Front) -> String {
    let mut text = head(site, "keepalived, the same file on every node");
    if front.address.is_none() {
        line(
            &mut text,
            format_args!("# Mind: 192.0.2.25 stands for the address that clients use: --address ADDRESS."),
        );
    }
    let address = front.address.map_or_else(|| PLACEHOLDER.to_owned(), |ip| ip.to_string());
    line(
        &mut text,
        format_args!("# Mind: write the interface of each node. All listeners need address 0.0.0.0 or [::]."),
    );
    let check = match (site.health, site.services.first()) {
        (Some(port), _) => format!("http 127.0.0.1:{port}"),
        (None, Some(service)) => format!("smtp 127.0.0.1:{}", service.port),
        (None, None) => "smtp 127.0.0.1:25".to_owned(),
    };
    line(
        &mut text,
        format_args!(
            "
global_defs {{
    enable_script_security
    script_user nobody
}}

vrrp_script mailswitch {{
    script \"/usr/lib/mailswitch/keepalived-check {check}\"
    interval 1
    timeout 2
    fall 2
    rise 2
}}

vrrp_instance mailswitch {{
    state BACKUP
    interface eth0
    virtual_router_id 25
    priority 100
    advert_int 1
    nopreempt
    virtual_ipaddress {{
        {address}
    }}
    track_script {{
        mailswitch
    }}
    notify \"/usr/lib/mailswitch/keepalived-notify\"
}}"
        ),
    );
    text
}
