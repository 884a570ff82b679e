//! Certificates for tests: each is its own root.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Writes `NAME.pem` and `NAME.key` into `folder`: a new key, and a certificate for `host`.
pub(crate) fn write(folder: &Path, name: &str, host: &str) {
    write_for(folder, name, vec![host.to_owned()]);
}

/// The same for several hosts.
pub(crate) fn write_for(folder: &Path, name: &str, hosts: Vec<String>) {
    let made = rcgen::generate_simple_self_signed(hosts).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
}

/// What `NAME.pem` says.
pub(crate) fn read(folder: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap()
}

/// A client that trusts `certificate` alone.
pub(crate) fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A server that shows the certificate written as `name`.
pub(crate) fn showing(folder: &Path, name: &str) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![read(folder, name)], key).unwrap())
}

/// Somebody who vouches for others; `NAME.pem` is its certificate.
pub(crate) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn write(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(params, key))
    }

    /// Writes `NAME.pem` and `NAME.key`: a certificate of `CN=NAME.test,O=Example`.
    pub(crate) fn issue(&self, folder: &Path, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = client(name).signed_by(&key, &self.0).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The same subject, and nobody vouches for it.
pub(crate) fn claim(folder: &Path, file: &str, name: &str) {
    let key = KeyPair::generate().unwrap();
    let certificate = client(name).self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, format!("{name}.test"));
    params
}

/// A client that trusts `certificate` alone and shows what is written as `name`.
pub(crate) fn trusting_and_showing(
    certificate: CertificateDer<'static>,
    folder: &Path,
    name: &str,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    Arc::new(config.with_client_auth_cert(vec![read(folder, name)], key).unwrap())
}

/// A server that shows the certificate written as `name`, and wants one that `authority` vouches for.
pub(crate) fn showing_and_asking(folder: &Path, name: &str, authority: &str) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read(folder, authority)).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    Arc::new(config.with_single_cert(vec![read(folder, name)], key).unwrap())
}
