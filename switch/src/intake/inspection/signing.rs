//! DKIM signatures (RFC 6376) of mail that trusted clients send: by every key of the domain in its From field, or of the
//! nearest domain above it.

use std::fmt;
use std::path::Path;

use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::{DkimKey as PrivateKey, Ed25519Key, RsaKey};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner, Done};
use mail_model::{Domain, EnhancedStatus, Reply};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use settings::DkimKey;

use super::exhibit::{Exhibit, Inspecting, Inspector, Opinion, heavy};

/// RFC 6376 5.4.1: what a reader sees, and what steers how it is read.
const FIELDS: [&str; 17] = [
    "From",
    "Reply-To",
    "Sender",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
];

struct Named {
    domain: Domain,
    selector: String,
    signer: DkimSigner<PrivateKey, Done>,
}

/// Signs.
pub(super) struct Signer {
    keys: Vec<Named>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("keys", &self.keys.len()).finish()
    }
}

impl Signer {
    /// Reads the keys. Notes those that cannot serve.
    pub(super) fn load(keys: &[DkimKey], faults: &mut Vec<String>) -> Self {
        let mut read = Vec::new();
        for (index, DkimKey { domain, selector, file }) in keys.iter().enumerate() {
            match key(file) {
                Ok(key) => read.push(Named {
                    domain: domain.clone(),
                    selector: selector.clone(),
                    signer: DkimSigner::from_key(key)
                        .domain(domain.as_str())
                        .selector(selector.as_str())
                        .headers(FIELDS)
                        .header_canonicalization(Canonicalization::Relaxed)
                        .body_canonicalization(Canonicalization::Relaxed),
                }),
                Err(why) => faults.push(format!(
                    "{}: dkim[{index}].key: {why}; 'switchctl dkim keygen' makes one",
                    file.display()
                )),
            }
        }
        Self { keys: read }
    }

    /// True if there is nothing to sign with.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn sign(&self, content: &[u8]) -> Opinion {
        let domain = AuthenticatedMessage::parse(content).and_then(|message| {
            let from = message.from();
            from.rsplit_once('@').and_then(|(_, domain)| Domain::new(domain).ok())
        });
        let Some(domain) = domain else { return Opinion::fields(String::new()) };
        let mut fields = String::new();
        for named in self.keys_of(&domain) {
            match named.signer.sign(content) {
                Ok(signature) => fields.push_str(&signature.to_header()),
                Err(error) => {
                    // Unsigned it might be refused for good elsewhere: better later than so.
                    tracing::error!(event = "dkim.failed", domain = %named.domain, selector = named.selector, %error);
                    let text = "the message cannot be signed now, try again later";
                    return Opinion::Refuse(Reply::local(451, EnhancedStatus::new(4, 3, 0), text));
                }
            }
        }
        Opinion::fields(fields)
    }

    /// Those of the longest domain that is this one or above it.
    fn keys_of(&self, domain: &Domain) -> impl Iterator<Item = &Named> {
        let fits = |named: &&Named| {
            let rest = domain.as_str().strip_suffix(named.domain.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let nearest = self.keys.iter().filter(fits).map(|named| named.domain.as_str().len()).max();
        self.keys.iter().filter(fits).filter(move |named| Some(named.domain.as_str().len()) == nearest)
    }
}

fn key(file: &Path) -> Result<PrivateKey, String> {
    let der = PrivateKeyDer::from_pem_file(file)
        .map_err(|error| format!("it holds no private key in PEM ({error})"))?;
    if let PrivateKeyDer::Pkcs8(pkcs8) = &der
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8.secret_pkcs8_der())
    {
        return Ok(PrivateKey::Ed25519(key));
    }
    RsaKey::from_key_der(der)
        .map(PrivateKey::Rsa)
        .map_err(|error| format!("it is no key of RSA or Ed25519 ({error})"))
}

impl Inspector for Signer {
    fn inspect<'a>(&'a self, exhibit: &'a Exhibit) -> Inspecting<'a> {
        Box::pin(async { heavy(&exhibit.content, || self.sign(&exhibit.content)) })
    }
}
