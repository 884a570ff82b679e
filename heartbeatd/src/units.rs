//! Switches as units of systemd: `switch@QUEUE.service` at home, `switch-takeover@QUEUE.service` for a secondary.
//!
//! `systemctl start --wait` is a process that lives as long as the unit does, so a unit is started and watched as a child
//! is. It ends with heartbeatd and the unit does not. Never decides anything.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mail_model::{Epoch, QueueId, Reason};

const SYSTEMCTL: &str = "systemctl";
/// How long systemd may take for one order. A process that stays longer after SIGKILL hangs in the storage.
const ORDER_LIMIT: Duration = Duration::from_secs(10);

/// The own queue's switch.
pub(crate) fn primary(queue: &QueueId) -> String {
    format!("switch@{queue}.service")
}

/// The switch that drains another node's queue here.
pub(crate) fn secondary(queue: &QueueId) -> String {
    format!("switch-takeover@{queue}.service")
}

/// Lives as long as the unit.
pub(crate) fn start(unit: &str) -> Command {
    let mut command = Command::new(SYSTEMCTL);
    command.args(["--quiet", "--no-ask-password", "start", "--wait", unit]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // It would tell our service manager of its own life.
    command.env_remove("NOTIFY_SOCKET");
    command
}

/// Writes what the next secondary for `queue` is told.
pub(crate) fn order(folder: &Path, queue: &QueueId, expected: Epoch, reason: Reason) -> io::Result<()> {
    let file = folder.join(format!("takeover-{queue}.order"));
    let text = format!("expected_epoch={}\nreason={}\n", expected.0, reason.as_str());
    std::fs::write(&file, text)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", file.display())))
}

/// Kills whatever runs as `unit`. One that does not run is no fault.
pub(crate) async fn kill(unit: &str) -> io::Result<()> {
    if carry_out(&["is-active", unit], Stdio::null()).await.is_err() {
        return Ok(());
    }
    carry_out(&["kill", "--signal=SIGKILL", unit], Stdio::inherit()).await
}

/// Ends whatever runs as `unit`, at once, and waits until it is gone.
pub(crate) async fn clear(unit: &str) -> io::Result<()> {
    // A unit that does not run cannot be killed, and need not be.
    carry_out(&["kill", "--signal=SIGKILL", unit], Stdio::null()).await.ok();
    carry_out(&["stop", unit], Stdio::inherit()).await
}

/// Asks `unit` to end in order, and does not wait for it.
pub(crate) async fn stop(unit: &str) -> io::Result<()> {
    carry_out(&["--no-block", "stop", unit], Stdio::inherit()).await
}

async fn carry_out(arguments: &[&str], errors: Stdio) -> io::Result<()> {
    let mut command = tokio::process::Command::new(SYSTEMCTL);
    command.args(["--quiet", "--no-ask-password"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).kill_on_drop(true);
    command.env_remove("NOTIFY_SOCKET");
    let said = |what: String| io::Error::other(format!("systemctl {}: {what}", arguments.join(" ")));
    match tokio::time::timeout(ORDER_LIMIT, command.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(said(status.to_string())),
        Ok(Err(error)) => Err(said(error.to_string())),
        Err(_) => Err(said(format!("no answer within {ORDER_LIMIT:?}"))),
    }
}
