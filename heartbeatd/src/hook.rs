//! Programs of the operator's that move storage or put a node off. One that does not end in time is killed with its whole
//! process group and has failed; what it did until then only its next answer tells.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// What it prints is read up to here.
const OUTPUT_BYTES_MAX: u64 = 16 << 10;

/// A program with its arguments.
#[derive(Debug)]
pub(crate) struct Hook {
    command: Vec<String>,
    timeout: Duration,
}

/// Kills the group of a child that has not been waited for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // One that just ended is no fault.
            killpg(leader, Signal::SIGKILL).ok();
        }
    }
}

impl Hook {
    pub(crate) fn new(command: Vec<String>, timeout: Duration) -> Self {
        Self { command, timeout }
    }

    /// Runs it with these words behind its arguments. What it printed, if it ended with 0; else why not.
    pub(crate) async fn run(&self, words: &[&str]) -> Result<String, String> {
        let program = self.command.first().map_or("", String::as_str);
        match timeout(self.timeout, self.end(words)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(why)) => Err(format!("{program} {}: {why}", words.join(" "))),
            Err(_) => {
                let ms = self.timeout.as_millis();
                Err(format!("{program} {}: did not end within {ms} ms: killed", words.join(" ")))
            }
        }
    }

    async fn end(&self, words: &[&str]) -> Result<String, String> {
        let (program, arguments) = self.command.split_first().ok_or("no program is named")?;
        let told = |error: io::Error| error.to_string();
        let mut child = Command::new(program)
            .args(arguments)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(told)?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let mut group = Group(leader);
        let output = child.stdout.take();
        let mut text = String::new();
        if let Some(output) = output {
            output.take(OUTPUT_BYTES_MAX).read_to_string(&mut text).await.map_err(told)?;
        }
        let status = child.wait().await.map_err(told)?;
        // What it left running in its group is its own affair: it ended in order.
        group.0 = None;
        if status.success() { Ok(text) } else { Err(format!("ended with {status}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, ms: u64) -> Hook {
        let words = ["sh", "-c", script, "hook"];
        Hook::new(words.map(str::to_owned).to_vec(), Duration::from_millis(ms))
    }

    #[tokio::test]
    async fn only_an_exit_with_0_counts() {
        let said = hook("echo \"$1 $2\"", 10_000).run(&["state", "a"]).await;
        assert_eq!(said, Ok("state a\n".to_owned()));
        assert!(hook("exit 1", 10_000).run(&["off", "a"]).await.unwrap_err().contains("exit status: 1"));
        let none = Hook::new(vec!["/nowhere/hook".to_owned()], Duration::from_secs(10));
        assert!(none.run(&["off"]).await.is_err());
    }

    #[tokio::test]
    async fn one_that_hangs_has_failed_and_its_children_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! > {}; wait", pids.display());
        // Long enough to write its child's number.
        let hook = hook(&script, 1_500);
        assert!(hook.run(&["promote"]).await.unwrap_err().contains("killed"));
        let pid: i32 = std::fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
        let gone = || nix::sys::signal::kill(Pid::from_raw(pid), None).is_err() || is_zombie(pid);
        for _ in 0..500 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("its child {pid} runs on");
    }

    /// An orphan that nobody has waited for yet.
    fn is_zombie(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    }
}
