//! What a drill is asked to be.

use std::net::SocketAddr;
use std::time::Duration;

use cluster::drill::DrillFault;
use mail_model::NodeId;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What happens.
    pub(crate) fault: DrillFault,
    /// To whom.
    pub(crate) node: NodeId,
    /// From the fault to the first delivery out of the node's queue.
    pub(crate) slo: Duration,
    /// How long the fault lasts; two windows and a few seconds if not said.
    pub(crate) span: Option<Duration>,
    /// Probe messages a second.
    pub(crate) rate: u32,
    /// Where probe mail is sent; all nodes' listeners if not said.
    pub(crate) through: Option<SocketAddr>,
    /// Where the sink listens; the address of this node's listener if not said.
    pub(crate) sink: Option<SocketAddr>,
    /// Only say whether it could be done.
    pub(crate) dry_run: bool,
}
