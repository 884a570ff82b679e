//! A run of the program, from its configuration to its end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use control::network::{self, Members};
use daemon_kit::logging::Levels;
use daemon_kit::notify;
use daemon_kit::signals::{Signal, Signals};
use mail_model::Moment;
use settings::Settings;
use tokio::time::{MissedTickBehavior, interval};

use crate::node::{Inputs, Node};
use crate::plan::Plan;
use crate::{admin, agent, monitor, witness};

/// How often machines hear that time passed. Bounds how late a stagger or a hold ends.
const TICK: Duration = Duration::from_millis(50);
/// How often systemd hears how things stand.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// How often is looked for what people should be told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How much longer than the grace of their deliveries children get to end in order.
const END_MARGIN: Duration = Duration::from_secs(3);

/// Runs until it is asked to end.
pub(crate) async fn run(config: &Path, settings: &Settings, levels: Levels) -> Result<()> {
    // First of all: a signal from here on ends the program in order.
    let mut signals = Signals::listen().context("listen for signals")?;
    let plan = Plan::new(config, settings)?;
    let mut asks = admin::serve(&plan.state_dir)?;
    let agent = plan.agent;
    if plan.witness {
        witness::serve(&plan.state_dir, plan.queues())?;
    }
    let (mut node, mut inputs) = Node::start(plan, settings, levels)?;
    if let Some(address) = agent {
        agent::serve(address, node.own_switch.clone()).await?;
    }
    if let (Some(address), Some(key)) = (node.plan.control, &node.plan.key) {
        let (plan, peers) = (&node.plan, node.plan.peers.iter().map(|peer| &peer.id));
        let members = Members::new(key, &plan.cluster, &plan.me, peers.chain([&plan.me]))?;
        network::serve(address, members, &plan.state_dir).await?;
    }
    let mut asked = monitor::serve(&node.plan).await?;
    tracing::info!(
        event = "heartbeatd.started",
        node = %node.plan.me,
        cluster = %node.plan.cluster,
        peers = node.plan.peers.len(),
        paused = node.pause.is_some(),
    );
    notify::ready();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watchdog = Watchdog::new();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut statuses = interval(STATUS_EVERY);
    statuses.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Terminate => break,
                Signal::TerminateNow => {
                    node.children.kill_all();
                    return Ok(());
                }
                Signal::Reload => tracing::info!(event = "heartbeatd.reload_needs_restart"),
                Signal::Dump => dump(&node),
            },
            ask = asks.recv() => if let Some(ask) = ask { node.answer(ask).await },
            Some(ask) = asked.recv() => ask.answer(&node),
            _ = looks.tick() => node.look_for_alerts(),
            _ = statuses.tick() => notify::status(&node.protection(&node.view().peers)),
            () = work(&mut node, &mut inputs, &mut ticks) => watchdog.feed(node.clock.now()),
        }
    }
    end(&mut node, &mut inputs, &mut ticks, &mut signals).await;
    tracing::info!(event = "heartbeatd.stopped", node = %node.plan.me);
    Ok(())
}

/// One input of the machines.
async fn work(node: &mut Node, inputs: &mut Inputs, ticks: &mut tokio::time::Interval) {
    tokio::select! {
        Some(reading) = inputs.readings.recv() => node.reading(reading),
        Some(probed) = inputs.probes.recv() => node.probed(probed),
        Some(ended) = inputs.ended.recv() => node.ended(&ended),
        Some(hit) = inputs.hits.recv() => node.drills.found(hit),
        Some(news) = inputs.news.recv() => node.device_news(&news),
        _ = ticks.tick() => node.tick(),
    }
}

/// Children drain and release; the peers see in the lease and in the last heartbeats that this is no crash.
async fn end(node: &mut Node, inputs: &mut Inputs, ticks: &mut tokio::time::Interval, signals: &mut Signals) {
    notify::stopping();
    node.end_drill();
    node.draining = true;
    node.children.terminate_all();
    let mut watchdog = Watchdog::new();
    let deadline = node.clock.now() + node.plan.timers.grace + END_MARGIN;
    while !node.children.is_empty() && node.clock.now() < deadline {
        tokio::select! {
            signal = signals.next() => if signal == Signal::TerminateNow { break },
            () = work(node, inputs, ticks) => watchdog.feed(node.clock.now()),
        }
    }
    node.children.kill_all();
    node.release_devices().await;
    if let Some(link) = &node.link {
        link.stop();
    }
}

/// Feeds systemd's watchdog from the loop that steps the machines: if that stands still, nothing is watched any more.
struct Watchdog {
    every: Option<Duration>,
    next: Moment,
}

impl Watchdog {
    fn new() -> Self {
        Self { every: notify::watchdog(), next: Moment(0) }
    }

    fn feed(&mut self, now: Moment) {
        if let Some(every) = self.every
            && now >= self.next
        {
            self.next = now + every;
            notify::alive();
        }
    }
}

fn dump(node: &Node) {
    let status = serde_json::to_string(&node.status()).unwrap_or_default();
    let ignored = node.link.as_ref().map(crate::link::Link::ignored).unwrap_or_default();
    tracing::info!(event = "heartbeatd.dump", %status, ?ignored);
}
