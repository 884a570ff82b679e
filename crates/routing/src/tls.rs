//! What a next hop must offer of TLS before mail is given to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no TLS policy; write none, may, encrypt, verify, dane or mta-sts")]
pub struct TlsPolicyError(String);

/// The policy of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsPolicy {
    /// Always in clear, whatever is offered.
    None,
    /// TLS if it is offered and works, with any certificate; in clear otherwise. RFC 7435.
    #[default]
    May,
    /// TLS with any certificate, or the mail waits.
    Encrypt,
    /// TLS with a certificate that these roots vouch for and that names the host, or the mail waits.
    Verify(Roots),
    /// What the records of each MX host in signed DNS ask for; without any as [`Self::May`]. RFC 7672.
    Dane,
    /// What the policy of the domain asks for, with certificates that these roots vouch for; without one as [`Self::May`].
    /// RFC 8461.
    Sts(Roots),
}

impl TlsPolicy {
    /// The file of the roots, if certificates are verified with one.
    #[must_use]
    pub fn roots_file(&self) -> Option<&Path> {
        match self {
            Self::Verify(Roots::File(file)) | Self::Sts(Roots::File(file)) => Some(file),
            Self::None
            | Self::May
            | Self::Encrypt
            | Self::Dane
            | Self::Verify(Roots::Platform)
            | Self::Sts(Roots::Platform) => None,
        }
    }

    /// Who vouches for certificates, if they are looked at.
    #[must_use]
    pub fn roots(&self) -> Option<&Roots> {
        match self {
            Self::Verify(roots) | Self::Sts(roots) => Some(roots),
            Self::None | Self::May | Self::Encrypt | Self::Dane => None,
        }
    }

    /// True if it is told by the destination's domain, and not by the route alone.
    #[must_use]
    pub fn is_published(&self) -> bool {
        match self {
            Self::Dane | Self::Sts(_) => true,
            Self::None | Self::May | Self::Encrypt | Self::Verify(_) => false,
        }
    }
}

/// Who vouches for certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Roots {
    /// Those the machine trusts.
    #[default]
    Platform,
    /// Those in this file, PEM.
    File(PathBuf),
}

impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::May => "may",
            Self::Encrypt => "encrypt",
            Self::Verify(_) => "verify",
            Self::Dane => "dane",
            Self::Sts(_) => "mta-sts",
        })
    }
}

impl FromStr for TlsPolicy {
    type Err = TlsPolicyError;

    fn from_str(text: &str) -> Result<Self, TlsPolicyError> {
        let platform = Roots::Platform;
        let named = [Self::Verify(platform.clone()), Self::Dane, Self::Sts(platform)];
        let all = [Self::None, Self::May, Self::Encrypt].into_iter().chain(named);
        let known = { all }.find(|policy| policy.to_string() == text);
        known.ok_or_else(|| TlsPolicyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_back_as_it_is_shown_and_anything_else_is_told_what_to_write() {
        for text in ["none", "may", "encrypt", "verify", "dane", "mta-sts"] {
            assert_eq!(text.parse::<TlsPolicy>().unwrap().to_string(), text);
        }
        let told = "Encrypt".parse::<TlsPolicy>().unwrap_err().to_string();
        assert!(told.contains("none, may, encrypt, verify, dane or mta-sts"), "{told}");
    }
}
