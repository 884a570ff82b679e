//! GlusterFS, replica 3 and tuned, on three containers of which two are nodes: the power of one, and its network, which is the storage's too.

use anyhow::Result;
use tests::lab::{Kind, Lab, SPOOL};

use crate::nodes::pair;
use crate::rounds::{Fault, Rounds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn on_tuned_glusterfs_a_node_that_loses_its_power_or_its_network_loses_no_mail() -> Result<()> {
    let Some(lab) = volume()? else { return Ok(()) };
    let mut rounds = Rounds::of(&lab);
    for victims in [["a", "b"], ["b", "a"]] {
        rounds.hit(Fault::PowerOff, victims, mounted).await?;
    }
    for victims in [["a", "b"], ["b", "a"]] {
        rounds.hit(Fault::Cut, victims, |_, _| Ok(())).await?;
    }
    rounds.close("power-off, network cut", "GlusterFS replica 3, tuned", |lab| lab.copy_spool("a"))
}

/// Three bricks, a volume on them, mounted on two nodes that serve.
fn volume() -> Result<Option<Lab>> {
    let Some(lab) = Lab::of(Kind::Bricks, 5)? else { return Ok(None) };
    let all = ["a", "b", "c"];
    let hosts: Vec<String> = all.iter().map(|node| format!("{} {node}", lab.address(node))).collect();
    for node in all {
        lab.up(node)?;
        lab.write(node, "/etc/hosts", &format!("127.0.0.1 localhost\n{}", hosts.join("\n")))?;
        lab.run(node, "mkdir -p /data/brick && systemctl enable --now glusterd 2>&1")?;
    }
    lab.run("a", "gluster peer probe b && gluster peer probe c")?;
    lab.until("a", "gluster peer status", "the peers are there", |said| {
        said.matches("(Connected)").count() == 2
    })?;
    lab.until(
        "a",
        "gluster --mode=script volume create mail replica 3 a:/data/brick b:/data/brick c:/data/brick force || gluster volume info mail",
        "the volume is there",
        |said| said.contains("success") || said.contains("Status: Created"),
    )?;
    for node in ["a", "b"] {
        lab.run(node, "dpkg -i /deb/*.deb 2>&1")?;
    }
    lab.run("a", "/usr/lib/mailswitch/storage/gluster tune mail")?;
    lab.run("a", "gluster volume start mail")?;
    let nodes = pair(&lab, "7s");
    for node in ["a", "b"] {
        let line = format!(
            "localhost:/mail {SPOOL} glusterfs defaults,_netdev,x-systemd.requires=glusterd.service 0 0"
        );
        lab.write(node, "/etc/fstab", &line)?;
        lab.run(node, "systemctl daemon-reload")?;
        mount(&lab, node)?;
        lab.run(node, &format!("chown mailswitch:mailswitch {SPOOL} && switchctl fscheck {SPOOL}"))?;
        lab.serve(node, &nodes)?;
    }
    Ok(Some(lab))
}

fn mount(lab: &Lab, node: &str) -> Result<()> {
    let hook = format!("/usr/lib/mailswitch/storage/gluster --source localhost:/mail state {node} {SPOOL}");
    let line = format!("systemctl start var-spool-mailswitch.mount && {hook}");
    lab.until(node, &line, "the volume is mounted", |said| said.contains("\"data\":\"current\"")).map(drop)
}

/// A node that boots finds its volume when its bricks and the others' are there.
fn mounted(lab: &Lab, node: &str) -> Result<()> {
    mount(lab, node)?;
    lab.start(node, &format!("systemctl start mailswitch.target switch@{node} heartbeatd")).map(drop)
}
