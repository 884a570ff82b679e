//! The launcher `systemd`: which orders systemd gets. With a real systemd they are tried in tests/lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mail_model::Epoch;

use crate::common::{Site, until};

/// Notes its command line. A unit that was started lives on until it is asked to stop.
const SYSTEMCTL: &str = "#!/bin/sh\n\
    here=$(dirname \"$0\")\n\
    echo \"$@\" >> \"$here/started\"\n\
    case \"$*\" in *start*) while [ ! -e \"$here/stopped\" ]; do sleep 0.05; done ;; esac\n";

fn site() -> Site {
    let site = Site::of(&["a", "b"], "1s");
    let script = site.path("bin-b/systemctl");
    fs::write(&script, SYSTEMCTL).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = fs::read_to_string(site.config("b")).unwrap();
    fs::write(site.config("b"), format!("{config}launcher: systemd\n")).unwrap();
    site
}

#[tokio::test]
async fn a_secondary_is_a_unit_with_an_order_and_outlives_heartbeatd() {
    let site = site();
    let mut lease = site.lease("a", 1, "a");
    let path = format!("{}:{}", site.path("bin-b").display(), std::env::var("PATH").unwrap());
    let mut b = site.start_with("b", |command| {
        command.env("PATH", path).env("RUNTIME_DIRECTORY", site.dir.path());
    });
    b.until("the lease is seen", |s| s.queues.iter().any(|q| q.epoch == Epoch(1))).await;
    lease.die();
    until("a secondary is started", || site.started("b").len() >= 3).await;
    let all = "--quiet --no-ask-password";
    let unit = "switch-takeover@a.service";
    let wanted = [
        format!("{all} kill --signal=SIGKILL {unit}"),
        format!("{all} stop {unit}"),
        format!("{all} start --wait {unit}"),
    ];
    assert_eq!(site.started("b"), wanted);
    let order = fs::read_to_string(site.path("takeover-a.order")).unwrap();
    assert_eq!(order, "expected_epoch=1\nreason=expired\n");
    let _claimed = site.lease("a", 2, "b");
    b.until_state("a", "HOLDING").await;
    assert_eq!(b.ended().await, Some(0));
    assert_eq!(site.started("b"), wanted, "the unit goes on");
    fs::write(site.path("bin-b/stopped"), "").unwrap();
}

#[test]
fn without_systemd_around_it_says_what_to_do() {
    let site = site();
    let mut command = Command::new(site.path("bin-b/heartbeatd"));
    command.args(["run", "--config"]).arg(site.config("b")).env_remove("RUNTIME_DIRECTORY");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("start heartbeatd.service"), "{text}");
}
