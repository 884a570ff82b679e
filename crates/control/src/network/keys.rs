//! The keys by which nodes know each other.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use cluster::heartbeat::{ClusterKey, KeyError, parse_key};
use mail_model::NodeId;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

/// What both sides say that they speak.
const PROTOCOL: &[u8] = b"mailswitch-control/1";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file with the cluster's key.
    #[error("read the cluster key {}: {source}; make one with: switchctl cluster keygen", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What stands in it.
    #[error("{}: {source}", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The library of cryptography.
    #[error("make the key of node {0} for control connections: the library refuses it")]
    Refused(NodeId),
}

/// Reads a file with the cluster's key. Blocks on the disk.
pub fn read_key(path: &Path) -> Result<ClusterKey, KeyFault> {
    let path = path.to_owned();
    match std::fs::read_to_string(&path) {
        Ok(text) => parse_key(&text).map_err(|source| KeyFault::NoKey { path, source }),
        Err(source) => Err(KeyFault::Unreadable { path, source }),
    }
}

/// The nodes of a cluster, each with its public key, and the private one of this node.
pub struct Members {
    me: NodeId,
    own: Arc<CertifiedKey>,
    keys: Vec<(NodeId, CertificateDer<'static>)>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(node, _)| node)).finish()
    }
}

impl Members {
    /// Those of a cluster, as node `me` sees them.
    pub fn new<'a>(
        key: &ClusterKey,
        cluster: &str,
        me: &NodeId,
        nodes: impl IntoIterator<Item = &'a NodeId>,
    ) -> Result<Self, KeyFault> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let refused = |node: &NodeId| KeyFault::Refused(node.clone());
        let pair = |node: &NodeId| {
            Ed25519KeyPair::from_seed_unchecked(&key.control_seed(cluster, node)).map_err(|_| refused(node))
        };
        let public = |pair: &Ed25519KeyPair| pair.public_key().as_der().map(|der| der.as_ref().to_vec());
        let mut keys = Vec::new();
        for node in nodes {
            let der = public(&pair(node)?).map_err(|_| refused(node))?;
            keys.push((node.clone(), CertificateDer::from(der)));
        }
        let pair = pair(me)?;
        let shown = CertificateDer::from(public(&pair).map_err(|_| refused(me))?);
        let private = pair.to_pkcs8().map_err(|_| refused(me))?;
        let private = PrivatePkcs8KeyDer::from(private.as_ref().to_vec());
        let signing = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&private).map_err(|_| refused(me))?;
        Ok(Self { me: me.clone(), own: Arc::new(CertifiedKey::new(vec![shown], signing)), keys, provider })
    }

    /// This node.
    pub(super) fn me(&self) -> &NodeId {
        &self.me
    }

    /// How this node speaks to `node`; `None` if that is no member.
    pub(super) fn toward(&self, node: &NodeId) -> Option<Result<ClientConfig, Error>> {
        let (_, key) = self.keys.iter().find(|(id, _)| id == node)?;
        let verifier = self.verifier(vec![key.clone()]);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        Some(builder.with_protocol_versions(&[&TLS13]).map(|builder| {
            let mut config =
                builder.dangerous().with_custom_certificate_verifier(verifier).with_client_cert_resolver(
                    Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.own))),
                );
            config.enable_sni = false;
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
            config
        }))
    }

    /// How this node answers members.
    pub(super) fn answering(&self) -> Result<ServerConfig, Error> {
        let verifier = self.verifier(self.keys.iter().map(|(_, key)| key.clone()).collect());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.own))));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Nothing is kept of a connection: the next one proves itself again.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Whose key this is.
    pub(super) fn who(&self, shown: &CertificateDer<'_>) -> Option<&NodeId> {
        self.keys.iter().find(|(_, key)| key == shown).map(|(node, _)| node)
    }

    fn verifier(&self, believed: Vec<CertificateDer<'static>>) -> Arc<Believed> {
        Arc::new(Believed { keys: believed, algorithms: self.provider.signature_verification_algorithms })
    }
}

/// Believes these keys, and no certificate.
#[derive(Debug)]
struct Believed {
    keys: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Believed {
    fn judge(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        if self.keys.iter().any(|key| key == shown) {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
        }
    }

    fn signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

/// Nothing older than TLS 1.3 is spoken.
fn too_old() -> Error {
    Error::General("only TLS 1.3 is spoken on control connections".to_owned())
}

impl ServerCertVerifier for Believed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Believed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
