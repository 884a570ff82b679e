//! The two spellings in which DSN parameters carry text: xtext (RFC 3461 4) and the `utf-8` address type (RFC 6533 3).
//!
//! What is decoded is printable: no control character gets through, so no decoded text can break a line later.

use std::fmt::Write as _;

/// Appends `text` in xtext: every octet outside `!`..`~`, and `+` and `=`, as `+` and two hexadecimal digits.
pub fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if matches!(byte, b'!'..=b'~') && byte != b'+' && byte != b'=' {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "+{byte:02X}");
        }
    }
}

/// Decodes xtext; `None` if it is malformed or if the decoded text is not printable ASCII. RFC 3461 4.2 and 4.4.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    decode_international(text).filter(|decoded| decoded.is_ascii())
}

/// Decodes xtext whose octets may be UTF-8; `None` if it is malformed or not printable. RFC 3461 has no such thing, and Postfix sends
/// an international ORCPT so, as `rfc822;stra+C3+9Fe@…`.
#[must_use]
pub fn decode_international(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => hexadecimal(bytes.next()?)? << 4 | hexadecimal(bytes.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => byte,
            _ => return None,
        };
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok().filter(|decoded| !decoded.chars().any(char::is_control))
}

/// Appends `text` in the spelling of the `utf-8` address type. Where the peer does not know SMTPUTF8 (`unicode` false),
/// non-ASCII characters become `\x{…}` too.
pub fn encode_utf8_address(text: &str, unicode: bool, out: &mut String) {
    for character in text.chars() {
        let plain = matches!(character, '!'..='~') && !matches!(character, '+' | '=' | '\\');
        if plain || (unicode && !character.is_ascii() && !character.is_control()) {
            out.push(character);
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "\\x{{{:X}}}", u32::from(character));
        }
    }
}

/// Decodes the spelling of the `utf-8` address type; `None` if it is malformed or not printable.
#[must_use]
pub fn decode_utf8_address(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let character = if character == '\\' {
            let (digits, after) = rest.strip_prefix("\\x{")?.split_once('}')?;
            rest = after;
            if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
        } else {
            rest = rest.get(character.len_utf8()..)?;
            if matches!(character, '+' | '=' | ' ') {
                return None;
            }
            character
        };
        (!character.is_control()).then(|| decoded.push(character))?;
    }
    Some(decoded)
}

/// The value of one digit. RFC 3461 wants upper case; lower case means the same and is taken.
fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_or_unprintable_xtext_is_refused() {
        for bad in ["+", "+4", "+GG", "a=b", "a b", "+0D+0A", "+00", "+7F", "+C3+A9", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("a+2Bb+3Dc+20d").as_deref(), Some("a+b=c d"));
        for bad in ["\\", "\\x{", "\\x{}", "\\x{D800}", "\\x{110000}", "\\x{A}", "a+b", "a=b", "\\x{+41}"] {
            assert_eq!(decode_utf8_address(bad), None, "{bad}");
        }
        assert_eq!(decode_utf8_address("r\\x{E9}my@é.test").as_deref(), Some("rémy@é.test"));
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(ascii in "[ -~]{0,40}", any in "\\PC{0,40}", unicode: bool) {
            let mut wire = String::new();
            encode(&ascii, &mut wire);
            prop_assert!(wire.bytes().all(|b| matches!(b, b'!'..=b'~')));
            prop_assert_eq!(decode(&wire), Some(ascii));
            let mut wire = String::new();
            encode_utf8_address(&any, unicode, &mut wire);
            prop_assert!(unicode || wire.is_ascii());
            prop_assert_eq!(decode_utf8_address(&wire), Some(any));
        }
    }
}
