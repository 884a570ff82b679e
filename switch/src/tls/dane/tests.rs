use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

/// A root, and a certificate for `mx.test` that it vouches for.
struct Chain {
    root: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
}

fn chain() -> Chain {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = CertificateParams::new(vec!["mx.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    Chain { root: root.der().clone(), leaf: leaf.der().clone() }
}

fn record(usage: u8, selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Tlsa {
    let key = ParsedCertificate::try_from(certificate).unwrap().subject_public_key_info();
    let selected: &[u8] = if selector == 0 { certificate } else { &key };
    let data = match matching {
        0 => selected.to_vec(),
        1 => digest(&SHA256, selected).as_ref().to_vec(),
        _ => digest(&SHA512, selected).as_ref().to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

fn taken(records: Vec<Tlsa>, chain: &Chain, host: &str, domain: Option<&str>) -> bool {
    assert!(records.iter().all(is_usable));
    let name = |text: &str| ServerName::try_from(text.to_owned()).unwrap();
    let named = Named::new(records, domain.map(name));
    // Well within the dates that rcgen writes.
    let now = UnixTime::since_unix_epoch(Duration::from_hours(500_000));
    named.verify_server_cert(&chain.leaf, std::slice::from_ref(&chain.root), &name(host), &[], now).is_ok()
}

#[test]
fn usage_3_wants_the_server_s_own_certificate_or_key_and_nothing_else() {
    let (ours, other) = (chain(), chain());
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let of = |chain: &Chain| vec![record(3, selector, matching, &chain.leaf)];
            assert!(taken(of(&ours), &ours, "any.test", None), "{selector} {matching}");
            assert!(!taken(of(&other), &ours, "mx.test", None), "{selector} {matching}");
        }
    }
    assert!(!taken(vec![record(3, 1, 1, &ours.root)], &ours, "mx.test", None), "the root is not its own");
    let both = vec![record(3, 1, 1, &other.leaf), record(3, 1, 1, &ours.leaf)];
    assert!(taken(both, &ours, "mx.test", None), "one of several is enough");
}

#[test]
fn usage_2_wants_a_chain_to_the_named_one_and_the_name_of_the_host_or_the_domain() {
    let (ours, other) = (chain(), chain());
    for (selector, matching) in [(0, 0), (0, 1), (1, 1), (1, 2)] {
        let of = |chain: &Chain| vec![record(2, selector, matching, &chain.root)];
        assert!(taken(of(&ours), &ours, "mx.test", None), "{selector} {matching}");
        assert!(taken(of(&ours), &ours, "host.test", Some("mx.test")));
        assert!(!taken(of(&ours), &ours, "host.test", Some("domain.test")));
        assert!(!taken(of(&other), &ours, "mx.test", None), "{selector} {matching}");
    }
}

#[test]
fn what_is_not_for_smtp_or_not_well_formed_is_unusable() {
    let certificate = chain().leaf;
    for usage in [0, 1, 4] {
        assert!(!is_usable(&record(usage, 1, 1, &certificate)), "{usage}");
    }
    let good = record(3, 1, 1, &certificate);
    for bad in [
        Tlsa { selector: 2, ..good.clone() },
        Tlsa { matching: 3, ..good.clone() },
        Tlsa { data: vec![0; 31], ..good.clone() },
        Tlsa { matching: 2, ..good.clone() },
        Tlsa { matching: 0, data: Vec::new(), ..good.clone() },
    ] {
        assert!(!is_usable(&bad), "{bad:?}");
    }
    assert!(is_usable(&good));
}
