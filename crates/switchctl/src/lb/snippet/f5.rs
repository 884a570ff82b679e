//! For BIG-IP. Written from its manual; nobody tried it here.

use super::super::site::Site;
use super::text::{Front, at, head, line};

pub(super) fn written(site: &Site, front: Front) -> String {
    let mut text = head(site, "BIG-IP, for tmsh");
    line(&mut text, format_args!("# Mind: not tried on a BIG-IP; compare it with the manual of yours."));
    let monitor = if let Some(port) = site.health {
        line(
            &mut text,
            format_args!(
                "create ltm monitor http mailswitch-ready defaults-from http destination *:{port} interval 2 timeout 5 \
                 send \"GET /health/ready HTTP/1.0\\r\\n\\r\\n\" recv \"HTTP/1.. 200\""
            ),
        );
        "mailswitch-ready"
    } else {
        "smtp"
    };
    for service in &site.services {
        let (port, name) = (service.port, format!("mailswitch-{}", service.port));
        let members: Vec<String> = site.places.iter().map(|place| at(place.address, port)).collect();
        line(
            &mut text,
            format_args!(
                "create ltm pool {name} load-balancing-mode least-connections-member monitor {monitor} slow-ramp-time 10 \
                 service-down-action none members add {{ {} }}",
                members.join(" ")
            ),
        );
        let address = front.address.map_or_else(|| "192.0.2.25".to_owned(), |ip| ip.to_string());
        line(
            &mut text,
            format_args!(
                "create ltm virtual {name} destination {address}:{port} ip-protocol tcp pool {name} profiles add {{ tcp }} \
                 source-address-translation {{ type automap }}"
            ),
        );
        if service.proxy {
            line(
                &mut text,
                format_args!(
                    "# Port {port} expects a PROXY header: an iRule has to send it (TCP::respond on SERVER_CONNECTED)."
                ),
            );
        }
    }
    text
}
