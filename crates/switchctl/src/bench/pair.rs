//! What a pair costs: two nodes on one directory beside one, and a dead node's queue drained while its survivor carries a full
//! load of its own.
//!
//! | stage | what runs | what is counted |
//! |---|---|---|
//! | a switch alone | the switch of one node, which nobody watches | messages a second at the sink |
//! | one of a pair | both nodes with both programs, the load on one | the same; the difference is what heartbeats, and the watch over the other's lease, cost |
//! | both of a pair | both nodes, half of the sessions on each | the same |
//! | beside a takeover | the load on one, whose peer dies with a full queue | mail taken a second while that queue is drained, and how fast it is drained |
//!
//! Stages take turns. The mail is counted at the client and the sink, the drain by the leases.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster::observe::LeaseView;
use daemon_kit::SystemClock;
use mail_model::QueueId;
use rig::{Drain, Flood, Flooded};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep};

use super::fill;
use crate::demo::leases::Leases;
use crate::demo::screen::Screen;
use crate::demo::site::{NodePlan, NodeProcesses, ProcessGroup, Site, SitePlan};
use crate::exit::Exit;

/// How long a program may take to start, and a peer to be taken over.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long all mail may take to be delivered.
const DRAIN_PATIENCE: Duration = Duration::from_mins(10);
/// A load that goes on until something has happened is made of pieces of this length.
const PIECE: Duration = Duration::from_millis(500);
/// Bytes of a message.
const MESSAGE_BYTES: usize = 4096;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Connections of the load, together.
    pub(crate) sessions: usize,
    /// How often each stage is run.
    pub(crate) runs: u32,
    /// Seconds of traffic in a run.
    pub(crate) seconds: u64,
    /// Messages in the queue of the node that dies.
    pub(crate) held: u32,
    /// Where the queues are written.
    pub(crate) dir: PathBuf,
    /// JSON on standard output, and lines for people on standard error.
    pub(crate) json: bool,
}

/// One turn of all stages: messages a second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Turn {
    alone: f64,
    one_of_pair: f64,
    both_of_pair: f64,
    beside_takeover: f64,
    drained: f64,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    let screen = Screen::new(Arc::new(SystemClock), options.json);
    let folder = options.dir.join(format!("mailswitch-pair-{}", std::process::id()));
    let one =
        || Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start a runtime");
    let (generator, sink, own) = (one()?, one()?, one()?);
    let course = Course { options, generator: generator.handle(), sink: sink.handle() };
    let measured = own.block_on(async {
        let mut turns = Vec::new();
        for number in 1..=options.runs {
            let turn = course.turn(&folder).await.with_context(|| format!("run {number}"))?;
            screen.event(&format!(
                "run {number}: alone {:.0}/s, one of a pair {:.0}/s, both {:.0}/s; beside a takeover {:.0}/s, which drains {:.0}/s",
                turn.alone, turn.one_of_pair, turn.both_of_pair, turn.beside_takeover, turn.drained
            ));
            turns.push(turn);
        }
        anyhow::Ok(turns)
    });
    if measured.is_ok() {
        std::fs::remove_dir_all(&folder).ok();
    } else {
        screen.line(&format!("kept: {}", folder.display()));
    }
    generator.shutdown_background();
    sink.shutdown_background();
    publish(options, &screen, &measured?)
}

struct Course<'a> {
    options: &'a Options,
    generator: &'a Handle,
    sink: &'a Handle,
}

impl Course<'_> {
    async fn turn(&self, folder: &Path) -> Result<Turn> {
        let mut turn = Turn {
            alone: self.relay(&folder.join("alone"), Loaded::Alone).await.context("a switch alone")?,
            one_of_pair: self.relay(&folder.join("one"), Loaded::OneOfPair).await.context("one of a pair")?,
            both_of_pair: self.relay(&folder.join("both"), Loaded::Both).await.context("both of a pair")?,
            ..Turn::default()
        };
        (turn.beside_takeover, turn.drained) =
            self.beside_takeover(&folder.join("takeover")).await.context("beside a takeover")?;
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        Ok(turn)
    }

    /// The relay's rate.
    async fn relay(&self, dir: &Path, loaded: Loaded) -> Result<f64> {
        let drain = self.drain().await?;
        let site = lay_out(dir, &drain)?;
        let running = start(&site, loaded).await?;
        let targets = if loaded == Loaded::Both { 2 } else { 1 };
        let flood = |time| self.flood(&site, targets, time);
        flood(PIECE).await?;
        // What was taken to warm up is out of the way.
        sleep(PIECE).await;
        drain.reset();
        let began = drain.now();
        let flooded = flood(Duration::from_secs(self.options.seconds)).await?;
        let all = drain.wait_for(flooded.accepted, DRAIN_PATIENCE).await;
        ensure!(all, "{} of {} messages came to the sink", drain.messages(), flooded.accepted);
        drop(running);
        Ok(rate(flooded.accepted, drain.span().1.saturating_sub(began)))
    }

    /// Mail taken a second by the survivor while it drains its peer's queue, and how fast that is drained.
    async fn beside_takeover(&self, dir: &Path) -> Result<(f64, f64)> {
        let drain = self.drain().await?;
        let site = lay_out(dir, &drain)?;
        let queue = site.node(1)?.queue();
        let full = site.spool().join(queue.as_str());
        std::fs::create_dir_all(&full).with_context(|| format!("make {}", full.display()))?;
        fill::fill(&full, &queue, self.options.held).await?;
        let survivor = site.start(0).await?;
        let leases =
            Leases::watch(&site.spool(), vec![site.node(0)?.queue(), queue.clone()], Arc::new(SystemClock))
                .context("watch the leases")?;
        works(&leases, &site.node(0)?.queue()).await?;
        let victim = site.start(1).await?;
        let before = works(&leases, &queue).await?;
        victim.kill().await?;
        // Nothing else was delivered so far.
        let left = u64::from(self.options.held).saturating_sub(drain.messages());
        ensure!(
            left > 0,
            "the queue of the node that died was empty before it died; fill it with more messages"
        );
        let taken = |lease: &LeaseView| lease.epoch > before.epoch && lease.working;
        let began = self.load_until(&site, &leases, &queue, taken).await?.1;
        let (flooded, ended) =
            self.load_until(&site, &leases, &queue, |lease| taken(lease) && lease.queued == 0).await?;
        drop(survivor);
        let span = ended.duration_since(began);
        Ok((rate(flooded.accepted, flooded.took), rate(left, span)))
    }

    /// Loads the first node until the lease of `queue` is as wanted; answers when that was.
    async fn load_until(
        &self,
        site: &Site,
        leases: &Leases,
        queue: &QueueId,
        wanted: impl Fn(&LeaseView) -> bool,
    ) -> Result<(Flooded, Instant)> {
        let came = async {
            leases.wait_for(queue, "the peer's queue", DRAIN_PATIENCE, wanted).await?;
            anyhow::Ok(Instant::now())
        };
        tokio::pin!(came);
        let mut all = Flooded::default();
        loop {
            let piece = self.flood(site, 1, PIECE);
            tokio::pin!(piece);
            let mut when = None;
            let piece = loop {
                tokio::select! {
                    piece = &mut piece => break piece?,
                    at = &mut came, if when.is_none() => when = Some(at?),
                }
            };
            all.accepted += piece.accepted;
            all.took += piece.took;
            if let Some(when) = when {
                return Ok((all, when));
            }
        }
    }

    async fn drain(&self) -> Result<Drain> {
        let start = async { Drain::start(([127, 0, 0, 1], 0).into()) };
        self.sink.spawn(start).await.context("start the sink")?.context("start the sink")
    }

    /// A load on the first `targets` nodes, that share its connections.
    async fn flood(&self, site: &Site, targets: usize, time: Duration) -> Result<Flooded> {
        let floods: Vec<_> = (0..targets)
            .map(|index| {
                let flood = Flood {
                    target: site.node(index)?.smtp,
                    sessions: (self.options.sessions / targets).max(1),
                    messages_per_connection: u32::MAX,
                    message_size_bytes: MESSAGE_BYTES,
                    time,
                    total: None,
                    rate: None,
                    recipient: Flood::RECIPIENT.to_owned(),
                };
                Ok(self.generator.spawn(flood.run()))
            })
            .collect::<Result<_>>()?;
        let mut all = Flooded::default();
        for flood in floods {
            let flooded = flood.await.context("run the generator")?;
            if let Some(why) = &flooded.first_failure {
                ensure!(flooded.accepted > 0, "no message was accepted: {why}");
            }
            all.accepted += flooded.accepted;
            all.took = all.took.max(flooded.took);
        }
        Ok(all)
    }
}

/// Which nodes run, and which have the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Alone,
    OneOfPair,
    Both,
}

/// Starts what `loaded` says, and waits until it takes mail. It ends when what is returned is dropped.
async fn start(site: &Site, loaded: Loaded) -> Result<Vec<ProcessGroup>> {
    let queues: Vec<QueueId> = site.nodes.iter().map(NodePlan::queue).collect();
    let leases =
        Leases::watch(&site.spool(), queues.clone(), Arc::new(SystemClock)).context("watch the leases")?;
    let mut running = vec![site.start_program(0, "switch").await?];
    let mut count = 1;
    if loaded != Loaded::Alone {
        running.push(site.start_program(0, "heartbeatd").await?);
        let NodeProcesses { switch, heartbeatd } = site.start(1).await?;
        running.extend([switch, heartbeatd]);
        count = 2;
    }
    for queue in queues.iter().take(count) {
        works(&leases, queue).await?;
    }
    for node in site.nodes.iter().take(count) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(node.smtp).await.is_err() {
            ensure!(Instant::now() < deadline, "node {} does not serve mail", node.id);
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(running)
}

async fn works(leases: &Leases, queue: &QueueId) -> Result<LeaseView> {
    leases.wait_for(queue, "its owner works", PATIENCE, |lease| lease.working).await
}

fn lay_out(dir: &Path, drain: &Drain) -> Result<Site> {
    let programs = std::env::current_exe().context("find this program's folder")?;
    let plan = SitePlan {
        dir: dir.to_owned(),
        nodes: 2,
        sink: drain.address(),
        programs: programs.parent().context("this program lies in a folder")?.to_owned(),
        takeover: "window: 2s".to_owned(),
    };
    Site::lay_out(plan, |_, _, address| Ok(address))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64().max(0.001)
}

fn publish(options: &Options, screen: &Screen, turns: &[Turn]) -> Result<Exit> {
    type Figure = fn(&Turn) -> f64;
    let rows: [(&str, Figure); 5] = [
        ("a switch alone, relay", |turn| turn.alone),
        ("one of a pair, relay", |turn| turn.one_of_pair),
        ("both of a pair, relay", |turn| turn.both_of_pair),
        ("beside a takeover, accept", |turn| turn.beside_takeover),
        ("a dead node's queue, drain", |turn| turn.drained),
    ];
    screen.line(&format!("\n{:<28}{:>12}{:>10}{:>10}", "messages a second", "median", "low", "high"));
    let mut medians = serde_json::Map::new();
    for (name, figure) in rows {
        let mut values: Vec<f64> = turns.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let (low, median, high) = (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)));
        screen.line(&format!("{name:<28}{median:>12.0}{low:>10.0}{high:>10.0}"));
        medians.insert(name.to_owned(), json!({"median": median, "low": low, "high": high}));
    }
    if options.json {
        let answer = json!({
            "schema": "mailswitch.bench.pair/1",
            "sessions": options.sessions,
            "held": options.held,
            "messages_s": medians,
            "runs": turns,
        });
        crate::command::say(answer).map_err(|failure| anyhow::anyhow!(failure.message))?;
    }
    Ok(Exit::Ok)
}
