//! A Postfix as relay beside a switch, and one that takes mail of its users only, whom a Dovecot knows.

use std::net::SocketAddr;

use tests::dovecot::Dovecot;
use tests::postfix::Postfix;

use super::free;
use super::site::{Peer, Site, TO_PEER, TO_SWITCH, USER};

pub(crate) struct Relay {
    address: SocketAddr,
    _postfix: Postfix,
}

impl Relay {
    /// `None` where it cannot be started.
    pub(crate) fn start(site: &Site) -> Option<Self> {
        let (address, dir) = (free(), site.path().display());
        let main = format!(
            "myhostname = postfix.example.test\nmynetworks = 127.0.0.0/8\nmessage_size_limit = 50000000\ndisable_dns_lookups = yes\n\
             smtp_host_lookup = native\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = {dir}/cert.pem\n\
             smtpd_tls_key_file = {dir}/key.pem\nsmtpd_tls_received_header = yes\nqueue_minfree = 0\n\
             transport_maps = inline:{{ {TO_PEER}=smtp:[{}]:{}, {TO_SWITCH}=secured:[{}]:{} }}\n",
            site.sink_address().ip(),
            site.sink_address().port(),
            site.address().ip(),
            site.address().port(),
        );
        let master = format!(
            "{address} inet n - n - - smtpd\nsecured unix - - n - - smtp\n  -o smtp_tls_security_level=encrypt\n"
        );
        let Some(postfix) = Postfix::start(site.path(), &main, &master).unwrap() else {
            eprintln!("skipped: needs root and postfix");
            return None;
        };
        Some(Self { address, _postfix: postfix })
    }
}

/// One for users.
pub(crate) struct Submission {
    pub(crate) address: SocketAddr,
    _postfix: Postfix,
    _dovecot: Dovecot,
}

impl Submission {
    /// It offers these mechanisms and gives the mail it takes to the sink. `None` where it cannot be started.
    pub(crate) fn start(site: &Site) -> Option<Self> {
        if !Dovecot::is_there() {
            eprintln!("skipped: needs the Debian package dovecot-lmtpd");
            return None;
        }
        let (address, dir, sink) = (free(), site.path().display(), site.sink_address());
        let main = format!(
            "myhostname = postfix.example.test\nmynetworks = 192.0.2.0/24\ndisable_dns_lookups = yes\nsmtp_host_lookup = native\n\
             smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem\n\
             smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {dir}/auth\n\
             smtpd_relay_restrictions = permit_sasl_authenticated, reject\nsmtpd_sasl_authenticated_header = yes\nqueue_minfree = 0\n\
             transport_maps = inline:{{ {TO_PEER}=smtp:[{}]:{} }}\n",
            sink.ip(),
            sink.port(),
        );
        let master = format!("{address} inet n - n - - smtpd\n");
        let Some(postfix) = Postfix::start(site.path(), &main, &master).unwrap() else {
            eprintln!("skipped: needs root and postfix");
            return None;
        };
        let dovecot = Dovecot::start(site.path(), USER).unwrap();
        Some(Self { address, _postfix: postfix, _dovecot: dovecot })
    }
}

impl Peer for Relay {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn declares_eight_bits(&self) -> bool {
        true
    }
}
