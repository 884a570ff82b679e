//! TLS of both sides: which certificate a listener shows, and what is asked of a next hop. TLS 1.2 or newer, with rustls.
//!
//! | file | what it is |
//! |---|---|
//! | `dane` | certificates as signed DNS names them |
//! | `files` | certificates and keys read from disk, and what is wrong with them |
//! | `outward` | how next hops are spoken to |
//! | `provider` | the cryptography below |
//! | `stream` | a connection in clear or under TLS |
//!
//! Everything is read at the start and on each reload, whole or not at all: a reload with an unreadable file changes nothing.
//! What a handshake has taken is kept by its connection, so a new certificate disturbs no session.

mod dane;
mod files;
mod outward;
mod provider;
mod stream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use mail_model::Role;
use rustls::ServerConfig;
use settings::{ListenerSettings, Settings};

pub(crate) use self::dane::is_usable;
pub use self::files::TlsFault;
pub(crate) use self::files::shown;
pub(crate) use self::outward::{Demand, Outward, Trust};
pub(crate) use self::stream::Stream;

use self::provider::provider;

/// All that is in use; replaced as a whole.
pub type LiveTls = Arc<ArcSwap<Tls>>;

/// What was read.
#[derive(Debug)]
pub struct Tls {
    /// One for each listener, in their order; none for a listener without a certificate.
    listeners: Vec<Option<Arc<ServerConfig>>>,
    outward: Outward,
    expiries: Vec<Expiry>,
}

/// When the certificate of a listener ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// The listener's address.
    pub(crate) listener: String,
    /// Seconds since 1970.
    pub(crate) not_after: u64,
}

impl Tls {
    /// Reads every file that `settings` name. A secondary listens nowhere, so the certificates of listeners do not keep it
    /// from draining a queue. Blocks on the disk. All faults at once.
    pub fn load(settings: &Settings, role: Role) -> Result<Self, Vec<TlsFault>> {
        let mut faults = Vec::new();
        let listeners = match role {
            Role::Primary => settings.listeners.as_slice(),
            Role::Secondary => &[],
        };
        let mut expiries = Vec::new();
        let listeners = listeners.iter().enumerate();
        let listeners =
            listeners.map(|(index, listener)| inward(index, listener, &mut expiries, &mut faults));
        let listeners = listeners.collect();
        let outward = Outward::load(&settings.routes, &mut faults);
        if faults.is_empty() { Ok(Self { listeners, outward, expiries }) } else { Err(faults) }
    }

    /// What the listener at this place shows.
    pub(crate) fn listener(&self, index: usize) -> Option<Arc<ServerConfig>> {
        self.listeners.get(index).cloned().flatten()
    }

    /// When the certificates of listeners end.
    pub(crate) fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// How next hops are spoken to.
    pub(crate) fn outward(&self) -> &Outward {
        &self.outward
    }
}

fn inward(
    index: usize,
    listener: &ListenerSettings,
    expiries: &mut Vec<Expiry>,
    faults: &mut Vec<TlsFault>,
) -> Option<Arc<ServerConfig>> {
    let tls = listener.tls.as_ref()?;
    let at = |key: &str| format!("listeners[{index}].tls.{key}");
    let chain = files::certificates(&tls.cert, &at("cert"));
    let key = files::private_key(&tls.key, &at("key"));
    match (chain, key) {
        (Ok(chain), Ok(key)) => {
            let ends = chain.first().and_then(files::not_after);
            expiries
                .extend(ends.map(|not_after| Expiry { listener: listener.address.to_string(), not_after }));
            let config = ServerConfig::builder_with_provider(provider());
            let config = config.with_safe_default_protocol_versions();
            let config = config.and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
            match config {
                Ok(config) => return Some(Arc::new(config)),
                Err(error) => faults.push(files::misfit(&tls.cert, &at("cert"), &tls.key, &error)),
            }
        }
        (chain, key) => {
            faults.extend(chain.err());
            faults.extend(key.err());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use settings::{Environment, Source};

    use super::*;

    #[test]
    fn every_file_that_is_missing_is_told_and_a_secondary_needs_no_certificate_of_a_listener() {
        let text = "cluster: { id: test }\nnode: { id: a }\n\
                    listeners: [ { address: 127.0.0.1:25, tls: { cert: c.pem, key: c.key } } ]\n\
                    routes: [ { match: \"*\", next_hop: h, tls: verify, tls_roots: r.pem } ]\n";
        let source = Source { path: "/nowhere/m.yaml".into(), text: text.to_owned() };
        let settings = settings::parse(&[source], &Environment::default()).unwrap();
        let told = |role| {
            let faults = Tls::load(&settings, role).unwrap_err();
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let primary = told(Role::Primary);
        assert_eq!(primary.len(), 3, "{primary:?}");
        assert!(primary[0].starts_with("/nowhere/c.pem: listeners[0].tls.cert: "), "{primary:?}");
        assert!(primary[1].starts_with("/nowhere/c.key: listeners[0].tls.key: "), "{primary:?}");
        let secondary = told(Role::Secondary);
        assert_eq!(secondary, primary[2..]);
        assert!(secondary[0].starts_with("/nowhere/r.pem: routes[0].tls_roots: "), "{secondary:?}");
        assert!(secondary[0].contains("write it there, or correct the path"), "{secondary:?}");
    }
}
