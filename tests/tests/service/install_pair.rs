//! Two clean Debian machines become a pair by one command.

use anyhow::{Result, ensure};

use tests::lab::{Lab, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clean_machines_become_a_pair_by_one_command_and_it_can_be_run_again() -> Result<()> {
    let Some(lab) = Lab::open(3)? else { return Ok(()) };
    lab.up("a")?;
    lab.up("b")?;
    for _ in 0..2 {
        let said = lab.install_pair()?;
        ensure!(said.contains("both nodes take mail"), "{said}");
    }
    let probes = lab.load("a", "run", 50)?.finish(PATIENCE).await;
    ensure!(probes.iter().all(|probe| probe.accepted.is_some()), "not all were accepted");
    lab.delivered(50).await?;
    let kept = lab.run("b", "ls /etc/mailswitch; stat -c %a:%U /etc/mailswitch/cluster.key")?;
    ensure!(kept.contains("mailswitch.yaml.before") && kept.contains("600:mailswitch"), "{kept}");
    // The timer's service runs a drill, shut in as it is.
    lab.until("a", "systemctl show -P StatusText heartbeatd", "mail is protected", |said| said == "full")?;
    lab.start("a", "systemctl start mailswitch-drill@b")?;
    let status = lab.run("a", "switchctl status")?;
    ensure!(status.contains("last drill: today, pass"), "{status}");
    // Either takes the other's queue.
    lab.order("crash", "b")?;
    lab.until("a", "switchctl queue owner --node b -o tsv", "a has queue b", |said| {
        said.contains("b\ta\tsecondary")
    })?;
    Ok(())
}
