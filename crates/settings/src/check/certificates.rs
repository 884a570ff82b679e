//! Certificates as identities: those of clients (`listeners[].tls`, `relay.trusted_certificates`), and what next hops are
//! shown (`routes[].tls_cert`).

use routing::{CertificatePattern, Identity, TlsPolicy};

use crate::model::{ClientCertificates, ListenerSettings, TlsFiles};
use crate::reader::{At, Reader};

/// `tls` of a listener.
pub(crate) fn listener<'a>(read: &mut Reader<'a>, tls: &At<'a>) -> Option<TlsFiles> {
    let cert = read.required(&tls.key("cert"), Reader::path, "name the certificate chain's file (PEM)");
    let key = read.required(&tls.key("key"), Reader::path, "name the private key's file (PEM)");
    let at = tls.key("client_certificates");
    let clients = read.parsed(&at, |text| match text {
        "off" => Ok(ClientCertificates::Off),
        "request" => Ok(ClientCertificates::Request),
        "require" => Ok(ClientCertificates::Require),
        other => Err(format!("'{other}' is not known; write off, request or require")),
    });
    let client_certificates = clients.unwrap_or_default();
    let authorities = tls.key("client_ca");
    let client_ca = read.path(&authorities);
    match (client_certificates, &client_ca) {
        (ClientCertificates::Off, Some(_)) if clients.is_some() || !at.is_there() => {
            read.fault(
                &authorities,
                "no client is asked for a certificate; write 'client_certificates: request' too, or remove this",
            );
        }
        (ClientCertificates::Require, None) => read.fault(
            &at,
            "nobody vouches for a certificate; name the file of the authorities (PEM) by 'client_ca', or write 'request'",
        ),
        (ClientCertificates::Off | ClientCertificates::Request | ClientCertificates::Require, _) => {}
    }
    Some(TlsFiles { cert: cert?, key: key?, client_certificates, client_ca })
}

/// `relay.trusted_certificates`.
pub(crate) fn trusted<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    listeners: &[ListenerSettings],
) -> Vec<CertificatePattern> {
    let mut found = Vec::new();
    for item in at.items() {
        let pattern = read
            .parsed(&item, |text| text.parse().map_err(|e: routing::CertificatePatternError| e.to_string()));
        found.extend(pattern);
    }
    can_be_shown(read, at, &found, listeners);
    found
}

/// Whom no listener could ever recognise is a mistake.
fn can_be_shown<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    trusted: &[CertificatePattern],
    listeners: &[ListenerSettings],
) {
    let asked = || {
        let tls = listeners.iter().filter_map(|listener| listener.tls.as_ref());
        tls.filter(|tls| tls.client_certificates != ClientCertificates::Off)
    };
    if trusted.is_empty() {
        return;
    }
    if asked().next().is_none() {
        read.fault(
            at,
            "no listener asks for a certificate; add 'client_certificates: request' to the 'tls' of one, or remove this",
        );
        return;
    }
    let has_subject = trusted.iter().any(|pattern| matches!(pattern, CertificatePattern::Subject(_)));
    if has_subject && asked().all(|tls| tls.client_ca.is_none()) {
        read.fault(
            at,
            "a subject is believed only of a certificate that somebody vouches for; add 'client_ca: FILE' to the 'tls' of a listener, or write fingerprints",
        );
    }
}

/// `tls_cert` and `tls_key` of a route. `tls` is its policy.
pub(crate) fn identity<'a>(read: &mut Reader<'a>, route: &At<'a>, tls: &TlsPolicy) -> Option<Identity> {
    let (cert_at, key_at) = (route.key("tls_cert"), route.key("tls_key"));
    let (cert, key) = (read.path(&cert_at), read.path(&key_at));
    if *tls == TlsPolicy::None {
        for at in [&cert_at, &key_at] {
            if at.is_there() {
                read.fault(at, "no TLS is spoken with this next hop; remove this, or change 'tls'");
            }
        }
        return None;
    }
    match (cert_at.is_there(), key_at.is_there()) {
        (true, false) => read.fault(&cert_at, "its private key is missing; add 'tls_key: FILE' (PEM)"),
        (false, true) => read.fault(&key_at, "its certificate is missing; add 'tls_cert: FILE' (PEM)"),
        (true, true) | (false, false) => {}
    }
    Some(Identity { cert: cert?, key: key? })
}

#[cfg(test)]
mod tests {
    use crate::{ClientCertificates, Environment, Settings, Source, parse};

    fn parsed(tls: &str, relay: &str, route: &str) -> Result<Settings, String> {
        let text = format!(
            "cluster: {{ id: c }}\nnode: {{ id: a }}\nlisteners: [ {{ address: 127.0.0.1:25, tls: {{ cert: c, key: k{tls} }} }} ]\n\
             relay: {{ {relay} }}\nroutes: [ {{ match: '*', next_hop: h{route} }} ]\n"
        );
        let source = Source { path: "/etc/m.yaml".into(), text };
        parse(&[source], &Environment::default())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn certificates_of_clients_and_of_routes_are_read() {
        let settings = parsed(
            ", client_certificates: require, client_ca: ca.pem",
            "trusted_certificates: [ 'CN=c.test,O=D' ]",
            ", tls_cert: hop.pem, tls_key: hop.key",
        )
        .unwrap();
        let tls = settings.listeners[0].tls.as_ref().unwrap();
        assert_eq!(tls.client_certificates, ClientCertificates::Require);
        assert_eq!(tls.client_ca.as_deref().unwrap().to_str(), Some("/etc/ca.pem"));
        assert_eq!(settings.relay.trusted_certificates[0].to_string(), "CN=c.test,O=D");
        let hop = settings.routes.iter().next().unwrap().target.next_hop().unwrap();
        assert_eq!(hop.identity().unwrap().key.to_str(), Some("/etc/hop.key"));
        let fingerprint = format!("trusted_certificates: [ 'sha256:{}' ]", "0a".repeat(32));
        assert!(parsed(", client_certificates: request", &fingerprint, "").is_ok());
    }

    #[test]
    fn what_could_never_be_met_is_told_with_a_remedy() {
        let cases = [
            (", client_certificates: maybe", "", "", "'maybe' is not known; write off, request or require"),
            (
                ", client_certificates: require",
                "",
                "",
                "name the file of the authorities (PEM) by 'client_ca'",
            ),
            (", client_ca: ca.pem", "", "", "write 'client_certificates: request' too"),
            ("", "trusted_certificates: [ 'CN=x' ]", "", "no listener asks for a certificate"),
            (
                ", client_certificates: request",
                "trusted_certificates: [ 'CN=x' ]",
                "",
                "add 'client_ca: FILE'",
            ),
            ("", "trusted_certificates: [ 'x' ]", "", "relay.trusted_certificates[0]: 'x' is no subject"),
            ("", "", ", tls_cert: c", "add 'tls_key: FILE'"),
            ("", "", ", tls_key: c", "add 'tls_cert: FILE'"),
            ("", "", ", tls: none, tls_cert: c, tls_key: k", "routes[0].tls_key: no TLS is spoken"),
        ];
        for (tls, relay, route, wanted) in cases {
            let told = parsed(tls, relay, route).unwrap_err();
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
    }
}
