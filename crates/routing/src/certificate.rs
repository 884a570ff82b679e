//! Certificates as identities: whom a client shows itself to be, which of them may relay, and what a next hop is shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What a fingerprint begins with in writing.
const FINGERPRINT: &str = "sha256:";

/// The certificate that a client showed, and whose key it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    /// Its subject as RFC 4514 writes it. There only if an authority that is trusted vouches for the certificate: anybody
    /// can make one that says anything.
    pub subject: Option<Box<str>>,
}

/// As it is written where it is trusted: the subject if somebody vouches for it, the fingerprint otherwise.
impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(subject) => f.write_str(subject),
            None => CertificatePattern::Fingerprint(self.fingerprint).fmt(f),
        }
    }
}

/// Why a text names no certificate. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificatePatternError {
    /// `sha256:` and something else than 64 digits.
    #[error(
        "'{0}' is no fingerprint; write 'sha256:' and 64 hexadecimal digits, as 'openssl x509 -noout -fingerprint -sha256' shows them"
    )]
    Fingerprint(String),
    /// Neither a fingerprint nor a subject.
    #[error(
        "'{0}' is no subject; write 'sha256:FINGERPRINT', or the whole subject as 'openssl x509 -noout -subject -nameopt RFC2253' shows it: CN=client.example.test,O=Example"
    )]
    Subject(String),
}

/// A certificate that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificatePattern {
    /// `sha256:…`: this one, whoever vouches for it.
    Fingerprint([u8; 32]),
    /// Those with this subject, letter by letter, that an authority vouches for.
    Subject(Box<str>),
}

impl CertificatePattern {
    /// True for a certificate that it names.
    #[must_use]
    pub fn matches(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint,
            Self::Subject(subject) => certificate.subject.as_ref() == Some(subject),
        }
    }
}

impl FromStr for CertificatePattern {
    type Err = CertificatePatternError;

    fn from_str(text: &str) -> Result<Self, CertificatePatternError> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix(FINGERPRINT) else {
            let is_subject = text.split_once('=').is_some_and(|(name, value)| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.';
                !name.is_empty() && name.chars().all(is_name) && !value.is_empty()
            });
            return if is_subject {
                Ok(Self::Subject(text.into()))
            } else {
                Err(CertificatePatternError::Subject(text.to_owned()))
            };
        };
        let fault = || CertificatePatternError::Fingerprint(text.to_owned());
        let digits: Vec<u8> =
            digits.bytes().filter(|byte| *byte != b':').map(hex).collect::<Option<_>>().ok_or_else(fault)?;
        let pairs: Vec<u8> =
            digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |n, d| n * 16 + d)).collect();
        let fingerprint = <[u8; 32]>::try_from(pairs).map_err(|_| fault())?;
        if digits.len() == 64 { Ok(Self::Fingerprint(fingerprint)) } else { Err(fault()) }
    }
}

impl fmt::Display for CertificatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => {
                f.write_str(FINGERPRINT)?;
                fingerprint.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Subject(subject) => f.write_str(subject),
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Certificate and key, PEM, that a next hop which asks for one is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Certificate chain, the own first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: Option<&str>) -> ClientCertificate {
        ClientCertificate { fingerprint: [0xa5; 32], subject: subject.map(Into::into) }
    }

    #[test]
    fn a_fingerprint_is_read_as_openssl_shows_it_and_as_it_is_shown_here() {
        let shown = format!("sha256:{}", "a5".repeat(32));
        let pattern: CertificatePattern = shown.parse().unwrap();
        assert_eq!(pattern.to_string(), shown);
        let openssl = format!("sha256:{}", ["A5"; 32].join(":"));
        assert_eq!(openssl.parse::<CertificatePattern>().unwrap(), pattern);
        assert!(pattern.matches(&certificate(None)));
        assert_eq!(certificate(None).to_string(), shown);
        let other = ClientCertificate { fingerprint: [0xa6; 32], subject: None };
        assert!(!pattern.matches(&other));
    }

    #[test]
    fn a_subject_is_the_whole_of_it_and_only_of_a_certificate_that_somebody_vouches_for() {
        let pattern: CertificatePattern = "CN=client.test,O=Example".parse().unwrap();
        assert!(pattern.matches(&certificate(Some("CN=client.test,O=Example"))));
        for other in [None, Some("CN=client.test"), Some("CN=client.test,O=Example,C=XX")] {
            assert!(!pattern.matches(&certificate(other)), "{other:?}");
        }
    }

    #[test]
    fn what_names_no_certificate_is_refused_with_a_remedy() {
        let short = format!("sha256:{}", "a5".repeat(31));
        let odd = format!("sha256:{}a", "a5".repeat(32));
        for text in [short.as_str(), odd.as_str(), "sha256:", "sha256:xy"] {
            let told = text.parse::<CertificatePattern>().unwrap_err().to_string();
            assert!(told.contains("-fingerprint -sha256"), "{text}: {told}");
        }
        for text in ["client.test", "=x", "CN=", "/CN=client.test", ""] {
            let told = text.parse::<CertificatePattern>().unwrap_err().to_string();
            assert!(told.contains("-nameopt RFC2253"), "{text}: {told}");
        }
    }
}
