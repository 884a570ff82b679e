//! The operator's tool: status, takeover, queue, ledger, demo.
//!
//! | module | noun |
//! |---|---|
//! | `cli` | the command line, and which command does what |
//! | `command` | what every command gets, and how it ends |
//! | `status`, `ha` | what the programs say, and orders to them, over their sockets |
//! | `doctor`, `report` | what commonly goes wrong, and a folder for who helps |
//! | `drill` | real faults on a live cluster, with probe mail and a report |
//! | `node`, `readiness` | a node leaves and comes back; whether its queue could be taken over now |
//! | `fscheck`, `lights` | whether a queue can live in a directory; what was looked at, with a light for each |
//! | `queue`, `ledger` | what the disk says, read without touching it |
//! | `filter` | which messages are meant |
//! | `text` | messages as files and programs hold them |
//! | `trace` | the story of one message |
//! | `suspend` | domains to which nothing is sent for some time |
//! | `operate` | verbs on messages: planned from the disk, carried out by the owner of the queue |
//! | `sendmail` | this program under the names `sendmail` and `mailq` |
//! | `cluster`, `config`, `route` | key, members, configuration, routes |
//! | `lb` | what a load balancer is told, and what it would see |
//! | `log`, `catalog` | how much the programs log; what each event means |
//! | `manual` | man pages and completions, made from the command line |
//! | `output`, `exit` | how answers look, and what the shell sees |
//! | `demo` | the main job on loopback, with real processes |
//! | `bench` | how fast it is on this machine, beside Postfix |

mod bench;
mod catalog;
pub mod cli;
mod cluster;
mod command;
mod config;
pub mod demo;
mod dkim;
mod doctor;
mod drill;
mod exit;
mod filter;
mod fscheck;
mod ha;
mod lb;
mod ledger;
mod lights;
mod log;
mod manual;
mod node;
mod operate;
mod output;
mod queue;
mod readiness;
mod report;
mod route;
pub mod sendmail;
mod status;
mod suspend;
mod text;
mod trace;
mod user;
mod watch;

pub use exit::Exit;
