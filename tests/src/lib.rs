//! What crosses a crate or a process: harness, crash tests, process tests, house rules.

pub mod dovecot;
pub mod house;
pub mod lab;
pub mod postfix;
pub mod programs;
