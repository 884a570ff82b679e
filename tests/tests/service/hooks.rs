//! The scripts that operators' storage and fencing hang on: what they say when the answer is no, or none. Fencing with the dummy
//! agent of `ClusterLabs`, which is a real one in all but the power. On real storage they are tried by `make drills`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

fn hook(path: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-scripts").join(path))
}

/// A folder with a file for each node, as `/etc/mailswitch/fence`.
struct Fences(TempDir);

impl Fences {
    /// None, said aloud, where the agents are not installed.
    fn open() -> Result<Option<Self>> {
        if !Path::new("/usr/sbin/fence_dummy").is_file() {
            eprintln!("skipped: needs fence_dummy (tests/install-needs.sh installs it)");
            return Ok(None);
        }
        Ok(Some(Self(tempfile::tempdir()?)))
    }

    /// Says what fences a node. `STATUS` is the file that the dummy has for a power switch.
    fn node(&self, node: &str, lines: &str) -> Result<PathBuf> {
        let (file, status) = (self.0.path().join(node), self.0.path().join(format!("{node}.power")));
        std::fs::write(&file, lines.replace("STATUS", &status.display().to_string()))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640))?;
        std::fs::write(&status, "on")?;
        Ok(status)
    }

    fn run(&self, action: &str, node: &str) -> Result<Output> {
        let mut fence = hook("fence/fence");
        fence.args(["--timeout", "60", "--directory"]).arg(self.0.path()).args([action, node]);
        fence.output().context("run fence")
    }

    fn code(&self, action: &str, node: &str) -> Result<Option<i32>> {
        let output = self.run(action, node)?;
        eprintln!("{action} {node}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(output.status.code())
    }
}

#[test]
fn a_node_is_fenced_when_its_agent_switched_it_off_and_says_so() -> Result<()> {
    let Some(fences) = Fences::open()? else { return Ok(()) };
    let power = fences.node("b", "agent=fence_dummy\n# its switch\nstatus_file=STATUS\n")?;
    ensure!(fences.run("status", "b")?.stdout == b"on\n");
    ensure!(fences.code("off", "b")? == Some(0));
    ensure!(std::fs::read_to_string(power)? == "off");
    ensure!(fences.run("status", "b")?.stdout == b"off\n");
    ensure!(fences.code("off", "b")? == Some(0), "once more does no harm");
    Ok(())
}

#[test]
fn a_node_is_not_fenced_by_an_agent_that_fails_or_is_late_or_does_not_know() -> Result<()> {
    let Some(fences) = Fences::open()? else { return Ok(()) };
    fences.node("fails", "agent=fence_dummy\ntype=fail\npower_timeout=1\n")?;
    let power = fences.node("knows-nothing", "agent=fence_dummy\nstatus_file=STATUS\n")?;
    std::fs::write(power, "neither\n")?;
    let power = fences.node("late", "agent=fence_dummy\nstatus_file=STATUS\ndelay=30\n")?;
    let mut fence = hook("fence/fence");
    fence.args(["--timeout", "1", "--directory"]).arg(fences.0.path()).args(["off", "late"]);
    ensure!(fence.output()?.status.code() == Some(1), "late is not off");
    ensure!(std::fs::read_to_string(power)? == "on");
    for node in ["fails", "knows-nothing"] {
        ensure!(fences.code("off", node)? == Some(1), "{node}");
    }
    // No agent of ClusterLabs does this, but a wrapper around one may.
    let liar = fences.0.path().join("fence_liar");
    std::fs::write(&liar, "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&liar, std::fs::Permissions::from_mode(0o755))?;
    fences.node("lies", &format!("agent={}\n", liar.display()))?;
    ensure!(fences.code("off", "lies")? == Some(1), "it said 0 to off, and then: on");
    Ok(())
}

#[test]
fn a_fence_that_is_not_set_up_says_what_to_do() -> Result<()> {
    let Some(fences) = Fences::open()? else { return Ok(()) };
    fences.node("open", "agent=fence_dummy\nstatus_file=STATUS\n")?;
    std::fs::set_permissions(fences.0.path().join("open"), std::fs::Permissions::from_mode(0o644))?;
    fences.node("nothing", "status_file=STATUS\n")?;
    fences.node("odd", "agent=sh -c reboot\n")?;
    fences.node("missing", "agent=fence_of_nobody\n")?;
    for (node, told) in [
        ("open", "chmod 640"),
        ("nothing", "agent=fence_"),
        ("odd", "agent=fence_"),
        ("missing", "fence-agents"),
        ("unknown", "names the agent"),
        ("../b", "no name of a node"),
    ] {
        let output = fences.run("off", node)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(told), "{node}: {}: {said}", output.status);
    }
    Ok(())
}

#[test]
fn a_frozen_device_goes_on_only_when_the_arbiter_granted_the_copy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let run = |queue: &str| -> Result<Option<i32>> {
        let mut handler = hook("storage/drbd-fence-peer");
        handler.env("PATH", &path).env("DRBD_RESOURCE", queue).env("MAILSWITCH_FENCE_PEER_SECONDS", "0");
        Ok(handler.output()?.status.code())
    };
    // The real tool, with no cluster to ask.
    std::os::unix::fs::symlink(tests::programs::build()?.join("switchctl"), dir.path().join("switchctl"))?;
    ensure!(run("a")? == Some(1), "there is no arbiter");
    // What a granted copy looks like to the handler.
    let asked = dir.path().join("asked");
    std::fs::remove_file(dir.path().join("switchctl"))?;
    let granted = format!("#!/bin/sh\necho \"$@\" >>{}\n", asked.display());
    std::fs::write(dir.path().join("switchctl"), granted)?;
    std::fs::set_permissions(dir.path().join("switchctl"), std::fs::Permissions::from_mode(0o755))?;
    ensure!(run("a")? == Some(4));
    ensure!(std::fs::read_to_string(&asked)? == "ha copy-alone a\n");
    ensure!(run("a b")? == Some(1), "that is no queue");
    Ok(())
}

#[test]
fn storage_that_is_not_there_is_neither_promoted_nor_called_current() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ask = |program: &str, source: &str, action: &str| -> Result<Output> {
        let mut command = hook(program);
        command.args(["--source", source, action, "a"]).arg(dir.path());
        command.output().context("run a hook")
    };
    for (program, source) in
        [("storage/nfs", "127.0.0.1:/nothing"), ("storage/gluster", "127.0.0.1:/nothing")]
    {
        let state = ask(program, source, "state")?;
        let said = String::from_utf8_lossy(&state.stdout);
        let wanted = r#"{"role":"secondary","mounted":false,"data":"unknown","peer":"alone"}"#;
        ensure!(state.status.success() && said.trim() == wanted, "{program}: {said}");
        ensure!(ask(program, source, "release")?.status.success(), "{program}: it is released");
        ensure!(ask(program, source, "promote")?.status.code() == Some(1), "{program}: nothing is there");
        ensure!(ask(program, source, "else")?.status.code() == Some(2), "{program}: no such action");
    }
    let mut drbd = hook("storage/drbd");
    let output = drbd.args(["--patience", "0", "promote", "msw-nothing"]).arg(dir.path()).output()?;
    ensure!(output.status.code() == Some(1), "there is no such device: {output:?}");
    Ok(())
}
