//! Loss of power on real file systems: ext4 and XFS are told to shut down in the middle of their work, as if the power of their
//! disk had gone, with the real switch on them. It is killed, the file system is mounted again, and every 250 must be delivered.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daemon_kit::SystemClock;
use mail_model::{Clock, QueueId};
use rig::{Behaviour, Load, Patience, Probe, Rate, Rule, Sink, SinkOptions, Stage};
use switchctl::demo::books::Books;
use switchctl::demo::site::free_tcp;
use tempfile::TempDir;

use crate::row::Row;

const CYCLES: u64 = 50;
const MESSAGES: u64 = 60;
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn what_was_acknowledged_on_ext4_survives_the_loss_of_power() -> Result<()> {
    cycles("ext4").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn what_was_acknowledged_on_xfs_survives_the_loss_of_power() -> Result<()> {
    cycles("xfs").await
}

/// A file system in a file.
struct Disk {
    dir: TempDir,
    mounted: bool,
}

impl Disk {
    fn make(kind: &str) -> Result<Self> {
        let dir = TempDir::with_prefix_in("mailswitch-power-", "/var/tmp")?;
        let image = dir.path().join("image");
        // A quarter of it has to stay free, or no mail is taken.
        std::fs::File::create(&image)?.set_len(1 << 30)?;
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        std::fs::create_dir(dir.path().join("disk"))?;
        let mut disk = Self { dir, mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn mount(&mut self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.dir.path().join("image")).arg(self.path()))?;
        self.mounted = true;
        Ok(())
    }

    /// Nothing that is not on the disk yet will ever be.
    fn lose_power(&self) -> Result<()> {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()))
    }

    fn unmount(&mut self) -> Result<()> {
        run(Command::new("umount").arg(self.path()))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = run(Command::new("umount").arg("-l").arg(self.path()))
        {
            eprintln!("{error:#}");
        }
    }
}

/// The switch on the disk, killed when it is dropped.
struct Switch(Child);

impl Switch {
    fn start(program: &Path, config: &Path) -> Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log"))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null());
        Ok(Self(command.stdout(log.try_clone()?).stderr(log).spawn()?))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It may have ended by itself, since its disk is gone.
        if self.0.kill().is_ok()
            && let Err(error) = self.0.wait()
        {
            eprintln!("{error}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn possible(kind: &str) -> bool {
    let mkfs = format!("mkfs.{kind}");
    let missing = if !nix::unistd::geteuid().is_root() {
        "root"
    } else if Command::new("xfs_io").arg("-V").output().is_err()
        || Command::new(&mkfs).arg("-V").output().is_err()
    {
        "xfs_io, mkfs.ext4 and mkfs.xfs (tests/install-needs.sh installs them)"
    } else {
        return true;
    };
    eprintln!("skipped: needs {missing}");
    false
}

async fn cycles(kind: &str) -> Result<()> {
    if !possible(kind) {
        return Ok(());
    }
    let mut disk = Disk::make(kind)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sink = Sink::start(SinkOptions::new(Arc::clone(&clock)))?;
    let address = free_tcp()?;
    let config = disk.dir.path().join("mailswitch.yaml");
    std::fs::write(
        &config,
        format!(
            "cluster: {{ id: demo }}\nnode: {{ id: a, hostname: a.test, state_dir: state }}\n\
             queue: {{ dir: disk/spool, segment_size: 4MiB }}\nlisteners: [ {{ address: \"{address}\" }} ]\n\
             relay: {{ trusted_networks: [ 127.0.0.0/8 ] }}\nroutes: [ {{ match: \"*\", next_hop: \"{}\" }} ]\n\
             retry: {{ first: 300ms, max: 300ms }}\n",
            sink.address()
        ),
    )?;
    let log = || std::fs::read_to_string(config.with_extension("log")).unwrap_or_default();
    let program = tests::programs::build()?.join("switch");
    let mut runs: Vec<(String, Vec<Probe>)> = Vec::new();
    let mut switch = Switch::start(&program, &config)?;
    for cycle in 1..=CYCLES {
        // Every other time deliveries run too, so that attempts and outcomes are cut as well.
        put_off(&sink, cycle % 2 == 0);
        let name = format!("cycle{cycle}");
        let load = Load {
            rate: Rate::PerSecond(400),
            total: Some(MESSAGES),
            patience: Patience { reply: Duration::from_secs(2), ..Patience::default() },
            ..Load::new(address, &name)
        };
        let load = load.start(Arc::clone(&clock));
        let mut tally = load.watch();
        // At another moment each time.
        let enough = tally.wait_for(|tally| tally.accepted >= 5 + cycle * 7 % 45);
        tokio::time::timeout(PATIENCE, enough).await.with_context(log)??;
        disk.lose_power()?;
        drop(switch);
        disk.unmount()?;
        disk.mount()?;
        switch = Switch::start(&program, &config)?;
        put_off(&sink, false);
        let probes = load.finish(PATIENCE).await;
        let accepted = probes.iter().filter(|probe| probe.accepted.is_some()).count();
        ensure!(
            accepted as u64 == MESSAGES,
            "{name}: {accepted} of {MESSAGES} were accepted at last:\n{}",
            log()
        );
        let all = sink.wait_for(|tally| tally.probes >= cycle * MESSAGES, PATIENCE).await;
        ensure!(all, "{name}: {} of {} messages are at the far end", sink.tally().probes, cycle * MESSAGES);
        runs.push((name, probes));
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(switch.0.id())?),
        nix::sys::signal::Signal::SIGTERM,
    )?;
    ensure!(switch.0.wait()?.success(), "the switch did not end in order");
    let runs: Vec<(&str, Vec<Probe>)> =
        runs.iter().map(|(name, probes)| (name.as_str(), probes.clone())).collect();
    let queues: [QueueId; 1] = ["a".parse()?];
    let books = Books::close(&runs, &sink, &disk.path().join("spool"), &queues)?;
    Row::of("power loss, restarted", kind, CYCLES, &books).close(&books)
}

fn put_off(sink: &Sink, put_off: bool) {
    let mut behaviour = Behaviour::default();
    if put_off {
        behaviour.rules.push(Rule::at(Stage::Recipient).reply(451, "4.7.1 not now, try again"));
    }
    sink.behave(behaviour);
}
