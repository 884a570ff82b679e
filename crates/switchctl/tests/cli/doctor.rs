//! What is wrong with a node, and what is given to who helps.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Run, Site, files};

/// The state and the words of the findings of one check.
fn found(run: &Run, check: &str) -> Vec<(String, String)> {
    let answer = run.json();
    let items = answer.get("items").unwrap().as_array().unwrap();
    let word = |item: &Value, key: &str| item.get(key).unwrap().as_str().unwrap().to_owned();
    let of_check = items.iter().filter(|item| word(item, "check") == check);
    of_check.map(|item| (word(item, "state"), word(item, "found"))).collect()
}

fn alone(more: &str) -> Site {
    let site = Site::with(&format!(
        "cluster: {{ id: demo }}\nnode: {{ id: a, state_dir: state, hostname: localhost.localdomain }}\n\
         queue: {{ dir: spool, free_space_reserve: 1MiB }}\nlisteners: [ {{ address: 127.0.0.1:0{more} }} ]\n\
         routes: [ {{ match: '*', next_hop: 10.0.0.1 }} ]\n"
    ));
    for folder in ["state", "spool"] {
        std::fs::create_dir(site.path(folder)).unwrap();
    }
    site
}

#[test]
fn a_doctor_names_each_thing_with_its_state_and_leaves_nothing_behind() {
    let site = alone("");
    let before = files(site.dir.path());
    let run = site.run(&["doctor", "-o", "json"]);
    assert_eq!(run.code, 1, "no switch runs: {}", run.err);
    assert_eq!(run.json()["schema"], "mailswitch.doctor/1");
    for (check, state) in [
        ("configuration", "ok"),
        ("cluster_key", "ok"),
        ("state_dir", "ok"),
        ("queue_dir", "ok"),
        ("inodes", "ok"),
        ("dns", "ok"),
        ("open_files", "ok"),
        ("fencing", "ok"),
        ("fscheck", "ok"),
        ("certificates", "warn"),
        ("switch", "bad"),
        ("peers", "ok"),
    ] {
        assert_eq!(found(&run, check).first().unwrap().0, state, "{check}: {}", run.out);
    }
    assert!(!found(&run, "fsync_latency").is_empty(), "{}", run.out);
    for item in run.json()["items"].as_array().unwrap() {
        assert_eq!(item["state"] != "ok", item["remedy"].is_string(), "what is not ok has a remedy: {item}");
    }
    assert_eq!(files(site.dir.path()), before);
    assert!(site.run(&["doctor"]).out.starts_with("CHECK "));
}

#[test]
fn a_key_that_others_can_read_and_a_foreign_port_are_bad() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let text = std::fs::read_to_string(site.path("m.yaml")).unwrap();
    let text = text.replace("127.0.0.1:2525", &taken.local_addr().unwrap().to_string());
    std::fs::write(site.path("m.yaml"), text).unwrap();
    let lacking = site.run(&["doctor", "-o", "json"]);
    assert_eq!(found(&lacking, "cluster_key").first().unwrap().0, "bad");
    assert_eq!(site.run(&["cluster", "keygen"]).code, 0);
    let key = site.path("keys/cluster.key");
    assert_eq!(found(&site.run(&["doctor", "-o", "json"]), "cluster_key").first().unwrap().0, "ok");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let run = site.run(&["doctor", "-o", "json"]);
    assert_eq!(run.code, 1);
    let (state, words) = found(&run, "cluster_key").remove(0);
    assert!(state == "bad" && words.contains("644"), "{words}");
    let (state, words) = found(&run, "ports").remove(0);
    assert!(state == "bad" && words.contains("in use"), "{words}");
    assert_eq!(found(&run, "heartbeatd").first().unwrap().0, "bad");
}

#[test]
fn a_certificate_that_ends_soon_is_told_days_before() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: needs openssl (Debian package openssl)");
        return;
    }
    let site = alone(", tls: { cert: cert.pem, key: key.pem }");
    for (days, state) in [("400", "ok"), ("3", "warn")] {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args(["-subj", "/CN=a.test", "-days", days, "-keyout", "key.pem", "-out", "cert.pem"]);
        assert!(openssl.current_dir(site.dir.path()).output().unwrap().status.success());
        let run = site.run(&["doctor", "-o", "json"]);
        let (found_state, words) = found(&run, "certificates").remove(0);
        assert!(found_state == state && words.contains(" days left"), "{days}: {found_state} {words}");
        assert_eq!(found(&run, "tls_key").first().unwrap().0, "ok");
    }
    std::fs::write(site.path("cert.pem"), "no certificate").unwrap();
    assert_eq!(found(&site.run(&["doctor", "-o", "json"]), "certificates").first().unwrap().0, "bad");
}

#[test]
fn a_report_has_no_secret_and_no_mailbox_and_packs_itself() {
    let site = Site::new();
    let text = std::fs::read_to_string(site.path("m.yaml")).unwrap();
    let more = "alerts: { webhook: { url: 'https://x.test/t0ken', secret_file: keys/secret } }\nrelay: { domains: [r.test] }\n";
    std::fs::write(
        site.path("m.yaml"),
        text.replace("match: example.test", "match: ann@example.test") + more,
    )
    .unwrap();
    assert_eq!(site.run(&["cluster", "keygen"]).code, 0);
    let key = std::fs::read_to_string(site.path("keys/cluster.key")).unwrap();
    std::fs::write(site.path("keys/secret"), "s3cret-of-the-webhook").unwrap();
    let folder = site.path("report");
    let run = site.run(&["report", folder.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.err);
    let all: String =
        files(&folder).values().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    for secret in [key.trim(), "s3cret", "t0ken", "ann@"] {
        assert!(!all.contains(secret), "{secret} is in the report");
    }
    for wanted in ["***@example.test", "# switchctl doctor: ", "# uname -a: ", "r.test"] {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    assert_eq!(site.run(&["report", folder.to_str().unwrap()]).code, 1, "one that is there is kept");
    let kept = site.path("kept");
    assert_eq!(site.run(&["report", "--keep-addresses", kept.to_str().unwrap()]).code, 0);
    assert!(std::fs::read_to_string(kept.join("configuration.txt")).unwrap().contains("ann@example.test"));
    let packed = site.path("report2.tar.gz");
    assert_eq!(site.run(&["report", packed.to_str().unwrap()]).code, 0);
    let listed = Command::new("tar").arg("-tzf").arg(&packed).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("report2/status.txt"));
    assert!(!Path::new(&site.path("report2")).exists());
    assert_eq!(site.run(&["status", "-o", "json"]).json()["complete"], Value::Bool(false));
}
