//! How next hops are spoken to under TLS: with any certificate, or with one that given roots vouch for.

use std::collections::HashMap;
use std::sync::Arc;

use lookup::Tlsa;
use mail_model::Domain;
use routing::{Roots, Routes, TlsPolicy};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::dane::Named;
use super::files::{self, TlsFault};
use super::provider::provider;

/// Whose certificates are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Anybody's.
    Anybody,
    /// Those that these vouch for, if they name the host.
    Roots(&'a Roots),
    /// Those that signed DNS names for the host, usable all; and the domain that the mail is for.
    Named(&'a [Tlsa], &'a Domain),
}

/// What is asked of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing: in clear, whatever it offers.
    Clear,
    /// TLS if it is offered and works.
    May,
    /// TLS with any certificate.
    Encrypt,
    /// TLS with a certificate for its name.
    Verify(Roots),
    /// TLS with a certificate that signed DNS names for it, the mail being for this domain.
    Named(Vec<Tlsa>, Domain),
}

impl Demand {
    /// What a route asks of every host. What a domain publishes is found out by who asks DNS; without that it is `May`.
    pub(crate) fn of(policy: &TlsPolicy) -> Self {
        match policy {
            TlsPolicy::None => Self::Clear,
            TlsPolicy::May | TlsPolicy::Dane | TlsPolicy::Sts(_) => Self::May,
            TlsPolicy::Encrypt => Self::Encrypt,
            TlsPolicy::Verify(roots) => Self::Verify(roots.clone()),
        }
    }

    /// Whose certificates are taken; `None` if no TLS is spoken with a host that offers it or not.
    pub(crate) fn trust(&self, offers_tls: bool) -> Option<Trust<'_>> {
        match self {
            Self::Clear => None,
            Self::May => offers_tls.then_some(Trust::Anybody),
            Self::Encrypt => Some(Trust::Anybody),
            Self::Verify(roots) => Some(Trust::Roots(roots)),
            Self::Named(records, domain) => Some(Trust::Named(records, domain)),
        }
    }
}

/// Everything that routes need.
#[derive(Debug)]
pub(crate) struct Outward {
    anybody: Option<Arc<ClientConfig>>,
    verified: HashMap<Roots, Arc<ClientConfig>>,
}

impl Outward {
    /// Reads the roots that routes name. Notes what cannot be read.
    pub(super) fn load(routes: &Routes, faults: &mut Vec<TlsFault>) -> Self {
        let mut verified = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            let Some(roots) = route.target.next_hop().and_then(|hop| hop.tls().roots()) else {
                continue;
            };
            if verified.contains_key(roots) {
                continue;
            }
            match store(roots, index) {
                Ok(store) => {
                    let config = builder()
                        .map(|config| Arc::new(config.with_root_certificates(store).with_no_client_auth()));
                    verified.extend(config.map(|config| (roots.clone(), config)));
                }
                Err(fault) => faults.push(fault),
            }
        }
        let anybody = builder().map(|config| {
            let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
            Arc::new(config.with_no_client_auth())
        });
        Self { anybody, verified }
    }

    /// What to shake hands with. `None` if the roots are not among those that were read.
    pub(crate) fn config(&self, trust: Trust<'_>) -> Option<Arc<ClientConfig>> {
        match trust {
            Trust::Anybody => self.anybody.clone(),
            Trust::Roots(roots) => self.verified.get(roots).cloned(),
            Trust::Named(records, domain) => {
                let domain = ServerName::try_from(domain.to_string()).ok();
                let verifier = Arc::new(Named::new(records.to_vec(), domain));
                let config = builder()?.dangerous().with_custom_certificate_verifier(verifier);
                Some(Arc::new(config.with_no_client_auth()))
            }
        }
    }
}

/// `None` is impossible: the provider has suites for TLS 1.2 and 1.3.
fn builder() -> Option<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()
}

fn store(roots: &Roots, index: usize) -> Result<RootCertStore, TlsFault> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::File(file) => {
            let key = format!("routes[{index}].tls_roots");
            for certificate in files::certificates(file, &key)? {
                store.add(certificate).map_err(|error| files::no_root(file, &key, &error))?;
            }
        }
        Roots::Platform => {
            let found = rustls_native_certs::load_native_certs();
            // One root of a hundred that is out of date or malformed is no reason to trust none.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(files::no_platform_roots(&format!("routes[{index}].tls"), &why));
            }
        }
    }
    Ok(store)
}

/// Takes every certificate. RFC 7435: against who only listens, any is better than none, and against who stands between
/// none is; so neither the certificate nor its signature is looked at, and the oldest of peers is spoken to.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
