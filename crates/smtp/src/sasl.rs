//! SASL as far as SMTP carries it: names of mechanisms, and how their messages stand in lines. RFC 4954.
//!
//! What a mechanism says and means is not known here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// RFC 4954 4: a line of an exchange has at most 12288 octets, CRLF included.
pub const LINE_OCTETS_MAX: usize = 12_288;

/// A mechanism that this switch knows, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// RFC 5802, RFC 7677: the password is never sent.
    ScramSha256,
    /// RFC 4616: name and password in one message.
    Plain,
    /// The same in two, never standardised, and all that some clients know.
    Login,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];

    /// Its registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The mechanism of this name, in any case. RFC 4422 3.1 has them in upper case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

/// A message of an exchange as it stands in a line.
#[must_use]
pub fn encode(message: &[u8]) -> String {
    STANDARD.encode(message)
}

/// The message in a line; `None` if that is no base64. RFC 4648 4, padding required.
#[must_use]
pub fn decode(line: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_known_by_its_name_in_any_case_and_nothing_else_is_one() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::named(&mechanism.name().to_lowercase()), Some(mechanism));
        }
        for other in ["", "CRAM-MD5", "SCRAM-SHA-256-PLUS", "PLAIN ", "LOGIN\0"] {
            assert_eq!(Mechanism::named(other), None, "{other}");
        }
    }

    #[test]
    fn only_whole_base64_is_a_message() {
        assert_eq!(decode(encode(b"\0a\0b").as_bytes()).as_deref(), Some(&b"\0a\0b"[..]));
        assert_eq!(decode(b"").as_deref(), Some(&b""[..]));
        for bad in ["=", "A", "AAA", "AA A", "AAAA=", "A*==", "é"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
