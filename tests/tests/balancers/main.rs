//! Load balancers from Debian before two nodes, configured with what `switchctl lb snippet` prints, as it is printed.

mod front;
mod keepalived;
mod monitor;
mod nodes;
mod sessions;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::front::Front;
use crate::keepalived::Keepalived;
use crate::monitor::Monitor;
use crate::nodes::{Checks, Nodes, until};
use crate::sessions::Sessions;

/// Clients at one time.
const CLIENTS: usize = 20;

#[test]
fn haproxy_obeys_the_agent_and_a_killed_node_fails_no_session_after_its_ejection() -> Result<()> {
    let Some(haproxy) = Front::program("haproxy") else { return Ok(()) };
    let mut nodes = Nodes::start(1, Checks::HealthAndAgent)?;
    let front = Front::haproxy(&haproxy, &nodes)?;
    front.state("a", "UP")?;
    front.state("b", "UP")?;
    let sessions = Sessions::start(front.address, CLIENTS);
    sessions.succeeded(200)?;

    until("b could be relieved", || nodes.switchctl("b", &["status", "--check"]).is_ok())?;
    // Drained by an operator: balancers hear of it first, so no client does.
    nodes.switchctl("b", &["node", "drain", "--notice", "3s"])?;
    front.state("b", "DOWN")?;
    ensure!(sessions.failures().is_empty(), "a drain is not seen by clients: {:?}", sessions.failures());
    nodes.switchctl("b", &["node", "resume"])?;
    front.state("b", "UP")?;

    let killed = nodes.kill("b");
    let ejected = front.state("b", "DOWN")?;
    sessions.succeeded(800)?;
    let told = sessions.end(killed, ejected);
    println!("haproxy, SIGKILL of a node under load: {told}");
    ensure!(told.failed_after == 0, "sessions failed after the ejection: {told}");
    ensure!(told.ejected_ms <= 3_000, "{told}");
    // It is back without anybody's hand, and gets its share little by little.
    nodes.run("b")?;
    front.state("b", "UP")?;
    let share = front.stats("b", "throttle")?;
    ensure!(share.parse::<u8>().is_ok_and(|percent| percent < 100), "a slow start: '{share}'");
    nodes.delivered_in_log()
}

#[test]
fn haproxy_reads_every_word_of_the_agent() -> Result<()> {
    let Some(haproxy) = Front::program("haproxy") else { return Ok(()) };
    let nodes = Nodes::start(2, Checks::FakeAgent)?;
    let front = Front::haproxy(&haproxy, &nodes)?;
    let agent = nodes.agent()?;
    for (said, state) in [
        ("up ready 100%\n", "UP"),
        ("drain\n", "DRAIN"),
        ("up ready 100%\n", "UP"),
        ("maint\n", "MAINT"),
        ("up ready 100%\n", "UP"),
        ("down #lease stale\n", "DOWN"),
        ("up ready 100%\n", "UP"),
    ] {
        agent.say(said);
        front.state("a", state)?;
    }
    // What our agent does not say, since HAProxy makes nothing of it.
    for said in ["down#reason\n", "weight:30%\n"] {
        agent.say(said);
        agent.is_asked(2)?;
        let state = front.stats("a", "status")?;
        ensure!(state == "UP", "{said:?} makes it {state}: BALANCERS.md says otherwise");
    }
    Ok(())
}

#[test]
fn a_monitor_of_big_ip_gets_what_its_snippet_waits_for_until_a_node_drains() -> Result<()> {
    let nodes = Nodes::start(8, Checks::HealthAndAgent)?;
    let monitor = Monitor::of(&nodes.snippet("f5")?)?;
    let [a, b] = ["a", "b"].map(|node| nodes.place(node));
    for place in [a, b] {
        until("the monitor likes it", || monitor.likes(place).unwrap_or(false))?;
    }
    until("b could be relieved", || nodes.switchctl("b", &["status", "--check"]).is_ok())?;
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| nodes.switchctl("b", &["node", "drain", "--notice", "3s"]));
        until("the answer is another one", || monitor.likes(b).is_ok_and(|likes| !likes))?;
        ensure!(drain.join().is_ok_and(|drained| drained.is_ok()), "the drain failed");
        ensure!(monitor.likes(b).is_err(), "nobody answers there");
        ensure!(monitor.likes(a)?, "the other node stays");
        Ok(())
    })
}

#[test]
fn haproxy_without_health_reads_the_greeting_through_the_proxy_header() -> Result<()> {
    let Some(haproxy) = Front::program("haproxy") else { return Ok(()) };
    let mut nodes = Nodes::start(3, Checks::Greeting)?;
    let front = Front::haproxy(&haproxy, &nodes)?;
    front.state("a", "UP")?;
    front.state("b", "UP")?;
    let sessions = Sessions::start(front.address, CLIENTS);
    sessions.succeeded(100)?;
    let killed = nodes.kill("b");
    let ejected = front.state("b", "DOWN")?;
    sessions.succeeded(300)?;
    let told = sessions.end(killed, ejected);
    println!("haproxy by the greeting, SIGKILL of a node under load: {told}");
    ensure!(told.failed_after == 0, "{told}");
    // The real client is known, and the checks left no trace.
    nodes.client_is_known()
}

#[test]
fn nginx_goes_round_a_killed_node() -> Result<()> {
    let Some(nginx) = Front::program("nginx") else { return Ok(()) };
    let mut nodes = Nodes::start(4, Checks::HealthAndAgent)?;
    let Some(front) = Front::nginx(&nginx, &nodes)? else { return Ok(()) };
    let sessions = Sessions::start(front.address, CLIENTS);
    sessions.succeeded(200)?;
    let killed = nodes.kill("b");
    sessions.succeeded(600)?;
    // Connections to the dead node are refused at once, so the next one is tried: only running sessions are cut.
    let told = sessions.end(killed, killed + Duration::from_millis(100));
    println!("nginx, SIGKILL of a node under load: {told}");
    ensure!(told.failed_after == 0, "{told}");
    nodes.delivered_in_log()
}

#[test]
fn keepalived_reads_what_is_printed_for_it() -> Result<()> {
    let Some(keepalived) = Front::program("keepalived") else { return Ok(()) };
    let nodes = Nodes::laid_out(5, Checks::HealthAndAgent)?;
    let text = nodes.snippet("keepalived")?;
    Front::keepalived_reads(&keepalived, &text)
}

#[test]
fn keepalived_has_it_written_to_the_log_when_the_address_comes_and_goes() -> Result<()> {
    let Some(program) = Front::program("keepalived") else { return Ok(()) };
    let nodes = Nodes::laid_out(9, Checks::HealthAndAgent)?;
    let Some(mut keepalived) = Keepalived::start(&program, &nodes.snippet("keepalived")?)? else {
        return Ok(());
    };
    keepalived.told("MASTER")?;
    keepalived.go_on()?;
    keepalived.told("FAULT")?;
    keepalived.go_on()?;
    keepalived.told("STOP")
}

#[test]
fn the_check_of_keepalived_says_by_its_exit_code_whether_a_node_takes_mail() -> Result<()> {
    let mut nodes = Nodes::start(6, Checks::HealthAndAgent)?;
    let [health, smtp] = nodes.places("b");
    for (how, place) in [("http", &health), ("smtp", &smtp)] {
        until("it takes mail", || {
            Front::script("keepalived-check", &[how, place]).is_ok_and(|code| code == 0)
        })?;
    }
    ensure!(Front::script("keepalived-check", &["http", &smtp])? == 1, "no HTTP there");
    nodes.kill("b");
    for (how, place) in [("http", &health), ("smtp", &smtp)] {
        ensure!(Front::script("keepalived-check", &[how, place])? == 1, "{how} {place}: nobody is there");
    }
    for wrong in [&["http"][..], &["ftp", &smtp], &["http", "nowhere"]] {
        ensure!(Front::script("keepalived-check", wrong)? == 2, "{wrong:?}");
    }
    ensure!(Front::script("keepalived-notify", &["INSTANCE"])? == 2, "it needs a state");
    Ok(())
}

#[test]
fn what_a_balancer_would_see_is_told_for_every_node() -> Result<()> {
    let mut nodes = Nodes::start(7, Checks::HealthAndAgent)?;
    let mut seen = String::new();
    // heartbeatd, which is the agent, sees a switch a moment after it greets.
    until("both nodes are seen as ready", || {
        seen = nodes.switchctl("a", &["lb", "status", "-o", "tsv"]).unwrap_or_default();
        let ready = |row: &&str| row.contains("\t220 ") && row.ends_with("\t200\tup ready 100%\ttrue");
        seen.lines().count() == 3 && seen.lines().skip(1).filter(ready).count() == 2
    })
    .with_context(|| seen.clone())?;
    until("each hears the other", || {
        let matrix = nodes.switchctl("a", &["status", "--matrix", "-o", "tsv"]).unwrap_or_default();
        matrix.contains("a\tb\t1\t1\n") && matrix.contains("b\ta\t1\t1\n")
    })?;
    let doctor = nodes.switchctl("a", &["doctor", "-o", "tsv"])?;
    for wanted in [
        "switch\tok\t",
        "configurations\tok\t",
        "heartbeats\tok\tnode b is heard on 1 of 1 paths",
        "clock\tok\tnode b is ",
    ] {
        ensure!(doctor.contains(wanted), "{wanted}: {doctor}");
    }
    nodes.kill("b");
    let lacking = nodes.switchctl("a", &["lb", "status"]);
    ensure!(lacking.is_err(), "a node that is gone ends it with 3");
    Ok(())
}
