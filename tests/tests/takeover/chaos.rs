//! Three nodes, mail, and one fault after another in an order that follows from a seed. Whatever happens, the books close.
//!
//! `CHAOS_SEED=N` replays an order; the moments are the machine's.

use std::time::Duration;

use anyhow::{Context, Result};
use cluster::observe::LeaseView;
use mail_model::Role;
use tokio::time::sleep;

use crate::stage::{PATIENCE, Stage};

const NODES: usize = 3;
const FAULTS: usize = 12;

/// What a node is, as far as this test made it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Up,
    Down,
    Frozen,
}

/// A small generator: every order of faults has a number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_in_whatever_order_nothing_is_lost() -> Result<()> {
    let seed = match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().context("CHAOS_SEED is a number")?,
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!("CHAOS_SEED={seed}");
    let mut dice = Dice(seed);
    let mut stage = Stage::open(NODES).await?;
    let load = stage.load(3_000);
    let mut nodes = [Node::Up; NODES];
    for _ in 0..FAULTS {
        // Not a wait for anything: faults come at whatever moment.
        sleep(Duration::from_millis(200 + dice.below(2_500) as u64)).await;
        let index = dice.below(NODES);
        let others = (0..NODES).filter(|other| *other != index && nodes[*other] == Node::Up).count();
        let choice = dice.below(5);
        eprintln!("node {index} ({:?}), choice {choice}", nodes[index]);
        match (nodes[index], choice) {
            (Node::Down, _) => {
                stage.scene.start_node(index).await?;
                nodes[index] = Node::Up;
            }
            (Node::Frozen, _) => {
                stage.scene.thaw(index)?;
                nodes[index] = Node::Up;
            }
            (Node::Up, 0) if others > 0 => {
                stage.scene.kill(index).await?;
                nodes[index] = Node::Down;
            }
            (Node::Up, 1) if others > 0 => {
                stage.scene.freeze(index)?;
                nodes[index] = Node::Frozen;
            }
            (Node::Up, 2) => stage.scene.links.set_cut(index, dice.below(3) > 0),
            (Node::Up, 3) => stage.scene.put_off(dice.below(2) == 0),
            (Node::Up, _) => {
                let target = stage.scene.site.node((index + 1) % NODES)?.id.to_string();
                // It may own that queue already, or be in the middle of something.
                if let Err(refused) = stage.scene.site.switchctl(index, &["ha", "takeover", &target]) {
                    eprintln!("{refused:#}");
                }
            }
        }
    }
    stage.scene.put_off(false);
    for (index, node) in nodes.into_iter().enumerate() {
        stage.scene.links.set_cut(index, false);
        match node {
            Node::Up => {}
            Node::Down => stage.scene.start_node(index).await?,
            Node::Frozen => stage.scene.thaw(index)?,
        }
    }
    // After many failovers a queue stays where it is until an operator hands it back.
    for index in 0..NODES {
        let queue = stage.scene.queue(index)?;
        let works = |lease: &LeaseView| lease.working && lease.queued == 0;
        let lease = stage.scene.leases.wait_for(&queue, "it is drained somewhere", PATIENCE, works).await?;
        if lease.role == Role::Secondary {
            let owner = stage.scene.index_of(&lease.owner)?;
            if let Err(refused) = stage.scene.site.switchctl(owner, &["ha", "handback", queue.as_str()]) {
                eprintln!("{refused:#}");
            }
        }
    }
    stage.close_after_chaos(load).await?;
    Ok(())
}
