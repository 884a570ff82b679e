//! One run after the other, each on a fresh folder, the servers taking turns.

mod scale;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daemon_kit::SystemClock;
use daemon_kit::signals::{Signal, Signals};
use rig::{Drain, Flood, Flooded};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::sleep;

use super::figures::{Figures, Sample, histogram, percentile};
use super::meter::Usage;
use super::options::Options;
use super::server::{Name, Running};
use super::work::{Delivery, Kind, Work};
use super::{postfix, report};
use crate::demo::screen::Screen;

/// How long all that was accepted may take to be delivered.
const DELIVERY_PATIENCE: Duration = Duration::from_mins(10);
/// How long a queue may take to be filled.
const FILL_PATIENCE: Duration = Duration::from_mins(30);
/// How long a filled queue rests.
const REST: Duration = Duration::from_secs(3);
/// Messages on a connection before it is closed, where many are sent on one.
const MANY: u32 = 1_000_000;

/// Measures everything that `options` ask for, and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let one = |name: &str| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .context("start a runtime")
    };
    // A thread for each: neither can hold the other up.
    let (generator, sink) = (one("generator")?, one("sink")?);
    let own: Runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let screen = Screen::new(Arc::new(SystemClock), options.json);
    let dir = options.dir.join(format!("mailswitch-bench-{}", daemon_kit::instance_id()));
    let handles = (generator.handle().clone(), sink.handle().clone());
    let measured = own.block_on(async {
        let mut signals = Signals::listen().context("listen for signals")?;
        let course = Course { options, screen: &screen, dir: &dir, generator: handles.0, sink: handles.1 };
        tokio::select! {
            measured = course.whole() => measured,
            () = told_to_end(&mut signals) => bail!("interrupted"),
        }
    });
    if measured.is_ok() {
        fs::remove_dir_all(&dir).ok();
    } else {
        screen.line(&format!("kept: {}", dir.display()));
    }
    generator.shutdown_background();
    sink.shutdown_background();
    report::publish(&measured?, options, &screen)
}

async fn told_to_end(signals: &mut Signals) {
    loop {
        match signals.next().await {
            Signal::Terminate | Signal::TerminateNow => return,
            Signal::Reload | Signal::Dump => {}
        }
    }
}

struct Course<'a> {
    options: &'a Options,
    screen: &'a Screen,
    dir: &'a Path,
    generator: Handle,
    sink: Handle,
}

impl Course<'_> {
    async fn whole(&self) -> Result<Vec<Figures>> {
        let mut names = vec![Name::Mailswitch];
        match postfix::missing() {
            _ if !self.options.postfix => {}
            None => names.push(Name::Postfix),
            Some(why) => self.screen.line(&format!("only mailswitch is measured: {why}")),
        }
        let mut all = Vec::new();
        for work in Work::all(self.options) {
            let mut figures = Figures::new(work);
            for _ in 0..self.options.pairs {
                if work.kind == Kind::Ceiling {
                    let sample = self.ceiling(work).await?;
                    self.tell(&work, "no server", &sample);
                    figures.ceiling.push(sample);
                    continue;
                }
                for name in names.iter().take(if work.is_ours_alone() { 1 } else { 2 }) {
                    let dir = self.fresh_dir()?;
                    let sample = self.sample(work, *name, &dir).await;
                    let sample = sample.with_context(|| format!("{}: {}", name.word(), work.name()))?;
                    self.tell(&work, name.word(), &sample);
                    figures.of(*name).push(sample);
                    fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
                }
            }
            all.push(figures);
        }
        Ok(all)
    }

    fn tell(&self, work: &Work, name: &str, sample: &Sample) {
        let name = format!("{}: {name}", work.name());
        self.screen.event(&format!("{name:<48} {:>9.0} messages/s", sample.rate));
        for (name, figure) in &sample.around {
            self.screen.event(&format!("    {name:<44} {figure:>9.1}"));
        }
        if sample.failed > 0 {
            self.screen.event(&format!("{} transactions had no 250", sample.failed));
        }
    }

    fn fresh_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join("run");
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    async fn drain(&self) -> Result<Arc<Drain>> {
        let start = async { Drain::start(SocketAddr::from(([127, 0, 0, 1], 0))) };
        let drain = self.sink.spawn(start).await.context("start the sink")?;
        Ok(Arc::new(drain.context("start the sink")?))
    }

    async fn flood(&self, flood: Flood) -> Result<Flooded> {
        let flooded = self.generator.spawn(flood.run()).await.context("run the generator")?;
        if let Some(why) = &flooded.first_failure {
            ensure!(flooded.accepted > 0, "no message was accepted: {why}");
        }
        Ok(flooded)
    }

    fn load(&self, work: Work, target: SocketAddr) -> Flood {
        Flood {
            target,
            sessions: work.sessions,
            messages_per_connection: if work.single { 1 } else { MANY },
            message_size_bytes: work.size_bytes,
            time: Duration::from_secs(self.options.seconds),
            total: None,
            rate: None,
            recipient: Flood::RECIPIENT.to_owned(),
        }
    }

    async fn ceiling(&self, work: Work) -> Result<Sample> {
        let drain = self.drain().await?;
        let before = Usage::own_cpu_s();
        let flooded = self.flood(self.load(work, drain.address())).await?;
        let mut sample = answers(&flooded);
        sample.rate = rate(flooded.accepted, flooded.took);
        sample.rig_cpu_s = per_10000(Usage::own_cpu_s() - before, flooded.accepted);
        Ok(sample)
    }

    async fn sample(&self, work: Work, name: Name, dir: &Path) -> Result<Sample> {
        match work.kind {
            Kind::Drain => self.empty_held(work, name, dir).await,
            Kind::Beside => self.beside(work, dir).await,
            Kind::Pace => self.half(work, name, dir).await,
            Kind::Idle => self.idle(work, dir).await,
            Kind::Ceiling | Kind::Accept | Kind::Relay => self.traffic(work, name, dir).await,
        }
    }

    /// Accept and relay.
    async fn traffic(&self, work: Work, name: Name, dir: &Path) -> Result<Sample> {
        let drain = self.drain().await?;
        let relay = work.kind == Kind::Relay;
        let delivery = if relay { Delivery::To(drain.address()) } else { Delivery::Held };
        let mut server = Running::start(name, dir, delivery).await?;
        server.ready().await?;
        let load = self.load(work, server.smtp());
        // Processes are started and connections made before anything is measured.
        let total = u64::try_from(work.sessions)? * 2;
        let warm = self.flood(Flood { total: Some(total), ..load.clone() }).await?;
        if relay {
            ensure!(
                drain.wait_for(warm.accepted, DELIVERY_PATIENCE).await,
                "the first mail is not delivered"
            );
        }
        drain.reset();
        let (before, own_before, began) = (Usage::of(server.pid()), Usage::own_cpu_s(), drain.now());
        let flooded = self.flood(load).await?;
        let mut took = flooded.took;
        if relay {
            let all = drain.wait_for(flooded.accepted, DELIVERY_PATIENCE).await;
            ensure!(all, "{} of {} messages came to the sink", drain.messages(), flooded.accepted);
            took = drain.span().1.saturating_sub(began);
        }
        let mut sample = answers(&flooded);
        sample.rate = rate(flooded.accepted, took);
        sample.used(before, own_before, server.pid());
        server.stop().await?;
        Ok(sample)
    }

    /// Drain of a held queue.
    async fn empty_held(&self, work: Work, name: Name, dir: &Path) -> Result<Sample> {
        let mut server = Running::start(name, dir, Delivery::Held).await?;
        server.ready().await?;
        let load = self.load(work, server.smtp());
        let fill = Flood { total: Some(work.held), time: FILL_PATIENCE, ..load };
        let filled = self.flood(fill).await?;
        ensure!(filled.failed == 0, "not all mail was taken: {:?}", filled.first_failure);
        server.stop().await?;
        // What was tried while nobody listened may be tried again by then.
        sleep(REST).await;

        let drain = self.drain().await?;
        let own_before = Usage::own_cpu_s();
        let began = drain.now();
        let server = Running::start(name, dir, Delivery::To(drain.address())).await?;
        let all = drain.wait_for(filled.accepted, DELIVERY_PATIENCE).await;
        ensure!(all, "{} of {} messages came to the sink", drain.messages(), filled.accepted);
        let (first, last) = drain.span();
        let mut sample = answers(&filled);
        sample.rate = rate(filled.accepted, last.saturating_sub(first));
        sample.first_ms = Some(first.saturating_sub(began).as_secs_f64() * 1000.0);
        sample.around.extend(sample.first_ms.map(|ms| ("start to first delivery, ms", ms)));
        sample.used(Usage { written: Some(0), ..Usage::default() }, own_before, server.pid());
        server.stop().await?;
        Ok(sample)
    }
}

impl Sample {
    /// Notes what the server of `pid` used since `before`.
    fn used(&mut self, before: Usage, own_before: f64, pid: u32) {
        let after = Usage::of(pid);
        self.cpu_s = per_10000(after.cpu_s - before.cpu_s, self.messages);
        self.rig_cpu_s = per_10000(Usage::own_cpu_s() - own_before, self.messages);
        let written = after.written.zip(before.written);
        self.written = written.map(|(after, before)| ratio(after.saturating_sub(before), self.messages));
        self.resident = after.resident;
    }
}

fn answers(flooded: &Flooded) -> Sample {
    let mut sorted = flooded.answers_us.clone();
    sorted.sort_unstable();
    Sample {
        messages: flooded.accepted,
        failed: flooded.failed,
        p50_us: percentile(&sorted, 50),
        p99_us: percentile(&sorted, 99),
        max_us: percentile(&sorted, 100),
        answers: histogram(&sorted),
        ..Sample::default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people: far below 2^52")]
fn ratio(part: u64, messages: u64) -> f64 {
    part as f64 / messages.max(1) as f64
}

fn rate(messages: u64, took: Duration) -> f64 {
    ratio(messages, 1) / took.as_secs_f64().max(0.000_001)
}

fn per_10000(seconds: f64, messages: u64) -> f64 {
    seconds * 10_000.0 / ratio(messages.max(1), 1)
}
