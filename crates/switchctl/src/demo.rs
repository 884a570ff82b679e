//! The main job shown on one machine: nodes on loopback as real processes, real SMTP traffic, one node fails.
//!
//! | module | noun |
//! |---|---|
//! | `options` | what is asked for |
//! | [`site`] | configurations and processes of the nodes |
//! | [`links`] | heartbeat links that can be cut |
//! | [`leases`] | who owned which queue when, read from the disk |
//! | [`scene`] | a running site with sink and balancer |
//! | [`books`] | what the client was promised, what the sink got, what the queues say |
//! | `screen` | lines for people |
//! | `course` | the course of one demo |
//! | `verdict` | passed or not, and the numbers |
//!
//! What counts is seen from outside: by the client and the sink. The switches are asked for nothing but their ledger of
//! doubts. All waits have a deadline, and no process outlives the demo.

pub mod books;
mod course;
pub mod leases;
pub mod links;
mod options;
pub mod scene;
pub(crate) mod screen;
pub mod site;
mod verdict;

pub use options::{Fault, Options};

use anyhow::{Context, Result};

use crate::exit::Exit;

/// Runs a demo to its end and says whether it passed.
pub fn run(options: Options) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the demo's runtime")?;
    let passed = runtime.block_on(course::run(options));
    // A blocked reader of leases must not hold up the end.
    runtime.shutdown_background();
    Ok(if passed? { Exit::Ok } else { Exit::DrillFailed })
}
