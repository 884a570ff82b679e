//! Command lines that stand outside a message: EHLO, RSET, QUIT. A name that could break its line cannot be written.

use bytes::Bytes;
use mail_model::Domain;

/// `RSET`.
pub const RSET: &[u8] = b"RSET\r\n";
/// `QUIT`.
pub const QUIT: &[u8] = b"QUIT\r\n";

/// `EHLO name`. A [`Domain`] has no control characters and no spaces, so this is one line of two words.
#[must_use]
pub fn ehlo(name: &Domain) -> Bytes {
    Bytes::from(format!("EHLO {name}\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ehlo_is_one_line() {
        assert_eq!(ehlo(&Domain::new("mx.example.test").unwrap()), "EHLO mx.example.test\r\n");
        assert!(Domain::new("a\r\nMAIL").is_err() && Domain::new("a b").is_err());
    }
}
