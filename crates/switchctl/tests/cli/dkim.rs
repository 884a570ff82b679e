//! `switchctl dkim`.

use std::os::unix::fs::PermissionsExt;

use super::Site;

#[test]
fn a_key_is_made_once_and_its_public_half_is_shown_as_a_record() {
    let site = Site::with(
        "
cluster: { id: demo }
node: { id: a, state_dir: state }
listeners: [ { address: 127.0.0.1:2525 } ]
routes: [ { match: '*', next_hop: 10.0.0.1 } ]
dkim:
  - { domain: example.test, selector: s1, key: rsa.pem }
  - { domain: example.test, selector: s2, key: ed25519.pem }
",
    );
    for kind in ["rsa", "ed25519"] {
        let file = site.dir.path().join(format!("{kind}.pem"));
        let arguments = ["dkim", "keygen", file.to_str().unwrap(), "--kind", kind];
        assert_eq!(site.run(&arguments).code, 0);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let again = site.run(&arguments);
        assert_eq!(again.code, 1, "{}", again.err);
    }
    let shown = site.run(&["dkim", "record"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let lines: Vec<&str> = shown.out.lines().collect();
    let rsa = lines.first().unwrap();
    assert!(rsa.starts_with("s1._domainkey.example.test. IN TXT \"v=DKIM1; k=rsa; p=MII"), "{rsa}");
    assert!(rsa.split('"').all(|part| part.len() <= 255), "{rsa}");
    let short = lines.get(1).unwrap();
    assert!(short.starts_with("s2._domainkey.example.test. IN TXT \"v=DKIM1; k=ed25519; p="), "{short}");
}
