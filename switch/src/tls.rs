//! TLS of both sides: which certificate a listener shows, and what is asked of a next hop. TLS 1.2 or newer, with rustls.
//!
//! | file | what it is |
//! |---|---|
//! | `dane` | certificates as signed DNS names them |
//! | `files` | certificates and keys read from disk, and what is wrong with them |
//! | `inward` | how clients are spoken to |
//! | `outward` | how next hops are spoken to |
//! | `provider` | the cryptography below |
//! | `stream` | a connection in clear or under TLS |
//! | `subject` | whose a certificate is, as text |
//!
//! Everything is read at the start and on each reload, whole or not at all: a reload with an unreadable file changes nothing.
//! What a handshake has taken is kept by its connection, so a new certificate disturbs no session.

mod dane;
mod files;
mod inward;
mod outward;
mod provider;
mod stream;
mod subject;

use std::sync::Arc;

use arc_swap::ArcSwap;
use mail_model::Role;
use settings::Settings;

pub(crate) use self::dane::is_usable;
pub use self::files::TlsFault;
pub(crate) use self::files::shown;
pub(crate) use self::inward::{Expiry, Inward};
pub(crate) use self::outward::{Demand, Outward, Trust};
pub(crate) use self::stream::Stream;

/// All that is in use; replaced as a whole.
pub type LiveTls = Arc<ArcSwap<Tls>>;

/// What was read.
#[derive(Debug)]
pub struct Tls {
    /// One for each listener, in their order; none for a listener without a certificate.
    listeners: Vec<Option<Arc<Inward>>>,
    outward: Outward,
    expiries: Vec<Expiry>,
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
        let listeners = listeners
            .map(|(index, listener)| Inward::load(index, listener, &mut expiries, &mut faults).map(Arc::new));
        let listeners = listeners.collect();
        let outward = Outward::load(&settings.routes, &mut faults);
        if faults.is_empty() { Ok(Self { listeners, outward, expiries }) } else { Err(faults) }
    }

    /// How the listener at this place speaks TLS.
    pub(crate) fn listener(&self, index: usize) -> Option<Arc<Inward>> {
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
