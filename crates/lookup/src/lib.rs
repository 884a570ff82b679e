//! Questions about names to DNS, with the answers kept as long as they may be.
//!
//! | file | what it is |
//! |---|---|
//! | `resolver` | what is asked: mail hosts, addresses, texts, certificates |
//! | `servers` | who is asked |
//!
//! An answer is data or the lack of it, and both are facts. That nobody answers is neither: [`Unavailable`], to be tried
//! again. Never: a guess, or an answer that is older than its record allows.
//!
//! Answers can be believed to be authentic ([`Answer::secure`]) only if `dns.trust_ad` says that the servers validate DNSSEC
//! and that nobody stands between them and this machine.

mod resolver;
mod servers;

pub use resolver::{Answer, Found, NoResolver, Resolver, Tlsa, Unavailable, for_library};
