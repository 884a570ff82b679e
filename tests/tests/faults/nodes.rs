//! The power of a container with a real systemd, on a disk that both nodes have.

use anyhow::Result;
use tests::lab::Lab;

use crate::rounds::{Fault, Rounds};

/// The part of the configuration that all nodes share.
pub(crate) fn pair(lab: &Lab, window: &str) -> String {
    let (a, b) = (lab.address("a"), lab.address("b"));
    format!(
        "  key_file: cluster.key\n  takeover: {{ window: {window}, handback_hold: 1s }}\n  nodes:\n    \
         - {{ id: a, heartbeat: [ \"{a}:7100\" ] }}\n    - {{ id: b, heartbeat: [ \"{b}:7100\" ] }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn nodes_that_lose_their_power_while_they_acknowledge_lose_no_mail() -> Result<()> {
    let Some(lab) = Lab::open(4)? else { return Ok(()) };
    let nodes = pair(&lab, "2s");
    for node in ["a", "b"] {
        lab.install(node, &nodes)?;
    }
    let mut rounds = Rounds::of(&lab);
    for victims in [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]] {
        rounds.hit(Fault::PowerOff, victims, |_, _| Ok(())).await?;
    }
    rounds.close("power-off", "one disk, two systemd nodes", |lab| Ok(lab.spool()))
}
