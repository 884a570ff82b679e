//! Takeover and hand-back through the real programs. Each test asks the books, kept by client and sink, and the records of
//! the decisions.

mod chaos;
mod stage;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cluster::observe::LeaseView;
use mail_model::{LeaseState, Role};
use rig::Probe;
use stage::{PATIENCE, Stage};
use switchctl::demo::books::is_of;
use switchctl::demo::site::Site;
use tokio::time::Instant;

/// The protocol's worst case from death to work, rank 1, defaults.
const TAKEOVER_MS_MAX: u64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_a_killed_node_is_delivered_by_the_survivor_and_the_node_gets_its_queue_back() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(1_500).await?;
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;

    let killed = stage.scene.clock.now();
    stage.scene.kill(1).await?;
    let leases = &stage.scene.leases;
    let drains =
        |lease: &LeaseView| lease.working && lease.role == Role::Secondary && lease.epoch == before.next();
    let taken = leases.wait_for(&queue, "the survivor drains", PATIENCE, drains).await?;
    let took = stage.scene.clock.now().since(killed);
    ensure!(took.as_millis() < u128::from(TAKEOVER_MS_MAX), "the takeover took {took:?}");
    ensure!(taken.owner == stage.scene.site.node(0)?.id, "{taken:?}");
    stage.scene.wait_for_decision(0, &queue, ("take", "stale_window"), PATIENCE).await?;

    stage.scene.put_off(false);
    leases.wait_for(&queue, "the queue is drained", PATIENCE, |lease| lease.queued == 0).await?;
    stage.scene.start_node(1).await?;
    let home = |lease: &LeaseView| lease.working && lease.role == Role::Primary && lease.epoch > taken.epoch;
    stage.scene.leases.wait_for(&queue, "the node has its queue back", PATIENCE, home).await?;
    stage.scene.wait_for_decision(0, &queue, ("handback", "home_stayed"), PATIENCE).await?;
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_does_nothing_more_under_its_old_epoch() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(1_000).await?;
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;

    stage.scene.freeze(1)?;
    stage.scene.put_off(false);
    let drained = |lease: &LeaseView| lease.epoch > before && lease.working && lease.queued == 0;
    stage.scene.leases.wait_for(&queue, "the survivor drained", PATIENCE, drained).await?;
    let thawed = stage.scene.clock.now();
    stage.scene.thaw(1)?;
    let code = stage.scene.restart_switch(1).await?;
    ensure!(code == Some(75), "a fenced switch ends with 75, this one with {code:?}");
    let home =
        |lease: &LeaseView| lease.working && lease.role == Role::Primary && lease.epoch > before.next();
    stage.scene.leases.wait_for(&queue, "the node has its queue back", PATIENCE, home).await?;

    let by_zombie = stage.scene.sink.inspect(|deliveries| {
        deliveries.iter().filter(|d| d.at >= thawed && is_of(d.id.as_deref(), &queue, before)).count()
    });
    let (books, probes) = stage.close(load).await?;
    ensure!(by_zombie as u64 <= books.in_doubt, "{by_zombie} deliveries by the zombie");
    let promised = |probe: &&Probe| {
        probe.accepted.as_ref().is_some_and(|a| a.at >= thawed && is_of(a.id(), &queue, before))
    };
    ensure!(probes.iter().filter(promised).count() == 0, "the zombie said 250");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_hands_its_mail_over_and_comes_back_on_order() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(800).await?;
    let (queue, id) = (stage.scene.queue(1)?, stage.scene.site.node(1)?.id.clone());
    let before = stage.epoch(&queue)?;
    let ready = stage.scene.site.switchctl(0, &["ha", "readiness", id.as_str(), "-o", "json"])?;
    let ready: serde_json::Value = serde_json::from_str(&ready)?;
    ensure!(ready["ready"] == true && ready["messages"].as_u64() >= Some(20), "{ready}");
    ensure!(ready["predicted_ms"].as_u64() < Some(TAKEOVER_MS_MAX), "{ready}");

    let tried = stage.scene.site.switchctl(0, &["ha", "takeover", id.as_str(), "--rehearse"])?;
    ensure!(tried.contains("nothing was taken") && stage.epoch(&queue)? == before, "{tried}");
    stage.scene.site.switchctl(1, &["queue", "hold", "node:b", "--reason", "a test", "--yes"])?;
    let set_aside = held(&stage.scene.site, 1)?;

    let said = stage.scene.site.switchctl(1, &["node", "drain", "--notice", "1s"])?;
    ensure!(said.contains("has released its queue"), "{said}");
    let taken = |lease: &LeaseView| lease.epoch > before && lease.working && lease.role == Role::Secondary;
    stage.scene.leases.wait_for(&queue, "a peer takes what is left", PATIENCE, taken).await?;
    ensure!(held(&stage.scene.site, 0)? == set_aside, "holds, schedule or counts are others at the peer");
    stage.scene.put_off(false);
    stage.scene.site.switchctl(0, &["queue", "release", "node:b", "--reason", "a test", "--yes"])?;
    stage.scene.leases.wait_for(&queue, "the queue is drained", PATIENCE, |lease| lease.queued == 0).await?;
    // It waits for its queue and is ready when it has it.
    let said = stage.scene.site.switchctl(1, &["node", "resume"])?;
    ensure!(said.contains("ready"), "{said}");
    stage.scene.left_to_heartbeatd(1);
    let lease = stage.scene.leases.of(&queue)?;
    ensure!(lease.owner == id && lease.role == Role::Primary, "{lease:?}");
    stage.close(load).await?;
    Ok(())
}

/// The held messages of node b's queue as node `index` lists them, with what was tried and when they are due.
fn held(site: &Site, index: usize) -> Result<BTreeSet<String>> {
    let listed = site.switchctl(index, &["queue", "list", "node:b", "state:held", "-o", "json"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let items = listed.get("items").and_then(serde_json::Value::as_array).context("items")?;
    ensure!(items.iter().any(|item| item["attempts"].as_u64() > Some(0)), "none was tried: {listed}");
    Ok(items.iter().map(ToString::to_string).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_holds_stays_held_over_a_takeover_and_the_hand_back() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(600).await?;
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;
    stage.scene.site.switchctl(1, &["queue", "hold", "node:b", "--reason", "a test", "--yes"])?;
    let set_aside = held(&stage.scene.site, 1)?;
    ensure!(set_aside.len() >= 20, "{} are held", set_aside.len());

    stage.scene.kill(1).await?;
    let drains = |lease: &LeaseView| lease.working && lease.role == Role::Secondary && lease.epoch > before;
    stage.scene.leases.wait_for(&queue, "the survivor drains", PATIENCE, drains).await?;
    stage.scene.put_off(false);
    let rest = set_aside.len() as u64;
    let drained = |lease: &LeaseView| drains(lease) && lease.queued == rest;
    stage.scene.leases.wait_for(&queue, "only what is held is left", PATIENCE, drained).await?;
    ensure!(held(&stage.scene.site, 0)? == set_aside, "the survivor holds others than were held");

    stage.scene.start_node(1).await?;
    let home = |lease: &LeaseView| lease.working && lease.role == Role::Primary && lease.epoch > before;
    stage.scene.leases.wait_for(&queue, "the node has its queue back", PATIENCE, home).await?;
    ensure!(held(&stage.scene.site, 1)? == set_aside, "the node got back others than were held");
    stage.scene.site.switchctl(1, &["queue", "release", "state:held", "--reason", "a test", "--yes"])?;
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_drained_who_has_no_successor_and_a_takeover_that_would_fail_is_red() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    stage.scene.kill(1).await?;
    let taken = |lease: &LeaseView| lease.working && lease.role == Role::Secondary;
    let queue = stage.scene.queue(1)?;
    stage.scene.leases.wait_for(&queue, "the survivor drains", PATIENCE, taken).await?;
    let said = |arguments: &[&str]| match stage.scene.site.switchctl(0, arguments) {
        Ok(said) => said,
        Err(error) => error.to_string(),
    };
    let refused = said(&["node", "drain"]);
    ensure!(refused.contains("exit status: 4") && refused.contains("--force"), "{refused}");
    let red = said(&["ha", "readiness", "a"]);
    ensure!(red.contains("exit status: 1"), "{red}");
    stage.scene.start_node(1).await?;
    stage.scene.all_ready().await?;
    let load = stage.load(50);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_heartbeats_but_with_a_fresh_lease_nobody_takes_anything() -> Result<()> {
    let stage = Stage::open(2).await?;
    let load = stage.load(800);
    let (a, b) = (stage.scene.queue(0)?, stage.scene.queue(1)?);
    let before = (stage.epoch(&a)?, stage.epoch(&b)?);
    stage.scene.links.set_cut(1, true);
    stage.scene.wait_for_decision(0, &b, ("alarm", "network_down"), PATIENCE).await?;
    stage.scene.wait_for_decision(1, &a, ("alarm", "network_down"), PATIENCE).await?;
    // Three windows of silence.
    let seq = stage.scene.leases.of(&b)?.seq;
    stage.scene.leases.wait_for(&b, "it renews on", PATIENCE, |lease| lease.seq >= seq + 20).await?;
    stage.scene.links.set_cut(1, false);
    for (index, queue) in [(0, &b), (1, &a)] {
        let decisions = stage.scene.decisions(index, queue).await?;
        let takes =
            decisions.iter().filter(|d| switchctl::demo::scene::verdict_of(d) == Some("take")).count();
        ensure!(takes == 0, "{decisions:?}");
    }
    ensure!((stage.epoch(&a)?, stage.epoch(&b)?) == before, "an epoch changed");
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_nodes_drains_the_queues_of_both_others() -> Result<()> {
    let mut stage = Stage::open(3).await?;
    let load = stage.fill(1_500).await?;
    let queues = [stage.scene.queue(1)?, stage.scene.queue(2)?];
    stage.scene.kill(1).await?;
    stage.scene.kill(2).await?;
    let survivor = stage.scene.site.node(0)?.id.clone();
    let taken = |lease: &LeaseView| lease.working && lease.owner == survivor;
    for queue in &queues {
        stage.scene.leases.wait_for(queue, "the survivor drains", PATIENCE, taken).await?;
        stage.scene.wait_for_decision(0, queue, ("take", "stale_window"), PATIENCE).await?;
    }
    stage.scene.put_off(false);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queues_of_two_dead_nodes_are_split_over_the_survivors() -> Result<()> {
    let mut stage = Stage::open(4).await?;
    let load = stage.fill(1_500).await?;
    // Each is taken by the node that follows it.
    let queues = [(stage.scene.queue(1)?, 2), (stage.scene.queue(3)?, 0)];
    stage.scene.kill(1).await?;
    stage.scene.kill(3).await?;
    for (queue, survivor) in &queues {
        let survivor = stage.scene.site.node(*survivor)?.id.clone();
        let drains = |lease: &LeaseView| lease.working && lease.owner == survivor;
        stage.scene.leases.wait_for(queue, "its own survivor drains", PATIENCE, drains).await?;
    }
    stage.scene.put_off(false);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_takeover_of_a_healthy_owner_under_load_loses_nothing() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.load(1_500);
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;
    let mail_flows = |lease: &LeaseView| lease.seq > 3;
    stage.scene.leases.wait_for(&queue, "the owner works", PATIENCE, mail_flows).await?;
    stage.scene.site.switchctl(0, &["ha", "takeover", "b", "--reason", "a test"])?;
    let taken = |lease: &LeaseView| lease.working && lease.epoch == before.next();
    stage.scene.leases.wait_for(&queue, "the queue is taken", PATIENCE, taken).await?;
    stage.scene.wait_for_decision(0, &queue, ("take", "operator"), PATIENCE).await?;
    let code = stage.scene.restart_switch(1).await?;
    ensure!(code == Some(75), "a fenced switch ends with 75, this one with {code:?}");
    let home =
        |lease: &LeaseView| lease.working && lease.role == Role::Primary && lease.epoch > before.next();
    stage.scene.leases.wait_for(&queue, "the node has its queue back", PATIENCE, home).await?;
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_leaves_behind_when_it_is_stopped_is_taken_at_once() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(600).await?;
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;
    let codes = stage.scene.stop_node(1).await?;
    ensure!(codes == [Some(0); 2], "heartbeatd and switch ended with {codes:?}");
    let released = |lease: &LeaseView| lease.epoch > before || lease.state == Some(LeaseState::Released);
    stage.scene.leases.wait_for(&queue, "a stopped switch releases its queue", PATIENCE, released).await?;
    let taken = |lease: &LeaseView| lease.working && lease.epoch == before.next();
    stage.scene.leases.wait_for(&queue, "the queue is taken", PATIENCE, taken).await?;
    stage.scene.wait_for_decision(0, &queue, ("take", "released"), PATIENCE).await?;
    stage.scene.put_off(false);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_paused_a_dead_nodes_queue_is_left_alone() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    stage.scene.site.switchctl(0, &["ha", "pause", "--for", "10m", "--reason", "maintenance"])?;
    // Whoever looks, from wherever, is told that it holds and until when.
    for index in [0, 1] {
        let status = stage.scene.site.switchctl(index, &["status"])?;
        ensure!(status.contains("takeover by node a is paused until "), "{status}");
    }
    let load = stage.fill(600).await?;
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;
    stage.scene.kill(1).await?;
    stage.scene.wait_for_decision(0, &queue, ("not_taken", "paused"), PATIENCE).await?;
    ensure!(stage.epoch(&queue)? == before, "it was taken in spite of the pause");
    let resumed = Instant::now();
    stage.scene.site.switchctl(0, &["ha", "resume"])?;
    let taken = |lease: &LeaseView| lease.working && lease.epoch == before.next();
    stage.scene.leases.wait_for(&queue, "the queue is taken", PATIENCE, taken).await?;
    ensure!(
        resumed.elapsed().as_millis() < u128::from(TAKEOVER_MS_MAX),
        "after the pause it took {:?}",
        resumed.elapsed()
    );
    stage.scene.put_off(false);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_crashes_is_started_again_at_home_and_nobody_takes_its_queue() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(1_000).await?;
    let queue = stage.scene.queue(1)?;
    let before = stage.epoch(&queue)?;
    stage.scene.crash_switch(1).await?;
    let home = |lease: &LeaseView| lease.working && lease.epoch > before;
    let lease = stage.scene.leases.wait_for(&queue, "somebody works on the queue", PATIENCE, home).await?;
    ensure!(lease.role == Role::Primary && lease.epoch == before.next(), "{lease:?}");
    stage.scene.wait_for_decision(1, &queue, ("restart", "primary_ended"), PATIENCE).await?;
    stage.scene.put_off(false);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_survivor_dies_while_it_drains_the_next_one_takes_both_queues() -> Result<()> {
    let mut stage = Stage::open(3).await?;
    let load = stage.fill(1_500).await?;
    let (a, c) = (stage.scene.queue(0)?, stage.scene.queue(2)?);
    stage.scene.kill(2).await?;
    let first = stage.scene.site.node(0)?.id.clone();
    let drains = |lease: &LeaseView| lease.working && lease.owner == first;
    stage.scene.leases.wait_for(&c, "the first survivor drains", PATIENCE, drains).await?;
    stage.scene.kill(0).await?;
    let second = stage.scene.site.node(1)?.id.clone();
    let drains = |lease: &LeaseView| lease.working && lease.owner == second;
    for queue in [&a, &c] {
        stage.scene.leases.wait_for(queue, "the second survivor drains", PATIENCE, drains).await?;
    }
    stage.scene.put_off(false);
    stage.close(load).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_node_loses_power_at_once_each_takes_its_own_queue_up_again() -> Result<()> {
    let mut stage = Stage::open(2).await?;
    let load = stage.fill(1_000).await?;
    stage.scene.kill(0).await?;
    stage.scene.kill(1).await?;
    stage.scene.start_node(0).await?;
    stage.scene.start_node(1).await?;
    stage.scene.put_off(false);
    for index in [0, 1] {
        let queue = stage.scene.queue(index)?;
        let home = |lease: &LeaseView| lease.working && lease.role == Role::Primary && lease.epoch.0 > 1;
        stage.scene.leases.wait_for(&queue, "it works at home", PATIENCE, home).await?;
    }
    stage.close(load).await?;
    Ok(())
}
