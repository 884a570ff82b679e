//! What a service manager tells the switch, and what it is told.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::site::{Config, PATIENCE, Running, Site, until};

/// A socket on which a service manager listens.
struct Manager(UnixDatagram);

impl Manager {
    fn of(site: &Site) -> Self {
        let socket = UnixDatagram::bind(site.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// Reads until a line begins with `wanted`, and answers that line.
    fn hears(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned();
            if let Some(line) = text.lines().find(|line| line.starts_with(wanted)) {
                return line.to_owned();
            }
        }
    }
}

#[tokio::test]
async fn a_service_manager_is_told_of_readiness_of_the_queue_and_of_life() {
    let site = Site::new(&Config::default());
    let manager = Manager::of(&site);
    let mut command = site.command(&["run", "--config", site.config_file().to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", site.path().join("notify")).env("WATCHDOG_USEC", "300000");
    let mut running = Running::of(command, &site);
    assert_eq!(manager.hears("READY="), "READY=1");
    let status = manager.hears("STATUS=ACTIVE");
    assert_eq!(status, "STATUS=ACTIVE: 0 messages, 0 recipients in queue a, 0 connections");
    for _ in 0..3 {
        assert_eq!(manager.hears("WATCHDOG="), "WATCHDOG=1");
    }
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(manager.hears("STOPPING="), "STOPPING=1");
    assert_eq!(running.ended().await, 0);
}

#[tokio::test]
async fn a_port_that_the_service_manager_holds_is_served_as_its_own() {
    let Some((site, running)) = activated(|site| site.smtp.to_string()).await else { return };
    // The first connection starts it; as long as it takes its queue, it says 421.
    drop(site.connect().await);
    until("the switch is ready", || site.probe().starts_with("HTTP/1.1 200")).await;
    site.client().await;
    let log = running.log();
    assert!(log.contains("intake.handed_down") && log.contains("smtp"), "{log}");
}

#[tokio::test]
async fn a_port_that_nobody_would_serve_is_refused() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Some((_site, mut running)) = activated(|_| port.to_string()).await else { return };
    drop(std::net::TcpStream::connect(port));
    assert_eq!(running.ended().await, 1);
    let wanted = format!("'smtp' on {port}, and no listener of the configuration has this address");
    assert!(running.log().contains(&wanted), "{}", running.log());
}

/// A switch that systemd's own tool starts on the first connection to `address`, which it listens on by then.
async fn activated(address: impl Fn(&Site) -> String) -> Option<(Site, Running)> {
    let tool = "systemd-socket-activate";
    if Command::new(tool).arg("--version").output().is_err() {
        eprintln!("skipped: needs {tool} (Debian package systemd)");
        return None;
    }
    let site = Site::new(&Config::default());
    let address = address(&site);
    let mut command = site.with_program(tool);
    command.args(["--listen", &address, "--fdname", "smtp", env!("CARGO_BIN_EXE_switch"), "run", "--config"]);
    command.arg(site.config_file());
    let running = Running::of(command, &site);
    until("the tool listens", || running.log().contains("Listening on")).await;
    Some((site, running))
}
