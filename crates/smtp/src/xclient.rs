//! XCLIENT: a trusted front tells whose session it passes on. As in Postfix's `XCLIENT_README`.
//!
//! `XCLIENT NAME=… ADDR=… …`, at least one attribute, values in xtext. `[UNAVAILABLE]` and `[TEMPUNAVAIL]` say that the front
//! does not know. What is not said stays as it was.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::xtext;

/// The line of the EHLO reply.
pub(crate) const OFFER: &str = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
/// The longest value, decoded.
const VALUE_OCTETS_MAX: usize = 255;

/// What is said about one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Said<T> {
    /// Nothing.
    #[default]
    Nothing,
    /// That it is not known.
    Unavailable,
    /// This.
    Is(T),
}

/// What a front says about its client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientClaim {
    /// NAME: the client's host name: letters, digits and `.-_`.
    pub name: Said<Box<str>>,
    /// ADDR.
    pub address: Said<IpAddr>,
    /// PORT.
    pub port: Said<u16>,
    /// PROTO: true for ESMTP.
    pub extended: Said<bool>,
    /// HELO: the name the client gave itself.
    pub helo: Said<Box<str>>,
    /// LOGIN: the name it authenticated as toward the front.
    pub login: Said<Box<str>>,
    /// DESTADDR: where the front took the connection.
    pub destination: Said<IpAddr>,
    /// DESTPORT.
    pub destination_port: Said<u16>,
}

/// Reads what follows the verb. `None`: an attribute is unknown, stands twice or has a value that it cannot have.
pub(crate) fn parse(arguments: &str, host_name: impl Fn(&str) -> bool) -> Option<ClientClaim> {
    let mut claim = ClientClaim::default();
    let mut any = false;
    for word in arguments.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=')?;
        let value = xtext::decode(value).filter(|v| !v.is_empty() && v.len() <= VALUE_OCTETS_MAX)?;
        let dns_name = |text: &str| host_name(text) && !text.contains([':', '[', ']']);
        match name.to_ascii_uppercase().as_str() {
            "NAME" => set(&mut claim.name, &value, |v| dns_name(v).then(|| v.into()))?,
            "ADDR" => set(&mut claim.address, &value, address)?,
            "PORT" => set(&mut claim.port, &value, |v| v.parse().ok())?,
            "PROTO" => set(&mut claim.extended, &value, protocol)?,
            "HELO" => set(&mut claim.helo, &value, |v| host_name(v).then(|| v.into()))?,
            "LOGIN" => set(&mut claim.login, &value, |v| Some(v.into()))?,
            "DESTADDR" => set(&mut claim.destination, &value, address)?,
            "DESTPORT" => set(&mut claim.destination_port, &value, |v| v.parse().ok())?,
            _ => return None,
        }
        any = true;
    }
    any.then_some(claim)
}

fn set<T>(place: &mut Said<T>, value: &str, read: impl Fn(&str) -> Option<T>) -> Option<()> {
    if !matches!(place, Said::Nothing) {
        return None;
    }
    let unavailable =
        value.eq_ignore_ascii_case("[UNAVAILABLE]") || value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
    *place = if unavailable { Said::Unavailable } else { Said::Is(read(value)?) };
    Some(())
}

/// IPv6 bears a tag; clients that forget it are understood.
fn address(text: &str) -> Option<IpAddr> {
    let tagged = text.split_at_checked(5).filter(|(tag, _)| tag.eq_ignore_ascii_case("IPV6:"));
    let address = match tagged {
        Some((_, address)) => IpAddr::from(address.parse::<Ipv6Addr>().ok()?),
        None => text.parse::<Ipv4Addr>().map(IpAddr::from).or_else(|_| text.parse()).ok()?,
    };
    Some(address.to_canonical())
}

fn protocol(text: &str) -> Option<bool> {
    match text.to_ascii_uppercase().as_str() {
        "ESMTP" => Some(true),
        "SMTP" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Option<ClientClaim> {
        parse(arguments, |name| !name.contains('('))
    }

    #[test]
    fn each_attribute_is_read_in_any_case_and_what_is_not_known_is_said_so() {
        let claim =
            read("NAME=spike.example.test addr=168.100.189.2 PORT=4711 PROTO=esmtp HELO=a+2Db").unwrap();
        assert_eq!(claim.name, Said::Is("spike.example.test".into()));
        assert_eq!(claim.address, Said::Is([168, 100, 189, 2].into()));
        assert_eq!((claim.port, claim.extended), (Said::Is(4711), Said::Is(true)));
        assert_eq!((claim.helo, claim.login), (Said::Is("a-b".into()), Said::Nothing));
        let claim =
            read("ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE] LOGIN=a+20b DESTADDR=::ffff:10.0.0.1").unwrap();
        assert_eq!(claim.address, Said::Is("2001:db8::7".parse().unwrap()));
        assert_eq!((claim.name, claim.login), (Said::Unavailable, Said::Is("a b".into())));
        assert_eq!(claim.destination, Said::Is([10, 0, 0, 1].into()));
    }

    #[test]
    fn a_claim_with_one_bad_attribute_says_nothing_at_all() {
        for bad in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=x",
            "ADDR=1.2.3",
            "ADDR=IPV6:1.2.3.4",
            "PORT=65536",
            "PORT=-1",
            "PROTO=LMTP",
            "COLOUR=red",
            "ADDR=1.2.3.4 ADDR=1.2.3.5",
            "HELO=a(b",
            "NAME=[1.2.3.4]",
            "LOGIN=a+0Db",
            "LOGIN=+2",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
