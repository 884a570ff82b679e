//! The resource agent for Pacemaker, tried by the tester of `ClusterLabs` with a real switch.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

#[test]
fn the_resource_agent_passes_ocf_tester() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return Ok(());
    }
    for tool in ["/usr/sbin/ocf-tester", "/usr/bin/xmllint"] {
        if !Path::new(tool).is_file() {
            eprintln!("skipped: needs {tool} (tests/install-needs.sh installs it)");
            return Ok(());
        }
    }
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("mailswitch.yaml");
    std::fs::write(
        &config,
        "cluster: { id: demo }\nnode: { id: a, state_dir: state }\nqueue: { dir: spool }\n\
         listeners: [ { address: 127.0.0.1:0 } ]\nroutes: [ { match: \"*\", next_hop: discard } ]\n",
    )?;
    let programs = tests::programs::build()?;
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-scripts/ocf/mailswitch").canonicalize()?;
    let name = format!("mailswitch-{}", std::process::id());
    let mut tester = Command::new("/usr/sbin/ocf-tester");
    tester.args(["-n", &name, "-o", "user=root"]);
    for (key, path) in
        [("config", config), ("program", programs.join("switch")), ("control", programs.join("switchctl"))]
    {
        tester.arg("-o").arg(format!("{key}={}", path.display()));
    }
    let output = tester.arg(agent).env("OCF_ROOT", "/usr/lib/ocf").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("passed all tests"), "{said}");
    Ok(())
}
