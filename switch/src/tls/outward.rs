//! How next hops are spoken to under TLS: with any certificate, or with one that given roots vouch for.

use std::collections::HashMap;
use std::sync::Arc;

use lookup::Tlsa;
use mail_model::Domain;
use routing::{Identity, Roots, Routes, TlsPolicy};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
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

/// Whose certificates are taken, as far as that is known before there is a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Believed {
    Anybody,
    Roots(Roots),
}

/// What a host that asks for it is shown.
#[derive(Debug)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Everything that routes need. Nothing of one identity is ever used for another: a session that is taken up again would
/// carry the certificate it began with.
#[derive(Debug)]
pub(crate) struct Outward {
    ready: HashMap<(Believed, Option<Identity>), Arc<ClientConfig>>,
    identities: HashMap<Identity, Shown>,
}

impl Outward {
    /// Reads the roots and the certificates that routes name. Notes what cannot be read.
    pub(super) fn load(routes: &Routes, faults: &mut Vec<TlsFault>) -> Self {
        let mut outward = Self { ready: HashMap::new(), identities: HashMap::new() };
        outward.prepare(Believed::Anybody, None, 0, faults);
        for (index, route) in routes.iter().enumerate() {
            let Some(hop) = route.target.next_hop() else { continue };
            let identity = hop.identity();
            if let Some(identity) = identity
                && !outward.identities.contains_key(identity)
            {
                match shown(identity, index) {
                    Ok(shown) => outward.identities.extend([(identity.clone(), shown)]),
                    Err(found) => {
                        faults.extend(found);
                        continue;
                    }
                }
            }
            // A policy of the domain may ask for roots, or for nothing.
            outward.prepare(Believed::Anybody, identity, index, faults);
            if let Some(roots) = hop.tls().roots() {
                outward.prepare(Believed::Roots(roots.clone()), identity, index, faults);
                // The web server of a domain is no next hop, and is shown nothing.
                outward.prepare(Believed::Roots(roots.clone()), None, index, faults);
            }
        }
        outward
    }

    fn prepare(
        &mut self,
        believed: Believed,
        identity: Option<&Identity>,
        index: usize,
        faults: &mut Vec<TlsFault>,
    ) {
        let key = (believed, identity.cloned());
        if self.ready.contains_key(&key) {
            return;
        }
        let config = match &key.0 {
            Believed::Anybody => {
                builder().map(|config| config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)))
            }
            Believed::Roots(roots) => match store(roots, index) {
                Ok(store) => builder().map(|config| config.with_root_certificates(store)),
                Err(fault) => {
                    if !faults.contains(&fault) {
                        faults.push(fault);
                    }
                    None
                }
            },
        };
        let config = config.and_then(|config| self.showing(config, identity));
        self.ready.extend(config.map(|config| (key, config)));
    }

    /// `None` if what it shows was not read.
    fn showing(
        &self,
        config: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
        identity: Option<&Identity>,
    ) -> Option<Arc<ClientConfig>> {
        let Some(identity) = identity else { return Some(Arc::new(config.with_no_client_auth())) };
        let Shown { chain, key } = self.identities.get(identity)?;
        config.with_client_auth_cert(chain.clone(), key.clone_key()).ok().map(Arc::new)
    }

    /// What to shake hands with. `None` if the roots or the certificate are not among those that were read.
    pub(crate) fn config(&self, trust: Trust<'_>, identity: Option<&Identity>) -> Option<Arc<ClientConfig>> {
        let believed = match trust {
            Trust::Anybody => Believed::Anybody,
            Trust::Roots(roots) => Believed::Roots(roots.clone()),
            Trust::Named(records, domain) => {
                let domain = ServerName::try_from(domain.to_string()).ok();
                let verifier = Arc::new(Named::new(records.to_vec(), domain));
                let config = builder()?.dangerous().with_custom_certificate_verifier(verifier);
                return self.showing(config, identity);
            }
        };
        self.ready.get(&(believed, identity.cloned())).cloned()
    }
}

/// Reads what an identity names, and sees whether the two fit.
fn shown(identity: &Identity, index: usize) -> Result<Shown, Vec<TlsFault>> {
    let at = |key: &str| format!("routes[{index}].{key}");
    let chain = files::certificates(&identity.cert, &at("tls_cert"));
    let key = files::private_key(&identity.key, &at("tls_key"));
    match (chain, key) {
        (Ok(chain), Ok(key)) => {
            let fits = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
            match fits {
                Ok(_) => Ok(Shown { chain, key }),
                Err(error) => {
                    Err(vec![files::misfit(&identity.cert, &at("tls_cert"), &identity.key, &error)])
                }
            }
        }
        (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect()),
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
