//! Certificates as DNS names them: DANE for SMTP, RFC 7672. The records come from who asked DNS, and were signed.
//!
//! | record | what is wanted of the server |
//! |---|---|
//! | usage 3 | its own certificate, or key, is the one. Names and dates say nothing (3.1.1) |
//! | usage 2 | one that it shows is the one, and vouches for its own, which names the host and is in date (3.1.2) |
//! | anything else | is not for SMTP (3.1.3), and counts as none |

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use lookup::Tlsa;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::provider::provider;

/// True if a record can be met at all. RFC 7672 3.1, RFC 6698 2.1.
pub(crate) fn is_usable(record: &Tlsa) -> bool {
    let length = match record.matching {
        0 => !record.data.is_empty(),
        1 => record.data.len() == 32,
        2 => record.data.len() == 64,
        _ => false,
    };
    matches!(record.usage, 2 | 3) && matches!(record.selector, 0 | 1) && length
}

/// Takes what the records name.
#[derive(Debug)]
pub(super) struct Named {
    records: Vec<Tlsa>,
    /// What a certificate of usage 2 may name besides the host: the domain the mail is for.
    domain: Option<ServerName<'static>>,
}

impl Named {
    /// `records` are usable.
    pub(super) fn new(records: Vec<Tlsa>, domain: Option<ServerName<'static>>) -> Self {
        Self { records, domain }
    }

    fn any(&self, usage: u8, certificate: &CertificateDer<'_>) -> bool {
        self.records.iter().filter(|record| record.usage == usage).any(|record| matches(record, certificate))
    }

    /// Those that may vouch for others: shown by the server, or whole in a record.
    fn anchors(&self, shown: &[&CertificateDer<'_>]) -> RootCertStore {
        let mut store = RootCertStore::empty();
        let named =
            shown.iter().filter(|certificate| self.any(2, certificate)).map(|c| (*c).clone().into_owned());
        let whole = self.records.iter().filter(|r| (r.usage, r.selector, r.matching) == (2, 0, 0));
        store.add_parsable_certificates(named.chain(whole.map(|r| CertificateDer::from(r.data.clone()))));
        store
    }
}

fn matches(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let key;
    let selected: &[u8] = if record.selector == 0 {
        certificate.as_ref()
    } else {
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
        key = parsed.subject_public_key_info();
        key.as_ref()
    };
    match record.matching {
        0 => selected == record.data,
        1 => digest(&SHA256, selected).as_ref() == record.data,
        2 => digest(&SHA512, selected).as_ref() == record.data,
        _ => false,
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.any(3, end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let shown: Vec<&CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).collect();
        let anchors = self.anchors(&shown);
        let mut failure = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        if anchors.is_empty() {
            return Err(failure);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), provider()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        for name in std::iter::once(server_name).chain(&self.domain) {
            match verifier.verify_server_cert(end_entity, intermediates, name, &[], now) {
                Ok(done) => return Ok(done),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
