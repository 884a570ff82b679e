//! HAProxy's agent-check: one line for each connection, made of what the own switch says. Never asks the switch itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::own::{OwnSwitch, Standing};

/// A balancer reads its line within this time, or goes without.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Answers until the runtime ends.
pub(crate) async fn serve(address: SocketAddr, own: watch::Receiver<OwnSwitch>) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for agent checks; is agent.address free?"))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((mut stream, _)) => {
                    let line = line(&own.borrow());
                    tokio::spawn(async move {
                        drop(timeout(WRITE_LIMIT, stream.write_all(line.as_bytes())).await);
                        drop(timeout(WRITE_LIMIT, stream.shutdown()).await);
                    });
                }
                Err(error) => {
                    tracing::warn!(event = "agent.accept_failed", %error);
                    sleep(WRITE_LIMIT).await;
                }
            }
        }
    });
    Ok(())
}

/// A space before `#`: without it HAProxy leaves the server up.
fn line(own: &OwnSwitch) -> String {
    if own.standing == Standing::Draining {
        return "drain\n".to_owned();
    }
    if own.ready {
        return "up ready 100%\n".to_owned();
    }
    let reason = own.reasons.first().map_or("not ready", String::as_str);
    let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
    format!("down #{reason}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_that_haproxy_understands() {
        let mut own = OwnSwitch::default();
        assert_eq!(line(&own), "down #not ready\n");
        own.reasons = vec!["lease\nstale".to_owned()];
        assert_eq!(line(&own), "down #lease stale\n");
        own.ready = true;
        assert_eq!(line(&own), "up ready 100%\n");
        own.standing = Standing::Draining;
        assert_eq!(line(&own), "drain\n");
    }
}
