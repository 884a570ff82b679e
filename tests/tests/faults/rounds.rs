//! Rounds of a power cut on the nodes of a lab: mail to a node, the cut while it acknowledges, what the survivor delivers, the
//! node's return.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use mail_model::QueueId;
use rig::Probe;
use switchctl::demo::books::Books;
use tests::lab::Lab;

use crate::row::Row;

/// Messages to the node that is hit, each round: half of them before the fault.
const MESSAGES: u64 = 100;

/// The rounds of a lab.
pub(crate) struct Rounds<'a> {
    lab: &'a Lab,
    runs: Vec<(String, Vec<Probe>)>,
    takeover_ms: Vec<u64>,
    delivered: u64,
}

impl<'a> Rounds<'a> {
    pub(crate) fn of(lab: &'a Lab) -> Self {
        Self { lab, runs: Vec::new(), takeover_ms: Vec::new(), delivered: 0 }
    }

    /// One round. What serves on a node comes back with its boot.
    pub(crate) async fn power_off(&mut self, [victim, survivor]: [&str; 2]) -> Result<()> {
        let lab = self.lab;
        let protection = "systemctl show -P StatusText heartbeatd";
        lab.until(survivor, protection, "mail is protected", |said| said == "full")?;
        lab.put_off(true);
        let run = format!("round{}", self.runs.len() + 1);
        let load = lab.load(victim, &run, MESSAGES)?;
        let mut tally = load.watch();
        let half = tally.wait_for(|tally| tally.accepted >= MESSAGES / 2);
        tokio::time::timeout(lab.patience(), half).await.context("half of the mail was not accepted")??;

        let at = lab.clock.now();
        // Its link first: nobody gets a reset.
        lab.order("unplug", victim)?;
        lab.order("crash", victim)?;
        // Only now, so that everything that is delivered was taken over.
        lab.put_off(false);
        let before = load.tally().accepted;
        lab.delivered(self.delivered + before).await.with_context(|| {
            let log = "journalctl --no-pager -n 40; switchctl ha why a; switchctl ha why b";
            lab.run(survivor, log).unwrap_or_default()
        })?;
        let first = lab.sink.inspect(|all| all.iter().map(|delivery| delivery.at).find(|then| *then > at));
        let first = first.context("something was delivered")?.since(at);
        eprintln!(
            "power-off of {victim}: {before} accepted before it, the first of them delivered after {first:?}"
        );
        self.takeover_ms.push(u64::try_from(first.as_millis())?);

        lab.order("plug", victim)?;
        lab.up(victim)?;
        lab.ready(victim)?;
        let probes = load.finish(lab.patience()).await;
        ensure!(
            probes.iter().all(|probe| probe.accepted.is_some()),
            "{run}: not all were accepted: {probes:?}"
        );
        self.delivered += MESSAGES;
        lab.delivered(self.delivered).await?;
        self.runs.push((run, probes));
        Ok(())
    }

    /// Stops the nodes, and closes the books of all rounds over the queues in `spool`.
    pub(crate) fn close(
        self,
        fault: &str,
        storage: &str,
        spool: impl Fn(&Lab) -> Result<PathBuf>,
    ) -> Result<()> {
        for node in ["a", "b"] {
            self.lab.run(node, "systemctl stop mailswitch.target")?;
        }
        let runs: Vec<(&str, Vec<Probe>)> =
            self.runs.iter().map(|(run, probes)| (run.as_str(), probes.clone())).collect();
        let queues: [QueueId; 2] = ["a".parse()?, "b".parse()?];
        let books = Books::close(&runs, &self.lab.sink, &spool(self.lab)?, &queues)?;
        let mut row = Row::of(fault, storage, runs.len() as u64, &books);
        row.takeover_ms = self.takeover_ms;
        row.close(&books)
    }
}
