//! Lists of networks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::reader::{At, Reader};

/// The networks of a list: addresses with a prefix, or single addresses.
pub(super) fn networks<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Vec<IpNet> {
    at.items().iter().filter_map(|item| read.parsed(item, network)).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| {
        format!("'{text}' is not a network; write an address and a prefix: 10.0.0.0/8 or 2001:db8::/32")
    })?;
    if network.prefix_len() == 0 {
        return Err(format!(
            "'{text}' is everybody, and this would be an open relay; name your own networks"
        ));
    }
    // IPv4 clients are always compared as IPv4.
    if matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err(format!("'{text}' is IPv4 written as IPv6; write it as IPv4, for example 10.0.0.0/8"));
    }
    Ok(network.trunc())
}
