//! `switchctl user`.

use std::process::Command;

use super::{Run, Site};

fn site() -> Site {
    Site::with(
        "
cluster: { id: demo }
node: { id: a, state_dir: state }
listeners: [ { address: 127.0.0.1:587, kind: submission, tls: { cert: c.pem, key: c.key } } ]
auth: { users: users }
routes: [ { match: '*', next_hop: 10.0.0.1 } ]
",
    )
}

fn run(site: &Site, input: &str, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchctl"));
    command.arg("--config").arg(site.path("m.yaml")).arg("user").args(arguments);
    Run::fed(&mut command, input)
}

#[test]
fn users_are_added_checked_changed_listed_and_removed() {
    let site = site();
    let added = run(&site, "secret\n", &["add", "Alice@example.test"]);
    assert_eq!(added.code, 0, "{}", added.err);
    assert!(added.out.contains("mode 600; let the user of the switch read it"), "{}", added.out);
    let scanner = ["add", "scanner", "--sender", "@printers.test", "--sender", "scan@a.test", "--no-scram"];
    assert_eq!(run(&site, "another", &scanner).code, 0);

    let listed = run(&site, "", &["list", "-o", "tsv"]);
    assert_eq!(
        listed.out,
        "user\tsenders\tmechanisms\nalice@example.test\talice@example.test\tscram-sha-256, plain, login\n\
         scanner\t@printers.test, scan@a.test\tplain, login\n"
    );
    assert_eq!(run(&site, "secret\n", &["check", "alice@example.test"]).code, 0);
    let wrong = run(&site, "Secret\n", &["check", "alice@example.test"]);
    assert!(wrong.code == 1 && wrong.err.contains("not their password"), "{}", wrong.err);
    assert_eq!(run(&site, "secret\n", &["check", "nobody"]).code, 1);

    assert_eq!(run(&site, "fresh\r\n", &["passwd", "alice@example.test"]).code, 0);
    assert_eq!(run(&site, "fresh\n", &["check", "ALICE@example.test"]).code, 0);
    assert_eq!(run(&site, "secret\n", &["check", "alice@example.test"]).code, 1);
    assert_eq!(run(&site, "", &["remove", "alice@example.test"]).code, 0);
    assert_eq!(run(&site, "", &["remove", "alice@example.test"]).code, 7);
    let file = std::fs::read_to_string(site.path("users")).unwrap();
    assert!(file.starts_with("scanner argon2=$argon2id$") && file.lines().count() == 1, "{file}");
}

#[test]
fn what_cannot_be_done_is_told_with_a_remedy_and_changes_nothing() {
    let site = site();
    let refused = |input: &str, arguments: &[&str], code: i32, remedy: &str| {
        let run = run(&site, input, arguments);
        assert!(run.code == code && run.err.contains(remedy), "{arguments:?}: {} {}", run.code, run.err);
    };
    refused("secret\n", &["add", "alice"], 2, "add --sender user@example.test");
    refused("secret\n", &["add", "a b", "--sender", "*"], 2, "is no user name");
    refused(
        "secret\n",
        &["add", "alice", "--sender", "alice"],
        2,
        "write user@example.test, @example.test or *",
    );
    refused("\n", &["add", "alice@a.test"], 1, "the password is empty");
    assert!(!site.path("users").exists());
    assert_eq!(run(&site, "secret\n", &["add", "alice@a.test"]).code, 0);
    let before = std::fs::read_to_string(site.path("users")).unwrap();
    refused("other\n", &["add", "alice@a.test"], 1, "see 'switchctl user passwd'");
    refused("other\n", &["passwd", "bob"], 7, "see 'switchctl user list'");
    assert_eq!(std::fs::read_to_string(site.path("users")).unwrap(), before);
}
