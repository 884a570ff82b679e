//! `switchctl lb`: what a load balancer before the cluster is told, and what it would see.
//!
//! | module | noun |
//! |---|---|
//! | `site` | nodes, ports, checks, as a balancer needs them |
//! | `snippet` | the same in the words of a balancer |
//! | `probe` | one look at a port |
//! | `status` | what a balancer would see of every node now |
//!
//! It reads the configuration of this node and takes the others to have the same ports. Their addresses are what their
//! heartbeats say, or else where their heartbeats are heard.

mod probe;
mod site;
mod snippet;
mod status;

use std::net::{IpAddr, SocketAddr};

use control::heartbeatd::HeartbeatdStatus;
use mail_model::{NodeId, WallTime};
use settings::Settings;

pub(crate) use self::snippet::{Front, Kind, snippet};
pub(crate) use self::status::status;

/// Every node and the address at which it is reached.
pub(crate) fn places(settings: &Settings, view: Option<&HeartbeatdStatus>) -> Vec<(NodeId, IpAddr)> {
    site::Site::of(settings, view).places.into_iter().map(|place| (place.node, place.address)).collect()
}

/// The time of the machine that answers health probes at `address`, to the second.
pub(crate) fn date(address: SocketAddr) -> Result<WallTime, String> {
    let answer = probe::ask(address, b"GET /health/live HTTP/1.0\r\n\r\n")?;
    let date = answer
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("date")))
        .ok_or("its answer has no date")?;
    let time = jiff::fmt::rfc2822::parse(date.1.trim()).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(time.timestamp().as_second()).map_err(|error| error.to_string())?;
    Ok(WallTime(seconds.saturating_mul(1000)))
}
