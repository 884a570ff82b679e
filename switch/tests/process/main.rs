//! The switch as a program: real processes, real sockets, real files.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

mod accept;
mod authentication;
mod certificates;
mod checks;
mod client_certificates;
mod command_line;
mod defence;
mod domains;
mod filter_programs;
mod filters;
mod front;
mod lifecycle;
mod lmtp;
mod log;
mod login_out;
mod maildrop;
mod memory;
mod metrics;
mod mx;
mod name_server;
mod once;
mod operate;
mod proxied;
mod published;
mod relay;
mod relay_through;
mod reload;
mod require_tls;
mod routes;
mod service;
mod site;
mod submission;
mod tables;
mod tls_in;
mod tls_out;
mod trace;
mod web;
