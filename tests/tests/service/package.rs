//! What is in the package, and its life on one clean Debian node.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use tests::lab::{Lab, PATIENCE};

#[test]
fn every_program_and_command_has_a_page_in_the_package_and_units_name_pages_that_are_there() -> Result<()> {
    for tool in ["dpkg-deb", "strip"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("skipped: needs {tool}");
            return Ok(());
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = tempfile::tempdir()?;
    let mut build = Command::new(root.join("ha-scripts/deb/build.sh"));
    let done = build.arg(tests::programs::build()?).arg(out.path()).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let package = String::from_utf8(done.stdout)?;
    let listed = Command::new("dpkg-deb").args(["--contents", package.trim()]).output()?;
    let files = String::from_utf8(listed.stdout)?;
    for wanted in [
        "man1/switchctl.1.gz",
        "man1/switchctl-ha-drill-run.1.gz",
        "man5/mailswitch.yaml.5.gz",
        "bash-completion/completions/switchctl",
        "vendor-completions/_switchctl",
        "vendor_completions.d/switchctl.fish",
    ] {
        ensure!(files.lines().any(|line| line.ends_with(wanted)), "{wanted} is not in the package:\n{files}");
    }
    for entry in std::fs::read_dir(root.join("ha-scripts/systemd"))? {
        let path = entry?.path();
        if !path
            .extension()
            .is_some_and(|end| ["service", "socket", "target", "timer"].iter().any(|kind| end == *kind))
        {
            continue;
        }
        let unit = std::fs::read_to_string(&path)?;
        let named = unit.lines().find_map(|line| line.strip_prefix("Documentation="));
        for page in named.with_context(|| format!("{} names no page", path.display()))?.split(' ') {
            let page = page.strip_prefix("man:").context("a man page")?;
            let (name, section) = page.trim_end_matches(')').split_once('(').context("with its section")?;
            let file = format!("man{section}/{name}.{section}.gz");
            ensure!(files.contains(&file), "{}: {file} is not in the package", path.display());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_clean_debian_to_a_relay_through_an_upgrade_and_away_again() -> Result<()> {
    let Some(lab) = Lab::open(1)? else { return Ok(()) };
    lab.install("a", "")?;

    // It relays, as its own user, and says how it stands.
    let probes = lab.load("a", "first", 50)?.finish(PATIENCE).await;
    ensure!(probes.iter().all(|probe| probe.accepted.is_some()), "{probes:?}");
    lab.delivered(50).await?;
    let user = lab
        .run("a", "ps -o user= -p $(systemctl show -P MainPID switch@a)")
        .or_else(|_| lab.run("a", "stat -c %U /proc/$(systemctl show -P MainPID switch@a)"))?;
    ensure!(user == "mailswitch", "it runs as {user}");
    let status = lab.run("a", "systemctl show -P StatusText switch@a")?;
    ensure!(status.starts_with("ACTIVE: "), "{status}");

    let empty = lab.run("a", "mailq && readlink -f /usr/sbin/sendmail")?;
    ensure!(empty.ends_with("/usr/bin/switchctl"), "{empty}");

    filtered(&lab)?;
    reload(&lab)?;
    journal(&lab)?;
    ports(&lab)?;
    watchdog(&lab)?;
    upgrade(&lab).await?;

    // Its queue is nobody's to remove.
    lab.run("a", "dpkg --purge mailswitch 2>&1")?;
    let left = lab.run(
        "a",
        "ls /usr/sbin/switch /etc/mailswitch /var/lib/mailswitch /var/spool/mailswitch/a 2>&1 || true",
    )?;
    ensure!(left.contains("lease") && left.matches("No such file").count() == 3, "{left}");
    Ok(())
}

/// What was relayed went through the filter of system calls of the unit.
fn filtered(lab: &Lab) -> Result<()> {
    for unit in ["switch@a", "heartbeatd"] {
        let line =
            format!("grep -E '^(Seccomp|NoNewPrivs):' /proc/$(systemctl show -P MainPID {unit})/status");
        let said = lab.run("a", &line)?;
        ensure!(said == "NoNewPrivs:\t1\nSeccomp:\t2", "{unit}: {said}");
    }
    Ok(())
}

/// An event is an entry with its fields, and the journal tells what to do about it.
fn journal(lab: &Lab) -> Result<()> {
    let entry = "journalctl -u switch@a MAILSWITCH_EVENT=config.reloaded --no-pager";
    let json = lab.run("a", &format!("{entry} -o json | tail -n 1"))?;
    let fields: serde_json::Value = serde_json::from_str(&json).with_context(|| json.clone())?;
    let field = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
    let id = field("MESSAGE_ID").with_context(|| json.clone())?;
    ensure!(field("PRIORITY") == Some("6") && field("MAILSWITCH_HASH").is_some(), "{json}");
    let told = lab.run("a", &format!("{entry} -x"))?;
    ensure!(told.contains("Subject: config.reloaded") && told.contains("No session was dropped"), "{told}");
    let explained = lab.run("a", "switchctl log explain config.reloaded")?;
    ensure!(explained.contains(&format!("MESSAGE_ID={id}")), "{explained}");
    Ok(())
}

/// systemd holds the ports while the switch is away, and gives it a key that only root may read.
fn ports(lab: &Lab) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=a.lab.test", "-days", "30", "-keyout", "mail.key", "-out", "mail.pem"]);
    ensure!(openssl.current_dir(dir.path()).output()?.status.success(), "openssl");
    for file in ["mail.key", "mail.pem"] {
        lab.write("a", &format!("/etc/ssl/{file}"), &std::fs::read_to_string(dir.path().join(file))?)?;
    }
    let unit = "[Service]\nLoadCredential=tls.key:/etc/ssl/mail.key";
    lab.write("a", "/etc/systemd/system/switch@.service.d/key.conf", unit)?;
    let tls = "tls: { cert: /etc/ssl/mail.pem, key: \"/run/credentials/switch@a.service/tls.key\"";
    let listeners = format!(
        "listeners: [ {{ address: \"0.0.0.0:25\" }}, {{ address: \"0.0.0.0:587\", kind: submission, {tls} }} }}, \
         {{ address: \"0.0.0.0:465\", kind: submission, {tls} }}, tls_mode: implicit }} ]"
    );
    lab.run(
        "a",
        &format!(
            "chmod 600 /etc/ssl/mail.key && chmod 644 /etc/ssl/mail.pem && systemctl stop switch@a && \
             sed -i 's|^listeners:.*|{listeners}|' /etc/mailswitch/mailswitch.yaml && \
             echo secret | switchctl user add ann@lab.test && chown mailswitch /etc/mailswitch/users && \
             systemctl daemon-reload && \
             systemctl enable --now switch-smtp@a.socket switch-submission@a.socket switch-submissions@a.socket 2>&1"
        ),
    )?;
    let idle = lab.run("a", "systemctl is-active switch@a || true")?;
    ensure!(idle == "inactive", "nobody came yet, and the switch is {idle}");
    // The first client starts it; until the queue is its own, it answers 421.
    let swaks = |more: &str| -> Result<String> {
        let address = lab.address("a");
        let mut swaks = Command::new("swaks");
        swaks.args([
            "--server",
            &address,
            "--from",
            "ann@lab.test",
            "--to",
            "ben@lab.test",
            "--timeout",
            "20",
        ]);
        let output = swaks.args(more.split(' ')).output().context("swaks")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let user = "--auth PLAIN --auth-user ann@lab.test --auth-password secret";
    for way in
        ["--port 25", &format!("--port 587 --tls {user}"), &format!("--port 465 --tls-on-connect {user}")]
    {
        let deadline = lab.clock.now() + PATIENCE;
        loop {
            let said = swaks(way)?;
            if said.contains("queued as") {
                break;
            }
            ensure!(said.contains(" 421 ") && lab.clock.now() < deadline, "{way}: {said}");
        }
    }
    let held =
        lab.run("a", "journalctl -u switch@a MAILSWITCH_EVENT=intake.handed_down --no-pager -o cat")?;
    ensure!(held.lines().count() == 3, "{held}");
    Ok(())
}

/// A faulty configuration fails the reload and changes nothing.
fn reload(lab: &Lab) -> Result<()> {
    let pid = lab.run("a", "systemctl show -P MainPID switch@a")?;
    let file = "/etc/mailswitch/mailswitch.yaml";
    lab.run("a", &format!("cp {file} /good && echo 'routess: 1' >> {file}"))?;
    let failed = lab.run("a", "systemctl reload switch@a 2>&1 || echo refused")?;
    ensure!(failed.contains("refused"), "a faulty configuration was taken: {failed}");
    lab.run(
        "a",
        &format!("cp /good {file} && echo 'limits: {{ hops: 40 }}' >> {file} && systemctl reload switch@a"),
    )?;
    lab.until("a", "journalctl -u switch@a --no-pager", "it was read again", |log| {
        log.contains("config.reloaded")
    })?;
    let after = lab.run("a", "systemctl show -P MainPID switch@a && systemctl is-active switch@a")?;
    ensure!(after == format!("{pid}\nactive"), "{pid} before, now {after}");
    Ok(())
}

/// Programs that stand still are killed and started again.
fn watchdog(lab: &Lab) -> Result<()> {
    lab.run(
        "a",
        "for unit in switch@a heartbeatd; do mkdir -p /run/systemd/system/$unit.service.d; \
        printf '[Service]\\nWatchdogSec=2\\n' > /run/systemd/system/$unit.service.d/watchdog.conf; done; \
        systemctl daemon-reload; systemctl restart switch@a heartbeatd",
    )?;
    lab.ready("a")?;
    for unit in ["switch@a", "heartbeatd"] {
        let pid = lab.run("a", &format!("systemctl show -P MainPID {unit}"))?;
        lab.run("a", &format!("kill -STOP {pid}"))?;
        let show = format!("systemctl show -P MainPID {unit}; systemctl is-active {unit}");
        lab.until("a", &show, "another process runs", |said| {
            said.ends_with("\nactive") && !said.starts_with(&format!("{pid}\n")) && !said.starts_with("0\n")
        })?;
        let log = lab.run("a", &format!("journalctl -u {unit} --no-pager"))?;
        ensure!(log.contains("Watchdog timeout"), "{log}");
    }
    lab.ready("a")
}

/// Mail that waits survives a new version in place.
async fn upgrade(lab: &Lab) -> Result<()> {
    lab.put_off(true);
    let probes = lab.load("a", "second", 50)?.finish(PATIENCE).await;
    ensure!(probes.iter().all(|probe| probe.accepted.is_some()), "{probes:?}");
    let before = lab.run("a", "systemctl show -P MainPID switch@a heartbeatd")?;
    let package = lab.package(Some("99.0.0"))?;
    lab.run("a", &format!("dpkg -i {package} 2>&1"))?;
    lab.ready("a")?;
    let after = lab.run("a", "systemctl show -P MainPID switch@a heartbeatd")?;
    ensure!(
        before.split_whitespace().all(|pid| !after.contains(pid)),
        "still the old programs: {before} and {after}"
    );
    let config = lab.run("a", "cat /etc/mailswitch/mailswitch.yaml")?;
    ensure!(config.contains("lab.test"), "the configuration was replaced: {config}");
    lab.put_off(false);
    lab.delivered(100).await
}
