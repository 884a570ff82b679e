//! Certificates and keys read from disk. What is wrong is told with the file, the setting that names it, and a remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;

/// A file that cannot serve. Shown as `file: key: what is wrong, what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFault {
    file: PathBuf,
    key: String,
    what: String,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.file.display(), self.key, self.what)
    }
}

/// The faults, a line each.
pub(crate) fn shown(faults: &[TlsFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn fault(file: &Path, key: &str, what: String) -> TlsFault {
    TlsFault { file: file.to_owned(), key: key.to_owned(), what }
}

/// The certificates in `file`, which the setting `key` names; at least one.
pub(crate) fn certificates(file: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let remedy = "it must hold certificates in PEM, '-----BEGIN CERTIFICATE-----'";
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(fault(file, key, format!("no certificate in it; {remedy}"))),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(file, key, &error, remedy)),
    }
}

/// The private key in `file`, which the setting `key` names.
pub(crate) fn private_key(file: &Path, key: &str) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let remedy = "it must hold a private key in PEM without a passphrase, '-----BEGIN PRIVATE KEY-----'";
    PrivateKeyDer::from_pem_file(file).map_err(|error| unreadable(file, key, &error, remedy))
}

/// When a certificate ends, in seconds since 1970; `None` if it cannot be read.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// Certificate and key were read and do not serve together.
pub(crate) fn misfit(cert: &Path, key: &str, private_key: &Path, error: &rustls::Error) -> TlsFault {
    let what = format!(
        "it cannot be used with the private key {}: {error}; write the two that were made together",
        private_key.display()
    );
    fault(cert, key, what)
}

/// A certificate in `file` is none that can vouch for others.
pub(crate) fn no_root(file: &Path, key: &str, error: &rustls::Error) -> TlsFault {
    fault(file, key, format!("a certificate in it cannot be trusted: {error}; take it out"))
}

/// Nobody in `file` can vouch for clients.
pub(crate) fn no_authority(file: &Path, key: &str, error: &VerifierBuilderError) -> TlsFault {
    fault(
        file,
        key,
        format!("clients cannot be verified with it: {error}; write certificates of authorities into it"),
    )
}

/// The machine trusts nobody.
pub(crate) fn no_platform_roots(key: &str, why: &str) -> TlsFault {
    let what = format!("no root certificates found{why}; install ca-certificates, or write tls_roots");
    fault(Path::new("the machine's certificates"), key, what)
}

fn unreadable(file: &Path, key: &str, error: &PemError, remedy: &str) -> TlsFault {
    let PemError::Io(error) = error else {
        return fault(file, key, format!("nothing in it can be used ({error}); {remedy}"));
    };
    let remedy = if error.kind() == io::ErrorKind::NotFound {
        "write it there, or correct the path"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "let the user of the switch read it"
    } else {
        "look at the file and its file system"
    };
    let what = format!("{error}; {remedy}");
    fault(file, key, what)
}
