//! How names are looked up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use routing::mx::{AddressOrder, Own};

use super::name::host_name;
use crate::model::DnsSettings;
use crate::reader::{At, Reader};

/// DNS's port. RFC 1035 4.2.
const DNS_PORT: u16 = 53;
/// SMTP's port. RFC 5321 4.5.4.2.
const SMTP_PORT: u16 = 25;
/// HTTPS's port. RFC 9110 4.2.2.
const HTTPS_PORT: u16 = 443;

/// `dns`.
pub(super) fn dns<'a>(read: &mut Reader<'a>, at: &At<'a>) -> DnsSettings {
    let mut servers = Vec::new();
    for item in at.key("servers").items() {
        servers.extend(read.parsed(&item, server));
    }
    let mut own = Own::default();
    for item in at.key("own").items() {
        match read.parsed(&item, own_name) {
            Some(Ok(address)) => own.addresses.push(address),
            Some(Err(name)) => own.names.push(name),
            None => {}
        }
    }
    let timeouts = Duration::from_millis(100)..=Duration::from_secs(30);
    let mut port_of =
        |key: &str| read.number(&at.key(key), 1..=u16::MAX.into()).and_then(|port| u16::try_from(port).ok());
    let (port, sts_port) = (port_of("mx_port"), port_of("sts_port"));
    let order = read.parsed(&at.key("addresses"), |text| match text {
        "ipv6_first" => Ok(AddressOrder::Ipv6First),
        "ipv4_first" => Ok(AddressOrder::Ipv4First),
        "ipv4" => Ok(AddressOrder::Ipv4),
        "ipv6" => Ok(AddressOrder::Ipv6),
        other => {
            Err(format!("'{other}' is no order of addresses; write ipv6_first, ipv4_first, ipv4 or ipv6"))
        }
    });
    DnsSettings {
        servers,
        timeout: read.duration(&at.key("timeout"), timeouts).unwrap_or(Duration::from_secs(5)),
        trust_ad: read.flag(&at.key("trust_ad")).unwrap_or(false),
        addresses: order.unwrap_or_default(),
        mx_port: port.unwrap_or(SMTP_PORT),
        sts_port: sts_port.unwrap_or(HTTPS_PORT),
        own,
    }
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)));
    address.map_err(|_| format!("'{text}' is not a server's address; write 127.0.0.1, or 127.0.0.1:5353"))
}

fn own_name(text: &str) -> Result<Result<IpAddr, mail_model::Domain>, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Ok(address.to_canonical()));
    }
    let last_is_number =
        text.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let name = host_name(text).filter(|_| !last_is_number);
    name.map(Err).ok_or_else(|| {
        format!("'{text}' is neither an address nor a host name; write 192.0.2.25 or mx.example.test")
    })
}
