//! A mail server that can be started on a folder of its own, as often as wanted, and leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::mailswitch::Mailswitch;
use super::postfix::Postfix;
use super::work::Delivery;

/// How long a server may take to start.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The servers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Mailswitch,
    Postfix,
}

impl Name {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mailswitch => "mailswitch",
            Self::Postfix => "postfix",
        }
    }
}

/// One that runs. Its processes end when it is dropped.
#[derive(Debug)]
pub(crate) enum Running {
    Mailswitch(Mailswitch),
    Postfix(Postfix),
}

impl Running {
    /// Starts one on `dir`, which may hold the queue of an earlier run.
    pub(crate) async fn start(name: Name, dir: &Path, delivery: Delivery) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(match name {
            Name::Mailswitch => Self::Mailswitch(Mailswitch::start(dir, delivery).await?),
            Name::Postfix => Self::Postfix(Postfix::start(dir, delivery)?),
        })
    }

    /// Where it takes mail.
    pub(crate) fn smtp(&self) -> SocketAddr {
        match self {
            Self::Mailswitch(server) => server.smtp,
            Self::Postfix(server) => server.smtp,
        }
    }

    /// The process whose descendants it is made of.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Mailswitch(server) => server.process.pid(),
            Self::Postfix(server) => server.pid,
        }
    }

    /// Waits until it says 220.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        let address = self.smtp();
        let mut said = "nothing".to_owned();
        while Instant::now() < deadline {
            if let Self::Mailswitch(server) = self {
                server.alive()?;
            }
            let greeting = timeout(START_PATIENCE, greeting(address)).await;
            match greeting {
                Ok(Ok(line)) if line.starts_with("220") => return Ok(()),
                Ok(Ok(line)) => said = line,
                Ok(Err(error)) => said = error.to_string(),
                Err(_) => {}
            }
            sleep(Duration::from_millis(5)).await;
        }
        bail!("{address} does not serve mail: {said}")
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Self::Mailswitch(server) => server.stop().await,
            Self::Postfix(server) => server.stop().await,
        }
    }
}

async fn greeting(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut line = vec![0; 512];
    let count = stream.read(&mut line).await?;
    line.truncate(count);
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}
