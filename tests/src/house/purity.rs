//! A pure crate touches no world: no clock, file, socket, thread, random number, environment.

use crate::house::paths::{Named, paths};
use crate::house::tree::Tree;

/// What a pure crate names nowhere outside its tests. A path is refused with all that lies below it.
const REFUSED: [&[&str]; 22] = [
    &["std", "fs"],
    &["std", "thread"],
    &["std", "env"],
    &["std", "process"],
    &["std", "os"],
    &["std", "net"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "time", "*"],
    &["std", "hash", "RandomState"],
    &["std", "collections", "hash_map", "RandomState"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["Timestamp", "now"],
    &["Zoned", "now"],
    &["jiff", "Timestamp", "now"],
    &["jiff", "Zoned", "now"],
    &["time", "Instant"],
    &["time", "SystemTime"],
];

/// Addresses are numbers: the only part of `std::net` a pure crate may use.
const ADDRESSES: [&str; 7] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];

/// Crates that are a piece of the world.
const WORLDLY: [&str; 14] = [
    "tokio",
    "nix",
    "rustix",
    "libc",
    "rand",
    "getrandom",
    "uuid",
    "socket2",
    "mio",
    "notify",
    "tracing",
    "parking_lot",
    "crossbeam",
    "tempfile",
];

/// Uses of the world in pure crates.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for package in tree.packages.iter().filter(|package| package.pure) {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            if WORLDLY.contains(&dependency.name.as_str()) {
                faults.push(format!("{} is pure and depends on {}", package.name, dependency.name));
            }
        }
        for source in &package.sources {
            let (code, _) = source.product();
            for path in paths(&code).iter().filter(|path| touches(path)) {
                faults.push(format!(
                    "{}:{}: a pure crate names {}",
                    source.path,
                    path.line,
                    path.words.join("::")
                ));
            }
        }
    }
    faults
}

fn touches(path: &Named) -> bool {
    let words: Vec<&str> = path.words.iter().map(String::as_str).collect();
    if let ["std" | "core", "net", name, ..] = words.as_slice()
        && ADDRESSES.contains(name)
    {
        return false;
    }
    REFUSED.iter().any(|refused| words.starts_with(refused))
        || words.first().is_some_and(|first| WORLDLY.contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::{example, example_sources};

    #[test]
    fn every_touch_of_the_world_is_found() {
        for bad in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::time::{Duration, Instant};",
            "fn f() { std::thread::spawn(g); }",
            "fn f() { let _ = std::env::var(\"X\"); }",
            "use std::net::{IpAddr, TcpStream};",
            "use std::net::*;",
            "use std::time; fn f() { time::SystemTime::now(); }",
            "async fn f() { tokio::task::yield_now().await }",
            "fn f() { jiff::Timestamp::now(); }",
            "use std::process::exit;",
            "use std::hash::RandomState;",
        ] {
            assert!(!check(&example_sources(true, &[("src/lib.rs", bad)])).is_empty(), "{bad}");
            assert!(check(&example_sources(false, &[("src/lib.rs", bad)])).is_empty(), "{bad}");
        }
        assert_eq!(check(&example(&[("a", 1, true, &["tokio"])])).len(), 1);
    }

    #[test]
    fn numbers_words_and_tests_are_no_touch() {
        for good in [
            "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
            "// std::fs\nconst X: &str = \"std::fs::read\";",
            "#[cfg(test)] mod tests { use std::fs; }",
            "use std::io::{self, Read}; fn fs() {}",
        ] {
            assert_eq!(
                check(&example_sources(true, &[("src/lib.rs", good)])),
                Vec::<String>::new(),
                "{good}"
            );
        }
        assert!(check(&example_sources(true, &[("tests/cli.rs", "use std::fs;")])).is_empty());
    }
}
