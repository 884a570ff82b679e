//! The header of the PROXY protocol, versions 1 and 2, by which a balancer tells whose connection it passes on.
//!
//! [`frame`] says how many of the first bytes are the header and never asks for one more, since what follows belongs to SMTP
//! or to a TLS handshake. [`origin`] says what the header means. Whether the sender may be believed is the caller's question.
//!
//! | header | origin |
//! |---|---|
//! | v1 `TCP4`, `TCP6`; v2 PROXY of TCP or UDP over IP | that client |
//! | v2 LOCAL | the balancer itself, mostly a health check |
//! | v1 `UNKNOWN`; v2 PROXY of a unix socket or of nothing named | somebody, and nobody knows who |
//!
//! Never sizes anything by what the header claims before it is checked.

use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};

/// The longest header of version 1, CRLF included.
const V1_OCTETS_MAX: usize = 107;
/// The fixed part of version 2: signature, command, family, length.
const V2_FIXED_OCTETS: usize = 16;
/// The longest header of version 2 that is taken: addresses need 216, and what balancers add about TLS is short.
const V2_OCTETS_MAX: usize = 4096;
const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This client's.
    Client(SocketAddr),
    /// The balancer's own.
    Balancer,
    /// Somebody's whom the balancer does not name.
    Unknown,
}

/// How far a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// All bytes so far belong to it, and it is not whole.
    Partial,
    /// It is whole and has so many bytes.
    Whole(usize),
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// Neither version begins so: whoever connected sends no PROXY header.
    #[error("there is no PROXY header; let the balancer send one (HAProxy: send-proxy-v2)")]
    Absent,
    /// Version 1 without its line end, version 2 with more than anybody needs.
    #[error("the PROXY header is too long")]
    TooLong,
    /// It begins like one and is none.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Finds the header at the front of `bytes`.
pub fn frame(bytes: &[u8]) -> Result<Frame, ProxyFault> {
    if begins(bytes, V2_SIGNATURE) {
        let Some(&[high, low]) = bytes.get(V2_FIXED_OCTETS - 2..V2_FIXED_OCTETS) else {
            return Ok(Frame::Partial);
        };
        let length = V2_FIXED_OCTETS + usize::from(u16::from_be_bytes([high, low]));
        return match length {
            length if length > V2_OCTETS_MAX => Err(ProxyFault::TooLong),
            length if length > bytes.len() => Ok(Frame::Partial),
            length => Ok(Frame::Whole(length)),
        };
    }
    if !begins(bytes, V1_PREFIX) {
        return Err(ProxyFault::Absent);
    }
    match bytes.iter().take(V1_OCTETS_MAX).position(|byte| *byte == b'\n') {
        Some(at) => Ok(Frame::Whole(at + 1)),
        None if bytes.len() >= V1_OCTETS_MAX => Err(ProxyFault::TooLong),
        None => Ok(Frame::Partial),
    }
}

/// True if `bytes` begin with `wanted`, or could when more of them come.
fn begins(bytes: &[u8], wanted: &[u8]) -> bool {
    let common = bytes.len().min(wanted.len());
    bytes.get(..common) == wanted.get(..common)
}

/// Reads a whole header.
pub fn origin(header: &[u8]) -> Result<Origin, ProxyFault> {
    if header.starts_with(V1_PREFIX) {
        // The parser of version 1 panics at a CR with a longer character behind it; the header is ASCII (section 2.1).
        let text = std::str::from_utf8(header).ok().filter(|text| text.is_ascii());
        let text = text.ok_or(ProxyFault::Malformed)?;
        let header = v1::Header::try_from(text).map_err(|_| ProxyFault::Malformed)?;
        return Ok(match header.addresses {
            v1::Addresses::Tcp4(found) => client(found.source_address.into(), found.source_port),
            v1::Addresses::Tcp6(found) => client(found.source_address.into(), found.source_port),
            v1::Addresses::Unknown => Origin::Unknown,
        });
    }
    // Version 2, command LOCAL: whatever is said about addresses is to be skipped.
    if header.starts_with(V2_SIGNATURE) && header.get(12) == Some(&0x20) {
        return Ok(Origin::Balancer);
    }
    let header = v2::Header::try_from(header).map_err(|_| ProxyFault::Malformed)?;
    Ok(match header.addresses {
        v2::Addresses::IPv4(found) => client(found.source_address.into(), found.source_port),
        v2::Addresses::IPv6(found) => client(found.source_address.into(), found.source_port),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Origin::Unknown,
    })
}

/// IPv4 written as IPv6 is the same client.
fn client(address: IpAddr, port: u16) -> Origin {
    Origin::Client(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap();
        [V2_SIGNATURE, &[command, family], &length.to_be_bytes(), rest].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 25];

    #[test]
    fn headers_mean_what_the_specification_says() {
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        six[15] = 7;
        six[32..34].copy_from_slice(&[0x30, 0x39]);
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        mapped[32..34].copy_from_slice(&[0x30, 0x39]);
        let is = |text: &str| Origin::Client(text.parse().unwrap());
        let with_more = [V4, &[0x04, 0, 1, 9]].concat();
        let table: Vec<(Vec<u8>, Origin)> = vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 25\r\n".to_vec(), is("192.0.2.7:12345")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 25\r\n".to_vec(), is("[2001:db8::7]:12345")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Unknown),
            (b"PROXY UNKNOWN ffff:f:f::f whatever 1 2\r\n".to_vec(), Origin::Unknown),
            (v2(0x21, 0x11, V4), is("192.0.2.7:12345")),
            (v2(0x21, 0x11, &with_more), is("192.0.2.7:12345")),
            (v2(0x21, 0x21, &six), is("[2001:db8::7]:12345")),
            (v2(0x21, 0x21, &mapped), is("192.0.2.7:12345")),
            (v2(0x21, 0x00, &[]), Origin::Unknown),
            (v2(0x21, 0x31, &[0; 216]), Origin::Unknown),
            (v2(0x20, 0x00, &[]), Origin::Balancer),
            (v2(0x20, 0x11, V4), Origin::Balancer),
        ];
        for (header, wanted) in table {
            let shown = header.escape_ascii().to_string();
            assert_eq!(origin(&header), Ok(wanted), "{shown}");
            assert_eq!(frame(&header), Ok(Frame::Whole(header.len())), "{shown}");
            let mut followed = header.clone();
            followed.extend_from_slice(b"\nEHLO\r\n");
            assert_eq!(frame(&followed), Ok(Frame::Whole(header.len())), "{shown}");
            for cut in 0..header.len() {
                assert_eq!(frame(&header[..cut]), Ok(Frame::Partial), "{shown} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_apart_and_claims_size_nothing() {
        let table: Vec<(Vec<u8>, ProxyFault)> = vec![
            (b"EHLO client.test\r\n".to_vec(), ProxyFault::Absent),
            (b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), ProxyFault::Absent),
            (b"\r\n\r\nQUIT".to_vec(), ProxyFault::Absent),
            (b"\x16\x03\x01\x02\x00".to_vec(), ProxyFault::Absent),
            ([b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(), ProxyFault::TooLong),
            ([V2_SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(), ProxyFault::TooLong),
        ];
        for (bytes, wanted) in table {
            assert_eq!(frame(&bytes), Err(wanted), "{}", bytes.escape_ascii());
        }
        let malformed: Vec<Vec<u8>> = vec![
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 25\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 10.0.0.1 12345 25\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 123456 25\r\n".to_vec(),
            b"PROXY TCP9 a b 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7\0 10.0.0.1 1 2\r\n".to_vec(),
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 25\r\u{571}\n".into(),
            v2(0x21, 0x11, &V4[..8]),
            v2(0x22, 0x11, V4),
            v2(0x11, 0x11, V4),
        ];
        for bytes in malformed {
            assert_eq!(origin(&bytes), Err(ProxyFault::Malformed), "{}", bytes.escape_ascii());
        }
    }
}
