//! The configuration of a balancer, printed from the one of the cluster. A comment stands where somebody has to think.

mod f5;
mod haproxy;
mod keepalived;
mod nginx;
mod text;

use clap::ValueEnum;

pub(crate) use self::text::Front;
use super::site::Site;
use crate::command::{Context, Outcome, put};
use crate::exit::Exit;

/// For which balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// HAProxy 2.4 or later: checks and agent-checks, PROXY protocol. A whole file but for `global`.
    Haproxy,
    /// keepalived: a virtual address on the node that is ready, without a balancer between.
    Keepalived,
    /// nginx: a `stream` block. It has no checks of its own, so it notices a dead node by its connections.
    Nginx,
    /// BIG-IP, as commands of tmsh.
    F5,
}

/// Prints it.
pub(crate) fn snippet(context: &Context, kind: Kind, front: Front) -> Outcome {
    // Without heartbeatd it says less: where the others take mail is then taken from the configuration.
    let view = super::status::view(context);
    let site = Site::of(&context.settings, view.as_ref());
    put(written(&site, kind, front).as_bytes())?;
    Ok(Exit::Ok)
}

fn written(site: &Site, kind: Kind, front: Front) -> String {
    match kind {
        Kind::Haproxy => haproxy::written(site, front),
        Kind::Keepalived => keepalived::written(site, front),
        Kind::Nginx => nginx::written(site, front),
        Kind::F5 => f5::written(site, front),
    }
}

#[cfg(test)]
mod tests;
