//! A site of real processes for one test: built, ready, and closed with its books.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_model::{Epoch, QueueId};
use rig::{LoadRun, Probe};
use switchctl::demo::books::Books;
use switchctl::demo::scene::{Scene, ScenePlan};
use switchctl::demo::site::NodePlan;
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running site. Its folder stays if the test does not come to its end.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    dir: TempDir,
    ended: bool,
}

impl Stage {
    /// Starts `nodes` nodes and waits until all are ready. A returning node waits for its queue for a second only.
    pub(crate) async fn open(nodes: usize) -> Result<Self> {
        let dir = TempDir::with_prefix("mailswitch-takeover-")?;
        let plan = ScenePlan {
            dir: dir.path().to_owned(),
            nodes,
            programs: tests::programs::build()?,
            takeover: "window: 2s, handback_hold: 1s".to_owned(),
        };
        let mut scene = Scene::start(plan).await?;
        scene.all_ready().await?;
        Ok(Self { scene, dir, ended: false })
    }

    /// Traffic of `total` messages through the balancer.
    pub(crate) fn load(&self, total: u64) -> LoadRun {
        self.scene.load("run", 200, total, 1).start(Arc::clone(&self.scene.clock))
    }

    /// Traffic that is put off at the far end, until every queue holds some of it.
    pub(crate) async fn fill(&self, total: u64) -> Result<LoadRun> {
        self.scene.put_off(true);
        let load = self.load(total);
        for node in &self.scene.site.nodes {
            self.scene
                .leases
                .wait_for(&node.queue(), "mail waits", PATIENCE, |lease| lease.queued >= 20)
                .await?;
        }
        Ok(load)
    }

    /// Waits for the last 250, then for the last delivery; stops everything and closes the books, which must be whole.
    /// Every program must end well, and none may have logged an ERROR.
    pub(crate) async fn close(mut self, load: LoadRun) -> Result<(Books, Vec<Probe>)> {
        let probes = self.run_out(load).await?;
        self.scene.stop().await?;
        let books = self.books(&probes)?;
        let errors = self.scene.site.errors()?;
        ensure!(errors.is_empty(), "a clean run logs no ERROR:\n{}", errors.join("\n"));
        self.ended = true;
        Ok((books, probes))
    }

    /// The same after so many faults that programs may have ended by themselves.
    pub(crate) async fn close_after_chaos(mut self, load: LoadRun) -> Result<()> {
        let probes = self.run_out(load).await?;
        for index in 0..self.scene.site.nodes.len() {
            self.scene.stop_node(index).await?;
        }
        self.books(&probes)?;
        self.ended = true;
        Ok(())
    }

    async fn run_out(&self, load: LoadRun) -> Result<Vec<Probe>> {
        let probes = load.finish(PATIENCE).await;
        let accepted = probes.iter().filter(|probe| probe.accepted.is_some()).count();
        ensure!(accepted == probes.len(), "{accepted} of {} messages got a 250", probes.len());
        self.scene.run_empty(accepted as u64, PATIENCE).await?;
        Ok(probes)
    }

    fn books(&self, probes: &[Probe]) -> Result<Books> {
        let queues: Vec<QueueId> = self.scene.site.nodes.iter().map(NodePlan::queue).collect();
        let spool = self.scene.site.spool();
        let books = Books::close(&[("run", probes.to_vec())], &self.scene.sink, &spool, &queues)?;
        let faults = books.faults();
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        ensure!(books.accepted == books.delivered, "{books:?}");
        Ok(books)
    }

    /// The epoch of a queue now.
    pub(crate) fn epoch(&self, queue: &QueueId) -> Result<Epoch> {
        Ok(self.scene.leases.of(queue)?.epoch)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.ended {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir.path().display());
        }
    }
}
