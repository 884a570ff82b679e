//! The subject of a certificate as text, by RFC 4514: the last part first, what could be taken for a separator escaped. So no
//! two subjects look alike, and a text can be compared with a text.

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::AttributeTypeAndValue;

/// The subject. `None` if it is empty or cannot be read.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let parts: Vec<_> = certificate.subject().iter().collect();
    let parts = parts.into_iter().rev().map(|part| {
        let attributes: Vec<String> = part.iter().map(attribute).collect();
        attributes.join("+")
    });
    let text = parts.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then(|| text.into())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    let name = oid2abbrev(kind, oid_registry()).map(str::to_owned);
    let mut text = name.unwrap_or_else(|_| kind.to_id_string());
    text.push('=');
    if let Ok(value) = attribute.as_str() {
        escape(value, &mut text);
    } else {
        // RFC 4514 2.4: a value that is no text is written in its bytes.
        text.push('#');
        hex(attribute.as_slice(), &mut text);
    }
    text
}

fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let at_an_end = (index == 0 && matches!(c, ' ' | '#')) || (index == last && c == ' ');
        if at_an_end || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            text.push('\\');
            text.push(c);
        } else if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).as_bytes() {
                text.push('\\');
                hex(&[*byte], text);
            }
        } else {
            text.push(c);
        }
    }
}

fn hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn shown(parts: &[(DnType, &str)]) -> Option<Box<str>> {
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        subject(certificate.der())
    }

    #[test]
    fn a_subject_is_written_with_its_last_part_first() {
        let parts = [
            (DnType::CountryName, "XX"),
            (DnType::OrganizationName, "Example Ltd"),
            (DnType::CommonName, "client.test"),
        ];
        assert_eq!(shown(&parts).as_deref(), Some("CN=client.test,O=Example Ltd,C=XX"));
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn no_part_of_a_subject_looks_like_two() {
        let forged = shown(&[(DnType::CommonName, "client.test,O=Example")]);
        let honest = shown(&[(DnType::OrganizationName, "Example"), (DnType::CommonName, "client.test")]);
        assert_eq!(forged.as_deref(), Some("CN=client.test\\,O=Example"));
        assert_eq!(honest.as_deref(), Some("CN=client.test,O=Example"));
        let odd = shown(&[(DnType::CommonName, " #a\r\nb\\+ ")]);
        assert_eq!(odd.as_deref(), Some("CN=\\ #a\\0D\\0Ab\\\\\\+\\ "));
    }
}
