//! What people look up: man pages, completions, and a status that goes on.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::Site;

#[test]
fn every_command_has_a_man_page() {
    let site = Site::with("nonsense");
    let folder = site.path("man");
    let run = site.run(&["man", folder.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.err);
    for page in
        ["switchctl.1", "switchctl-queue-list.1", "switchctl-ha-drill-run.1", "switchctl-lb-snippet.1"]
    {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    assert!(site.run(&["man"]).out.contains(".TH switchctl 1"));
}

#[test]
fn the_completions_are_scripts_that_their_shell_can_read() {
    let site = Site::with("nonsense");
    let run = site.run(&["completion", "bash"]);
    assert!(run.out.contains("--matrix"), "{}", run.out);
    let script = site.path("completion.bash");
    std::fs::write(&script, run.out).unwrap();
    let read = Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(read.success());
    for shell in ["zsh", "fish"] {
        assert!(site.run(&["completion", shell]).out.contains("switchctl"), "{shell}");
    }
    assert_eq!(site.run(&["completion", "nonsense"]).code, 2);
}

#[test]
fn a_watched_status_goes_on_while_somebody_reads_it() {
    let site = Site::new();
    let mut watching = Command::new(env!("CARGO_BIN_EXE_switchctl"))
        .arg("--config")
        .arg(site.path("m.yaml"))
        .args(["status", "--watch=10ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).filter(|line| line.contains("last drill: ")).take(3).count();
    assert_eq!(told, 3);
    // The reader is gone with its lines: so is the watch.
    assert!(watching.wait().unwrap().success());
    assert_eq!(site.run(&["status", "--check", "--watch"]).code, 2);
}

#[test]
fn whatever_changes_by_itself_can_be_watched() {
    let site = Site::new();
    for noun in [
        &["queue", "summary"][..],
        &["queue", "list", "to:@example.test"],
        &["queue", "owner"],
        &["ha", "status"],
        &["ha", "history", "--limit", "3"],
        &["lb", "status"],
    ] {
        let mut watching = Command::new(env!("CARGO_BIN_EXE_switchctl"))
            .arg("--config")
            .arg(site.path("m.yaml"))
            .args(noun)
            .arg("--watch=10ms")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map_while(Result::ok);
        let first = lines.next().unwrap();
        assert_eq!(lines.filter(|line| *line == first).take(2).count(), 2, "{noun:?}: {first}");
        assert!(watching.wait().unwrap().success(), "{noun:?}");
    }
    // What cannot be asked even once is no page.
    std::fs::write(site.path("m.yaml"), "nonsense: 1\n").unwrap();
    assert_eq!(site.run(&["queue", "owner", "--watch"]).code, 2);
}

#[test]
fn nothing_is_coloured_for_a_program_or_where_the_user_wants_no_colour() {
    let site = Site::new();
    for arguments in [&["status"][..], &["--help"], &["queue", "list", "nonsense"], &["cluster", "members"]] {
        let run = site.run(arguments);
        assert!(
            !run.out.contains('\x1b') && !run.err.contains('\x1b'),
            "{arguments:?}: {}{}",
            run.out,
            run.err
        );
    }
    // On a terminal, which script(1) plays.
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: needs script (Debian package bsdutils)");
        return;
    }
    let on_terminal = |colour: bool| {
        let mut script = Command::new("script");
        script.args(["-qec", &format!("{} --help", env!("CARGO_BIN_EXE_switchctl")), "/dev/null"]);
        script.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        if !colour {
            script.env("NO_COLOR", "1");
        }
        String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned()
    };
    assert!(on_terminal(true).contains("\x1b["), "help on a terminal has styles, or this test shows nothing");
    let plain = on_terminal(false);
    for (at, _) in plain.match_indices("\x1b[") {
        // Bold and underline are no colours: 30 to 49 and 90 to 107 are.
        let code: String = plain[at + 2..].chars().take_while(char::is_ascii_digit).collect();
        assert!(!matches!(code.parse::<u8>().unwrap_or(0), 30..=49 | 90..=107), "{code}");
    }
}
