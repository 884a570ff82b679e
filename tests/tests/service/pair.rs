//! A pair under systemd: power lost, cut off, rebooted.

use anyhow::{Result, ensure};
use switchctl::demo::books::Books;

use tests::lab::{Lab, PATIENCE};

fn nodes(lab: &Lab) -> String {
    let (a, b) = (lab.address("a"), lab.address("b"));
    format!(
        "  key_file: cluster.key\n  takeover: {{ window: 2s, handback_hold: 1s }}\n  nodes:\n    \
         - {{ id: a, heartbeat: [ \"{a}:7100\" ] }}\n    - {{ id: b, heartbeat: [ \"{b}:7100\" ] }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_its_power_is_drained_by_a_unit_and_gets_its_queue_back_after_its_boot()
-> Result<()> {
    let Some(lab) = Lab::open(2)? else { return Ok(()) };
    let nodes = nodes(&lab);
    lab.install("a", &nodes)?;
    lab.install("b", &nodes)?;
    let protection = "systemctl show -P StatusText heartbeatd";
    lab.until("b", protection, "mail is protected", |said| said == "full")?;

    cut_off_and_back(&lab, protection)?;

    lab.put_off(true);
    let probes = lab.load("a", "run", 200)?.finish(PATIENCE).await;
    ensure!(probes.iter().all(|probe| probe.accepted.is_some()), "not all were accepted");
    let died = lab.clock.now();
    lab.order("unplug", "a")?;
    lab.order("crash", "a")?;
    let unit = "switch-takeover@a";
    let is_active = format!("systemctl is-active {unit}");
    lab.until("b", &is_active, "a unit drains queue a", |said| said == "active")?;
    eprintln!("the secondary of a was active {:?} after the power went", lab.clock.now().since(died));

    // No root was needed, and nothing hangs on heartbeatd.
    let pid = lab.run("b", &format!("systemctl show -P MainPID {unit}"))?;
    let who =
        lab.run("b", &format!("stat -c %U /proc/{pid} /proc/$(systemctl show -P MainPID heartbeatd)"))?;
    ensure!(who == "mailswitch\nmailswitch", "{who}");
    lab.run("b", "systemctl restart heartbeatd")?;
    lab.until("b", "switchctl ha why a -o json", "it is watched on", |said| said.contains("adopted"))?;
    let still = lab.run("b", &format!("systemctl show -P MainPID {unit}"))?;
    ensure!(still == pid, "the secondary was {pid}, now {still}");
    forbidden(&lab)?;
    lab.put_off(false);
    lab.delivered(200).await?;

    // The node boots, and its services with it.
    lab.order("plug", "a")?;
    lab.up("a")?;
    lab.ready("a")?;
    lab.until("b", &format!("{is_active} || true"), "the unit has ended", |said| said == "inactive")?;
    lab.until("a", protection, "mail is protected", |said| said == "full")?;
    let more = lab.load("a", "more", 50)?.finish(PATIENCE).await;
    lab.delivered(250).await?;
    rebooted(&lab, protection)?;
    for node in ["a", "b"] {
        lab.run(node, "systemctl stop mailswitch.target")?;
        let failed = lab.run(node, "systemctl --failed --no-legend")?;
        ensure!(failed.is_empty(), "node {node}: {failed}");
    }
    let queues = ["a".parse()?, "b".parse()?];
    let books = Books::close(&[("run", probes), ("more", more)], &lab.sink, &lab.spool(), &queues)?;
    ensure!(books.faults().is_empty() && books.accepted == 250, "{:?}: {books:?}", books.faults());
    Ok(())
}

/// An orderly reboot: the node leaves, comes back with all of its services, and nothing was left of it to take.
fn rebooted(lab: &Lab, protection: &str) -> Result<()> {
    lab.run("b", "systemctl --no-block reboot")?;
    // The container ends as a machine does whose firmware then starts it again.
    let deadline = lab.clock.now() + PATIENCE;
    while lab.run("b", "true").is_ok() {
        ensure!(lab.clock.now() < deadline, "it does not go down");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    lab.up("b")?;
    lab.until("b", "systemctl is-active switch@b heartbeatd", "its services are back", |said| {
        said == "active\nactive"
    })?;
    lab.ready("b")?;
    lab.until("a", protection, "mail is protected", |said| said == "full")?;
    let taken = lab.run("a", "systemctl list-units --all --no-legend 'switch-takeover@b*'")?;
    ensure!(!taken.contains(" active "), "{taken}");
    Ok(())
}

/// The network between the nodes is gone, the storage is not: nobody takes anything.
fn cut_off_and_back(lab: &Lab, protection: &str) -> Result<()> {
    lab.order("cut", "a")?;
    lab.until("b", "switchctl ha why a -o json", "the cut is seen", |said| said.contains("network_down"))?;
    let why = lab.run("b", "switchctl ha why a -o json")?;
    ensure!(!why.contains("\"take\""), "{why}");
    lab.order("heal", "a")?;
    lab.until("b", protection, "the cut is healed", |said| said == "full").map(drop)
}

/// What the polkit rule does not name, user mailswitch may not do.
fn forbidden(lab: &Lab) -> Result<()> {
    let ask = |line: &str| {
        let line = format!(
            "setpriv --reuid mailswitch --regid mailswitch --clear-groups systemctl --no-ask-password {line} 2>&1 || true"
        );
        lab.run("b", &line)
    };
    for order in [
        "stop switch@b",
        "stop dbus.service",
        "start ../x",
        "start systemd-logind.service",
        "daemon-reload",
        "poweroff",
    ] {
        let said = ask(order)?;
        ensure!(!said.is_empty(), "user mailswitch may: systemctl {order}");
    }
    let active = lab.run("b", "systemctl is-active switch@b dbus heartbeatd")?;
    ensure!(active == "active\nactive\nactive", "{active}");
    Ok(())
}
