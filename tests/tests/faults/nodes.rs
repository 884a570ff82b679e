//! The power of a container with a real systemd, on a disk that both nodes have.

use anyhow::Result;
use tests::lab::Lab;

use crate::rounds::Rounds;

/// The part of the configuration that all nodes share.
fn pair(lab: &Lab) -> String {
    let (a, b) = (lab.address("a"), lab.address("b"));
    format!(
        "  key_file: cluster.key\n  takeover: {{ window: 2s, handback_hold: 1s }}\n  nodes:\n    \
         - {{ id: a, heartbeat: [ \"{a}:7100\" ] }}\n    - {{ id: b, heartbeat: [ \"{b}:7100\" ] }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn nodes_that_lose_their_power_while_they_acknowledge_lose_no_mail() -> Result<()> {
    let Some(lab) = Lab::open(4)? else { return Ok(()) };
    let nodes = pair(&lab);
    for node in ["a", "b"] {
        lab.install(node, &nodes)?;
    }
    let mut rounds = Rounds::of(&lab);
    for victims in [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]] {
        rounds.power_off(victims).await?;
    }
    rounds.close("power-off", "one disk, two systemd nodes", |lab| Ok(lab.spool()))
}
