//! `switchctl fscheck`: what a directory promises to the takeover protocol.

use std::path::Path;
use std::process::Command;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::Value;

use super::Site;

fn left(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn lights(answer: &Value) -> Vec<(String, String)> {
    let light = |item: &Value| {
        (item["what"].as_str().unwrap().to_owned(), item["light"].as_str().unwrap().to_owned())
    };
    answer["items"].as_array().unwrap().iter().map(light).collect()
}

#[test]
fn a_directory_that_keeps_what_it_promises_is_said_to_be_fit_and_nothing_is_left_in_it() {
    let site = Site::new();
    let spool = site.dir.path().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    std::fs::create_dir_all(site.dir.path().join("state")).unwrap();
    let run = site.run(&["fscheck", spool.to_str().unwrap(), "--rounds", "20", "--force", "-o", "json"]);
    let answer = run.json();
    for promise in ["claim race", "seen at once", "write and sync", "uncached read", "space"] {
        let found = lights(&answer);
        let (_, light) = found.iter().find(|(what, _)| what == promise).unwrap();
        // The machine of a test may be slow for a moment, and its disk small.
        let timed = promise.contains("sync") || promise.contains("read") || promise == "space";
        assert!(light == "green" || timed, "{promise}: {answer}");
    }
    assert_eq!(run.code, i32::from(answer["fit"] != true), "{}", run.err);
    assert!(left(&spool).is_empty(), "{:?}", left(&spool));
    let kept = std::fs::read_to_string(site.dir.path().join("state/fscheck.json")).unwrap();
    assert!(kept.contains(answer["light"].as_str().unwrap()), "{kept}");
}

#[test]
fn a_directory_in_memory_is_refused_and_one_that_is_missing_is_not_made() {
    let site = Site::new();
    let none = site.dir.path().join("none");
    let run = site.run(&["fscheck", none.to_str().unwrap()]);
    assert_eq!((run.code, none.exists()), (7, false), "{}", run.err);
    let memory = Path::new("/dev/shm");
    if !statfs(memory).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC) {
        println!("skipped: needs a tmpfs at /dev/shm");
        return;
    }
    let run = site.run(&["fscheck", "/dev/shm"]);
    assert_eq!(run.code, 4, "{}", run.out);
    assert!(run.err.contains("tmpfs") && run.err.contains("--force"), "{}", run.err);
}

#[test]
fn two_nodes_meet_in_the_directory_and_every_race_has_one_winner() {
    let site = Site::new();
    let text = std::fs::read_to_string(site.dir.path().join("m.yaml")).unwrap();
    let other = site.dir.path().join("b.yaml");
    std::fs::write(&other, text.replace("id: a, state_dir: state", "id: b, state_dir: state-b")).unwrap();
    let spool = site.dir.path().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    let check = |config: &Path, peer: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchctl"));
        command.arg("--config").arg(config).arg("fscheck").arg(&spool);
        command.args(["--rounds", "5", "--force", "-o", "json", "--peer", peer]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let a = check(&site.dir.path().join("m.yaml"), "b");
    let b = check(&other, "a");
    for side in [a, b] {
        let done = side.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.stdout.is_empty(), "{said}");
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert!(lights(&answer).contains(&("peer".into(), "green".into())), "{answer} {said}");
    }
    assert!(left(&spool).is_empty(), "{:?}", left(&spool));
    let own = site.run(&["fscheck", spool.to_str().unwrap(), "--force", "--peer", "a", "--rounds", "1"]);
    assert_eq!(own.code, 2, "{}", own.err);
}
