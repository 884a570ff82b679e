//! The house rules, held by a test and not by memory. `docs/ARCHITECTURE.md` says what they are for.
//!
//! Each rule is a function over a [`Tree`](tree::Tree) that answers with what breaks it, and has a small bad example that
//! it must find. The scanner is light: it knows comments, literals, braces and paths, not the language.

pub mod book;
pub mod circles;
pub mod dependencies;
pub mod drills;
pub mod events;
pub mod failures;
pub mod floors;
pub mod leftovers;
pub mod lengths;
pub mod links;
pub mod metrics;
pub mod paths;
pub mod purity;
pub mod source;
pub mod tree;
