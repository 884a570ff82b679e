//! What many messages and many connections cost, and how long a 250 takes when there is time for it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rig::Flood;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{Course, DELIVERY_PATIENCE, FILL_PATIENCE, REST, answers, rate};
use crate::bench::figures::{Sample, percentile};
use crate::bench::meter::Usage;
use crate::bench::server::{Name, Running};
use crate::bench::work::{DEAD, Delivery, Work};

/// How long a connection may take to be greeted.
const GREETING_PATIENCE: Duration = Duration::from_secs(30);
/// Syncs whose durations are measured.
const SYNCS: usize = 400;
/// A message and what the journal says of it.
const SYNCED_BYTES: usize = 4_400;

impl Course<'_> {
    /// Fills a queue with mail for a dead destination, starts anew on it, and relays other mail.
    pub(super) async fn beside(&self, work: Work, dir: &Path) -> Result<Sample> {
        let drain = self.drain().await?;
        let delivery = Delivery::Beside(drain.address());
        let mut server = Running::start(Name::Mailswitch, dir, delivery).await?;
        server.ready().await?;
        let mut fill =
            Flood { total: Some(work.held), time: FILL_PATIENCE, ..self.load(work, server.smtp()) };
        fill.recipient = format!("probe@{DEAD}");
        let filled = self.flood(fill).await?;
        ensure!(filled.failed == 0, "not all mail was taken: {:?}", filled.first_failure);
        let mut around = vec![("MiB resident, filled", resident(&server))];
        server.stop().await?;

        let began = Instant::now();
        let mut server = Running::start(Name::Mailswitch, dir, delivery).await?;
        server.ready().await?;
        around.push(("start to 220, ms", began.elapsed().as_secs_f64() * 1000.0));
        let one = Flood { total: Some(1), sessions: 1, ..self.load(work, server.smtp()) };
        ensure!(self.flood(one).await?.failed == 0, "the first message is not taken");
        ensure!(drain.wait_for(1, DELIVERY_PATIENCE).await, "the first message is not delivered");
        around.push(("start to first new mail delivered, ms", began.elapsed().as_secs_f64() * 1000.0));
        sleep(REST).await;
        around.push(("MiB resident, after the start", resident(&server)));
        if let Running::Mailswitch(server) = &server {
            around.extend(server.recovery_ms().map(|ms| ("claim to ACTIVE, ms", ms)));
            for (name, arguments) in QUESTIONS {
                around.push((name, asked_ms(&server.config, arguments)?));
            }
        }
        drain.reset();
        let (own_before, before, start) = (Usage::own_cpu_s(), Usage::of(server.pid()), drain.now());
        let flooded = self.flood(self.load(work, server.smtp())).await?;
        let all = drain.wait_for(flooded.accepted, DELIVERY_PATIENCE).await;
        ensure!(all, "{} of {} messages came to the sink", drain.messages(), flooded.accepted);
        let mut sample = answers(&flooded);
        sample.rate = rate(flooded.accepted, drain.span().1.saturating_sub(start));
        sample.used(before, own_before, server.pid());
        // Whoever read the open segment before put it into the cache in large pieces, and the kernel counts one whole for
        // every few bytes that are added. The disk is not given more.
        sample.written = None;
        around.push(("longest 250, ms", f64::from(sample.max_us) / 1000.0));
        sample.around = around;
        server.stop().await?;
        Ok(sample)
    }

    /// Mail at half the rate that the server takes, and the disk without a server.
    pub(super) async fn half(&self, work: Work, name: Name, dir: &Path) -> Result<Sample> {
        let mut server = Running::start(name, dir, Delivery::Held).await?;
        server.ready().await?;
        let load = self.load(work, server.smtp());
        let full = self.flood(Flood { time: Duration::from_secs(2), ..load.clone() }).await?;
        let half = full.accepted / 4;
        let (own_before, before) = (Usage::own_cpu_s(), Usage::of(server.pid()));
        let flooded = self.flood(Flood { rate: Some(half.max(1)), ..load }).await?;
        let mut sample = answers(&flooded);
        sample.rate = rate(flooded.accepted, flooded.took);
        sample.used(before, own_before, server.pid());
        server.stop().await?;
        let mut syncs = syncs_us(&dir.join("sync"))?;
        syncs.sort_unstable();
        for (name, percent) in [("sync of the disk, p50, ms", 50), ("sync of the disk, p99, ms", 99)] {
            sample.around.push((name, f64::from(percentile(&syncs, percent)) / 1000.0));
        }
        for (name, micros) in [
            ("250, p50, ms", sample.p50_us),
            ("250, p99, ms", sample.p99_us),
            ("250, longest, ms", sample.max_us),
        ] {
            sample.around.push((name, f64::from(micros) / 1000.0));
        }
        Ok(sample)
    }

    /// Connections that were greeted and say nothing.
    pub(super) async fn idle(&self, work: Work, dir: &Path) -> Result<Sample> {
        daemon_kit::limits::raise_open_files().context("raise the limit of open files")?;
        let mut server = Running::start(Name::Mailswitch, dir, Delivery::Held).await?;
        server.ready().await?;
        let empty = resident(&server);
        let (began, mut open) = (Instant::now(), Vec::with_capacity(work.sessions));
        for _ in 0..work.sessions {
            let greeted = timeout(GREETING_PATIENCE, greeted(server.smtp())).await;
            open.push(greeted.context("no greeting")??);
        }
        let took = began.elapsed();
        let mut sample = Sample { messages: open.len() as u64, ..Sample::default() };
        sample.rate = rate(sample.messages, took);
        sample.resident = Usage::of(server.pid()).resident;
        sample.around = vec![("MiB resident, none", empty), ("MiB resident, all", resident(&server))];
        drop(open);
        server.stop().await?;
        Ok(sample)
    }
}

/// What an operator asks of a large queue.
const QUESTIONS: [(&str, &[&str]); 2] = [
    ("switchctl queue summary, ms", &["queue", "summary"]),
    ("switchctl queue list, one found, ms", &["queue", "list", "from:nobody@nowhere.test"]),
];

fn asked_ms(config: &Path, arguments: &[&str]) -> Result<f64> {
    let program = std::env::current_exe().context("find the folder of the programs")?;
    let began = Instant::now();
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().context("run switchctl")?;
    if !status.success() {
        bail!("switchctl {}: {status}", arguments.join(" "));
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

async fn greeted(address: std::net::SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    let mut line = [0; 512];
    let count = stream.read(&mut line).await.context("read the greeting")?;
    ensure!(line.get(..count).is_some_and(|line| line.starts_with(b"220")), "no 220");
    stream.write_all(b"EHLO client.test\r\n").await.context("say EHLO")?;
    ensure!(stream.read(&mut line).await.context("read the reply")? > 0, "no reply");
    Ok(stream)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn resident(server: &Running) -> f64 {
    Usage::of(server.pid()).resident as f64 / 1_048_576.0
}

/// How long the disk takes to sync what one message adds to a file.
fn syncs_us(path: &Path) -> Result<Vec<u32>> {
    let message = vec![b'x'; SYNCED_BYTES];
    let mut file = File::create(path).with_context(|| format!("write {}", path.display()))?;
    let mut syncs = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&message).context("write")?;
        let began = Instant::now();
        file.sync_data().context("sync")?;
        syncs.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    fs::remove_file(path).context("remove")?;
    Ok(syncs)
}
