//! TLS with clients: which certificate a listener shows, and what a client's own says of it.
//!
//! | `client_certificates` | no certificate | nobody vouches for it | vouched for |
//! |---|---|---|---|
//! | `off` | – (it is not asked for) | – | – |
//! | `request` | served | served; known by its fingerprint | known by subject and fingerprint |
//! | `require` | served, but no MAIL | the handshake fails | known by subject and fingerprint |
//!
//! Whatever is shown, the handshake proves that the client has its key. Nobody is known by a subject that no authority of
//! `client_ca` vouches for: anybody can make such a certificate.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use mail_model::WallTime;
use routing::ClientCertificate;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme};
use settings::{ClientCertificates, ListenerSettings, TlsFiles};

use super::files::{self, TlsFault};
use super::provider::provider;
use super::subject::subject;

/// When the certificate of a listener ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// The listener's address.
    pub(crate) listener: String,
    /// Seconds since 1970.
    pub(crate) not_after: u64,
}

/// What a listener needs.
#[derive(Debug)]
pub(crate) struct Inward {
    config: Arc<ServerConfig>,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
}

impl Inward {
    /// Reads the files of a listener. Notes what cannot be read, and when the certificate ends. `None` for a listener
    /// without one.
    pub(super) fn load(
        index: usize,
        listener: &ListenerSettings,
        expiries: &mut Vec<Expiry>,
        faults: &mut Vec<TlsFault>,
    ) -> Option<Self> {
        let tls = listener.tls.as_ref()?;
        let at = |key: &str| format!("listeners[{index}].tls.{key}");
        let chain = files::certificates(&tls.cert, &at("cert")).map_err(|fault| faults.push(fault));
        let key = files::private_key(&tls.key, &at("key")).map_err(|fault| faults.push(fault));
        let authorities = authorities(tls, &at("client_ca")).map_err(|fault| faults.push(fault));
        let (Ok(chain), Ok(key), Ok(authorities)) = (chain, key, authorities) else { return None };
        let ends = chain.first().and_then(files::not_after);
        expiries.extend(ends.map(|not_after| Expiry { listener: listener.address.to_string(), not_after }));
        let config = ServerConfig::builder_with_provider(provider());
        let config = config.with_safe_default_protocol_versions().and_then(|config| {
            let config = match (tls.client_certificates, &authorities) {
                (ClientCertificates::Off, _) => config.with_no_client_auth(),
                (ClientCertificates::Require, Some(authorities)) => {
                    config.with_client_cert_verifier(Arc::clone(authorities))
                }
                (ClientCertificates::Request, _) | (ClientCertificates::Require, None) => {
                    config.with_client_cert_verifier(Arc::new(Anybody(provider())))
                }
            };
            config.with_single_cert(chain, key)
        });
        match config {
            Ok(config) => Some(Self { config: Arc::new(config), authorities }),
            Err(error) => {
                faults.push(files::misfit(&tls.cert, &at("cert"), &tls.key, &error));
                None
            }
        }
    }

    /// What to shake hands with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whom a client showed itself to be in its handshake, by the certificates it showed then. Also asked of a session that
    /// was taken up again, so that no certificate outlives its end by that.
    pub(crate) fn known(&self, shown: &[CertificateDer<'_>], now: WallTime) -> Option<ClientCertificate> {
        let (own, others) = shown.split_first()?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.0));
        let vouched = self
            .authorities
            .as_ref()
            .is_some_and(|authorities| authorities.verify_client_cert(own, others, now).is_ok());
        let fingerprint = digest(&SHA256, own).as_ref().try_into().ok()?;
        Some(ClientCertificate { fingerprint, subject: if vouched { subject(own) } else { None } })
    }
}

/// Who vouches for clients, if a file names somebody.
fn authorities(tls: &TlsFiles, key: &str) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFault> {
    let Some(file) = &tls.client_ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(file, key)? {
        roots.add(certificate).map_err(|error| files::no_root(file, key, &error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    // A client without one is told so at MAIL, where it can be read in its log.
    let verifier = verifier.allow_unauthenticated().build();
    verifier.map(|verifier| Some(verifier as _)).map_err(|error| files::no_authority(file, key, &error))
}

/// Takes every certificate whose key the client has; who it is, is found out afterwards.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // With names of authorities some clients would keep back a certificate that is known by its fingerprint alone.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
