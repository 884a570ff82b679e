//! What every noun takes.

use std::path::PathBuf;

use clap::Args;
use daemon_kit::configuration;
use mail_model::NodeId;

use crate::command::{Context, Failure};
use crate::output::Format;

/// Options that stand before or after any noun.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The configuration file of this node.
    #[arg(long, global = true, default_value = configuration::DEFAULT_PATH, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// How answers look.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(super) output: Format,
    /// Only about this node and its queue; its programs are asked over the network if that is another node.
    #[arg(long = "node", global = true, value_name = "NODE")]
    pub(super) only: Option<NodeId>,
}

impl Common {
    /// The configuration, and how to answer.
    pub(super) fn context(&self) -> Result<Context, Failure> {
        Context::load(&self.config, self.output, self.only.clone())
    }
}
