//! Authentications against a users file on disk, whole and broken.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use accounts::{Denial, Exchange, FileDirectory, Said, ScramClient, User, Users, Verifiers, edit};
use proptest::prelude::*;
use smtp::sasl::Mechanism;
use tempfile::TempDir;

fn add(path: &Path, name: &str, password: &str, with_scram: bool) {
    let verifiers = Verifiers::of(password, with_scram).unwrap();
    let user = User { name: name.into(), verifiers, senders: vec!["*".parse().unwrap()] };
    edit(path, |users| {
        users.put(user);
        Ok(())
    })
    .unwrap();
}

fn site() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    add(&path, "alice", "secret", true);
    add(&path, "bob,b", "pass wörd", true);
    add(&path, "sent-only", "secret", false);
    (dir, path)
}

fn directory(path: &Path) -> Arc<FileDirectory> {
    Arc::new(FileDirectory::open(path).unwrap())
}

/// The name of the user that is accepted; what else was said otherwise.
fn user(said: Said) -> Result<String, Said> {
    match said {
        Said::Accepted(account) => Ok(account.name.into()),
        other @ (Said::Challenge(_) | Said::Denied { .. } | Said::Unavailable(_)) => Err(other),
    }
}

fn plain(directory: &Arc<FileDirectory>, message: &[u8]) -> Result<String, Said> {
    let mut exchange = Exchange::new(Mechanism::Plain, Arc::clone(directory) as _);
    user(exchange.step(Some(message)))
}

/// SCRAM with a client of the same library: the last word of the server.
fn scram(directory: &Arc<FileDirectory>, name: &str, password: &str) -> Result<String, Said> {
    let mut server = Exchange::new(Mechanism::ScramSha256, Arc::clone(directory) as _);
    let mut client = ScramClient::new(name, password).unwrap();
    let (mut message, _) = client.step(None).unwrap();
    loop {
        match server.step(Some(&message)) {
            Said::Challenge(challenge) => message = client.step(Some(&challenge)).unwrap().0,
            said @ (Said::Accepted(_) | Said::Denied { .. } | Said::Unavailable(_)) => return user(said),
        }
    }
}

fn denied(name: &str, why: Denial) -> Said {
    Said::Denied { name: Some(name.into()), why }
}

#[test]
fn a_user_is_known_by_its_password_in_every_mechanism() {
    let (_dir, path) = site();
    let directory = directory(&path);
    assert_eq!(plain(&directory, b"\0alice\0secret").unwrap(), "alice");
    assert_eq!(plain(&directory, b"alice\0ALICE\0secret").unwrap(), "alice");
    assert_eq!(plain(&directory, b"\0sent-only\0secret").unwrap(), "sent-only");
    assert_eq!(scram(&directory, "Alice", "secret").unwrap(), "alice");
    assert_eq!(scram(&directory, "bob,b", "pass wo\u{308}rd").unwrap(), "bob,b");
    let mut exchange = Exchange::new(Mechanism::Login, Arc::clone(&directory) as _);
    assert_eq!(exchange.step(None), Said::Challenge(b"Username:".to_vec()));
    assert_eq!(exchange.step(Some(b"alice")), Said::Challenge(b"Password:".to_vec()));
    assert_eq!(user(exchange.step(Some(b"secret"))).unwrap(), "alice");
    assert_eq!(exchange.step(Some(b"secret")), Said::Denied { name: None, why: Denial::Malformed });
}

#[test]
fn an_unknown_user_and_a_wrong_password_are_told_the_same() {
    let (_dir, path) = site();
    let directory = directory(&path);
    assert_eq!(plain(&directory, b"\0alice\0wrong"), Err(denied("alice", Denial::Wrong)));
    assert_eq!(plain(&directory, b"\0nobody\0secret"), Err(denied("nobody", Denial::Wrong)));
    for (name, password) in [("alice", "wrong"), ("nobody", "secret"), ("sent-only", "secret")] {
        assert_eq!(scram(&directory, name, password), Err(denied(name, Denial::Wrong)));
    }
    // The salt of nobody does not change, as that of a user does not.
    let first = |name: &str| {
        let message = format!("n,,n={name},r=nonce");
        match Exchange::new(Mechanism::ScramSha256, Arc::clone(&directory) as _)
            .step(Some(message.as_bytes()))
        {
            Said::Challenge(challenge) => {
                String::from_utf8(challenge).unwrap().split_once(",s=").unwrap().1.to_owned()
            }
            other @ (Said::Accepted(_) | Said::Denied { .. } | Said::Unavailable(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(first("nobody"), first("Nobody"));
    assert_ne!(first("nobody"), first("somebody"));
    assert_eq!(first("nobody").len(), first("alice").len());
}

#[test]
fn nobody_acts_for_another_and_what_does_not_follow_the_mechanism_is_denied() {
    let (_dir, path) = site();
    let directory = directory(&path);
    assert_eq!(plain(&directory, b"bob\0alice\0secret"), Err(denied("alice", Denial::Other)));
    let malformed = Err(Said::Denied { name: None, why: Denial::Malformed });
    for message in
        [&b""[..], b"\0", b"\0alice", b"\0alice\0", b"\0\0secret", b"\0alice\0secret\0", b"\0ali\xff\0secret"]
    {
        assert_eq!(plain(&directory, message), malformed, "{}", message.escape_ascii());
    }
    for message in ["", "n", "n,,", "y,,n=alice", "p=tls-unique,,n=alice,r=x", "n,,n=a=b,r=x", "n,,n=,r="] {
        let mut exchange = Exchange::new(Mechanism::ScramSha256, Arc::clone(&directory) as _);
        for _ in 0..3 {
            let said = exchange.step(Some(message.as_bytes()));
            assert!(matches!(said, Said::Denied { .. } | Said::Challenge(_)), "{message}: {said:?}");
        }
    }
}

#[test]
fn an_edit_is_seen_at_the_next_look_up_and_a_fault_changes_nothing() {
    let (_dir, path) = site();
    let directory = directory(&path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    add(&path, "carol", "secret", false);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "the mode is kept");
    assert_eq!(plain(&directory, b"\0carol\0secret").unwrap(), "carol");
    std::fs::write(&path, "no users\n").unwrap();
    assert_eq!(plain(&directory, b"\0carol\0secret").unwrap(), "carol");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(plain(&directory, b"\0carol\0secret").unwrap(), "carol");
    std::fs::write(&path, "").unwrap();
    assert_eq!(plain(&directory, b"\0carol\0secret"), Err(denied("carol", Denial::Wrong)));
}

#[test]
fn a_file_that_cannot_serve_is_told_with_a_remedy_and_a_failed_edit_writes_nothing() {
    let (dir, path) = site();
    let told = |path: &Path| FileDirectory::open(path).unwrap_err()[0].to_string();
    assert!(told(&dir.path().join("none")).contains("switchctl user add NAME"));
    let before = std::fs::read_to_string(&path).unwrap();
    let refused = edit(&path, |users| {
        users.remove("alice");
        Err::<(), _>("no".to_owned())
    });
    assert!(refused.unwrap_err()[0].to_string().ends_with(": no"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert_eq!(Users::parse(&path, &before).unwrap().iter().count(), 3);
    let fresh = dir.path().join("fresh");
    add(&fresh, "alice", "secret", false);
    assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    // rsasl panics on some of these by itself, and a panic ends the switch.
    #[test]
    fn no_message_brings_the_mechanism_down(
        first in prop_oneof![
            "[ -~]{0,60}",
            "[nyp],(a=[a-z=]{0,3})?,n=[a-z=,0-9CD]{0,9},r=[!-~]{0,9}(,[a-z]=.{0,3})?",
            "[nyp](,[anmr]?=?[a-z]{0,3}){0,5}",
            "[ny],,n=[a-z]{1,9},r=[a-z]{1,9}",
        ],
        last in prop_oneof![
            "[ -~]{0,90}",
            "c=[A-Za-z0-9+/=]{0,9},r=[!-~]{0,40},p=[A-Za-z0-9+/=]{0,90}",
            "(,?[crpm]?=?[a-z=]{0,3}){0,5}",
        ],
        proof in prop_oneof!["[A-Za-z0-9+/]{43}=", "[A-Za-z0-9+/=]{0,50}"],
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        same_nonce: bool,
    ) {
        let mut exchange = Exchange::new(Mechanism::ScramSha256, Arc::new(Fixed) as _);
        let mut last = last;
        if let Said::Challenge(challenge) = exchange.step(Some(first.as_bytes())) && same_nonce {
            // With the right nonce the mechanism looks further.
            let challenge = String::from_utf8(challenge).unwrap();
            let nonce = challenge.split(",s=").next().unwrap().to_owned();
            last = format!("c=biws,{nonce},p={proof}");
        }
        exchange.step(Some(last.as_bytes()));
        exchange.step(Some(&bytes));
        let mut exchange = Exchange::new(Mechanism::ScramSha256, Arc::new(Fixed) as _);
        exchange.step(Some(&bytes));
        exchange.step(Some(&bytes));
    }

    #[test]
    fn no_challenge_brings_the_client_down(
        first in prop_oneof![
            "[ -~]{0,60}",
            "(,?[rsimv]?=?[a-z0-9=]{0,4}){0,5}",
            "[!-+.-~]{0,9},s=[A-Za-z0-9+/=]{0,9},i=[0-9-]{0,12}(,[a-z]=.{0,3})?",
            "[!-+.-~]{0,9},s=c2FsdA==,i=[1-9]",
        ],
        last in prop_oneof!["[ -~]{0,60}", "[vem]?=?[A-Za-z0-9+/=]{0,50}", "v=[A-Za-z0-9+/]{43}="],
    ) {
        let mut client = ScramClient::new("alice", "secret").unwrap();
        let (message, proved) = client.step(None).unwrap();
        prop_assert!(!proved);
        let nonce = String::from_utf8(message).unwrap().rsplit(",r=").next().unwrap().to_owned();
        for first in [first.clone(), format!("r={nonce}{first}")] {
            let mut client = ScramClient::new("alice", "secret").unwrap();
            client.step(None).unwrap();
            if client.step(Some(first.as_bytes())).is_ok() {
                prop_assert!(!client.step(Some(last.as_bytes())).is_ok_and(|(_, proved)| proved));
            }
        }
    }
}

/// A directory that costs nothing.
#[derive(Debug)]
struct Fixed;

impl accounts::Directory for Fixed {
    fn check(&self, _: &str, _: &str) -> Result<Option<accounts::Account>, accounts::Unavailable> {
        Ok(None)
    }

    fn scram(
        &self,
        _: &str,
    ) -> Result<(accounts::ScramKeys, Option<accounts::Account>), accounts::Unavailable> {
        Ok((
            accounts::ScramKeys {
                iterations: 4096.try_into().unwrap(),
                salt: b"salt".to_vec(),
                stored_key: [1; 32],
                server_key: [2; 32],
            },
            None,
        ))
    }
}
