//! The cluster program: watches the peers, takes over their queues, hands them back.
//!
//! | file | what it is |
//! |---|---|
//! | `run` | a run of the program |
//! | `node` | the loop's body: what comes in, the machines, what they say |
//! | `answer` | operators' questions and orders |
//! | `link` | heartbeats |
//! | `observe` | leases, and the probe of the storage |
//! | `launch`, `units` | the switches this program starts, as children or as units of systemd |
//! | `witness` | the registers of promoted storage, on a node that has no queue |
//! | `devices`, `rounds` | promoted storage: the devices, and what their machines order, carried out |
//! | `hook`, `grants` | programs run for that; switch and storage answered |
//! | `drill` | faults that a peer orders, to see what comes of them |
//! | `drills` | which they are now |
//! | `own` | the own primary, asked |
//! | `records` | decisions with their evidence |
//! | `admin`, `agent` | the control socket, and HAProxy's agent-check |
//! | `alerts` | what people are told without asking |
//! | `monitor`, `metrics` | HTTP for monitorings, and what they are told |
//! | `plan` | what is needed of the configuration |
//!
//! It never touches mail, and is no part of the safety of the protocol: without it mail flows on, unprotected.

mod admin;
mod agent;
mod alerts;
mod answer;
mod cli;
mod devices;
mod drill;
mod drills;
mod grants;
mod hook;
mod launch;
mod link;
mod metrics;
mod monitor;
mod node;
mod observe;
mod own;
mod plan;
mod records;
mod rounds;
mod run;
mod units;
mod witness;

pub use cli::main;
