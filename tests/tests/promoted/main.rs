//! Promoted storage with real programs: a device with two copies, an arbiter, and every 250 delivered whatever happens.

#![cfg(test)]

mod site;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::device::Word;
use control::heartbeatd::{QueueStatus, Request};
use nix::sys::signal::Signal;
use rig::LoadRun;

use site::{Keeper, PATIENCE, Site};

const AT_HOME: &str = "mounted here; owner a by term 1; current copies: a, b";
const AT_B: &str = "mounted here; owner b by term 2; current copies: b";

async fn witnessed() -> Result<Site> {
    Site::start(Keeper::Witness).await?.context("a witness is always there")
}

fn is_held(queue: &QueueStatus) -> bool {
    queue.state == "HOLDING"
}

/// All of a load that ends by itself, with a 250 and delivered.
async fn whole(site: &Site, load: LoadRun) -> Result<()> {
    let probes = load.finish(PATIENCE).await;
    ensure!(probes.iter().all(|probe| probe.accepted.is_some()), "not everything has a 250");
    site.balanced(&probes).await
}

/// The owner loses its power under load; the survivor takes its device, and gives it back when the node is there again.
async fn lives_without_a(mut site: Site) -> Result<()> {
    let load = site.load(400);
    site.until_accepted(&load, 100).await?;
    site.power_off("a")?;
    site.until_device("b", "a", AT_B).await?;
    site.until("b", "a", "is held", is_held).await?;
    site.start_node("a")?;
    let home = "mounted here; owner a by term 3; current copies: a, b";
    site.until_device("a", "a", home).await?;
    whole(&site, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_owners_device_is_promoted_elsewhere_and_goes_home_with_it() -> Result<()> {
    lives_without_a(witnessed().await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_decides_as_a_witness_does() -> Result<()> {
    match Site::start(Keeper::Etcd).await? {
        Some(site) => lives_without_a(site).await,
        None => Ok(()),
    }
}

/// The owner stands still; meanwhile the copies are cut from each other, and the queue is taken with the one that has what was
/// written until then. The device holds nothing up: what keeps the owner from an acknowledgement is that it asks the register.
async fn stands_still(after: u64, at_once: bool) -> Result<()> {
    let mut site = witnessed().await?;
    let load = site.load(100_000);
    site.until_accepted(&load, after).await?;
    site.signal("switch a", Signal::SIGSTOP)?;
    site.cut("a", "behind/")?;
    if at_once {
        // It wakes up well within its own limit, so its lease is no obstacle, and the register has just been changed.
        site.order_takeover("b", "a").await?;
        let swapped = |queue: &QueueStatus| queue.device.contains("owner b by term 2");
        site.until("b", "a", "is b's by the register", swapped).await?;
    } else {
        site.until_device("b", "a", AT_B).await?;
        site.until("b", "a", "is held", is_held).await?;
    }
    site.signal("switch a", Signal::SIGCONT)?;
    ensure!(site.ended("switch a").await? == Some(75), "it ended in another way");
    load.stop();
    let probes = load.finish(Duration::from_secs(1)).await;
    site.until_device("b", "a", AT_B).await?;
    site.until("a", "a", "is let go", |queue| queue.device.starts_with("not mounted here")).await?;
    site.balanced(&probes).await
}

/// `PROMOTED_ROUNDS` plays it so often, each time at another point.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_stood_still_acknowledges_nothing_once_the_register_is_anothers() -> Result<()> {
    let rounds = std::env::var("PROMOTED_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    for round in 0..rounds {
        stands_still(100 + round * 17, false).await?;
        stands_still(100 + round * 17, true).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_stands_still_with_its_device_primary_is_put_off_first() -> Result<()> {
    let mut site = witnessed().await?;
    let load = site.load(100_000);
    site.until_accepted(&load, 100).await?;
    for what in ["switch a", "heartbeatd a"] {
        site.signal(what, Signal::SIGSTOP)?;
    }
    // Its device is connected, so its node lives, and nobody takes its queue for its silence.
    site.until("b", "a", "is watched", |queue| queue.state == "WATCHING").await?;
    site.order_takeover("b", "a").await?;
    site.until_device("b", "a", AT_B).await?;
    site.until("b", "a", "is held", is_held).await?;
    for what in ["switch a", "heartbeatd a"] {
        ensure!(site.ended(what).await?.is_none(), "{what} was not killed");
    }
    load.stop();
    site.balanced(&load.finish(Duration::from_secs(1)).await).await
}

/// An order to take a healthy owner's queue puts nobody off: the old owner lets go in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_owner_lets_go_of_its_device_and_gets_it_back() -> Result<()> {
    let site = witnessed().await?;
    let load = site.load(500);
    site.until_accepted(&load, 100).await?;
    site.order_takeover("b", "a").await?;
    site.until_device("b", "a", "mounted here; owner b by term 2; current copies: a, b").await?;
    site.until_device("a", "a", "mounted here; owner a by term 3; current copies: a, b").await?;
    ensure!(!site.path("off-a").exists(), "a healthy node was put off");
    whole(&site, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_node_takes_its_device_back_from_a_survivor_that_died() -> Result<()> {
    let mut site = witnessed().await?;
    let load = site.load(600);
    site.until_accepted(&load, 100).await?;
    site.power_off("a")?;
    site.until_device("b", "a", AT_B).await?;
    // So that it does not go home before b dies.
    site.order("b", Request::Pause { for_ms: 3_600_000, reason: "test".to_owned() }).await?;
    site.start_node("a")?;
    site.until_device("b", "a", "mounted here; owner b by term 2; current copies: a, b").await?;
    site.power_off("b")?;
    site.until_device("a", "a", "mounted here; owner a by term 3; current copies: a").await?;
    site.until_device("a", "b", "mounted here; owner a by term 2; current copies: a").await?;
    whole(&site, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_arbiter_an_owner_accepts_nothing_and_goes_on_when_it_is_back() -> Result<()> {
    let mut site = witnessed().await?;
    let load = site.load(600);
    site.until_accepted(&load, 100).await?;
    site.signal("heartbeatd w", Signal::SIGKILL)?;
    site.ended("heartbeatd w").await?;
    let before = load.tally().accepted;
    let unknown = |queue: &QueueStatus| queue.device_fault == Some(Word::Unknown);
    for node in ["a", "b"] {
        site.until(node, "a", "has no arbiter", unknown).await?;
    }
    // Longer than the window: nobody is taken over for a silence that the arbiter made.
    tokio::time::sleep(Duration::from_secs(4)).await;
    // What was proved before may still be answered.
    let after = load.tally().accepted;
    ensure!(after <= before + 20, "{before} before, {after} after");
    site.run("w", "heartbeatd")?;
    site.until_device("a", "a", AT_HOME).await?;
    whole(&site, load).await?;
    ensure!(site.seen("a", "a").await.is_some_and(|queue| queue.device == AT_HOME), "it was taken over");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_copies_that_are_cut_from_each_other_the_owners_alone_goes_on() -> Result<()> {
    let mut site = witnessed().await?;
    let load = site.load(600);
    site.until_accepted(&load, 100).await?;
    site.cut("a", "behind/")?;
    ensure!(!site.copy_alone("b", "a")?, "granted to who does not own");
    ensure!(site.copy_alone("a", "a")?, "not granted to the owner");
    let alone = "owner a by term 1; current copies: a";
    site.until_device("a", "a", &format!("mounted here; {alone}")).await?;
    site.until_device("b", "a", &format!("not mounted here; {alone}")).await?;
    ensure!(site.order_takeover("b", "a").await.is_err(), "taken with a copy that is behind");
    site.power_off("a")?;
    site.until("b", "a", "is not to be had", |queue| queue.state == "INELIGIBLE").await?;
    ensure!(!site.is_primary("b", "a"), "the copy that is behind was promoted");
    // They meet again: what was behind is filled.
    std::fs::remove_dir_all(site.path("behind/a"))?;
    std::fs::remove_file(site.path("cut"))?;
    site.start_node("a")?;
    site.until_device("a", "a", AT_HOME).await?;
    whole(&site, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sides_that_are_primary_and_mounted_the_one_without_the_register_lets_go() -> Result<()> {
    let site = witnessed().await?;
    let load = site.load(400);
    site.until_accepted(&load, 100).await?;
    site.cut("a", "spool-b/")?;
    site.play("primary/b-a")?;
    site.play("split")?;
    let split = |queue: &QueueStatus| queue.device.contains("split brain");
    for node in ["a", "b"] {
        site.until(node, "a", "is split", split).await?;
    }
    site.until("b", "a", "is let go", |_| !site.is_primary("b", "a")).await?;
    ensure!(site.path("parted/a").is_dir(), "the parted copy is not kept");
    ensure!(site.order_takeover("b", "a").await.is_err(), "taken with a copy that has parted");
    for node in ["a", "b"] {
        let told = || site.log("heartbeatd", node);
        site.until(node, "a", "is told of", |_| {
            let log = told();
            let alert = log.lines().any(|line| line.contains("alert.told") && line.contains("split:a"));
            alert && log.lines().any(|line| line.contains("takeover.alarm") && line.contains("split brain"))
        })
        .await?;
    }
    whole(&site, load).await?;
    ensure!(site.is_primary("a", "a"), "the owner let go");
    Ok(())
}
