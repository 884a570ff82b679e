//! The files of a crate import each other without a circle. A child may use its parent only if the parent does not use it.
//!
//! An edge is a path that leads to another file: `crate::a::X`, `super::X`, `self::a::X`, or `a::X` where `a` is a child.
//! `mod a;` alone is none. Tests are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::house::paths::paths;
use crate::house::source::Source;
use crate::house::tree::{Package, Tree};

/// Circles of files, each once.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    tree.packages.iter().flat_map(circles).collect()
}

fn circles(package: &Package) -> Vec<String> {
    let files: BTreeMap<Vec<String>, &Source> = package
        .sources
        .iter()
        .filter(|source| !source.test)
        .filter_map(|source| Some((module(&package.folder, &source.path)?, source)))
        .collect();
    let mut edges: BTreeMap<&Vec<String>, BTreeMap<&Vec<String>, usize>> = BTreeMap::new();
    for (from, source) in &files {
        for (to, line) in imports(from, source, &files) {
            edges.entry(from).or_default().entry(to).or_insert(line);
        }
    }
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for start in files.keys() {
        let Some(circle) = way_back(start, &edges) else { continue };
        let members: BTreeSet<_> = circle.iter().copied().collect();
        if seen.insert(members) {
            faults.push(told(&circle, &files, &edges));
        }
    }
    faults
}

/// The path of a library's module by its file; `None` for a program or what lies outside `src`.
fn module(folder: &str, path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix(folder)?.strip_prefix("/src/")?.strip_suffix(".rs")?;
    let mut words: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if matches!(words.first().map(String::as_str), Some("main" | "bin")) {
        return None;
    }
    if words.last().is_some_and(|word| word == "mod" || word == "lib") {
        words.pop();
    }
    Some(words)
}

/// The files that `source` imports, each with the line where it does.
fn imports<'a>(
    from: &[String],
    source: &Source,
    files: &'a BTreeMap<Vec<String>, &Source>,
) -> Vec<(&'a Vec<String>, usize)> {
    let (code, _) = source.product();
    let mut found = Vec::new();
    for path in paths(&code) {
        let here: Vec<String> = from.iter().chain(&path.inside).cloned().collect();
        let Some(meant) = absolute(&here, from, &path.words, files) else { continue };
        let file = (0..=meant.len()).rev().find_map(|length| files.get_key_value(meant.get(..length)?));
        if let Some((to, _)) = file.filter(|(to, _)| to.as_slice() != from) {
            found.push((to, path.line));
        }
    }
    found
}

/// A path of this crate from its root; `None` for one that leads out of it.
fn absolute(
    here: &[String],
    file: &[String],
    words: &[String],
    files: &BTreeMap<Vec<String>, &Source>,
) -> Option<Vec<String>> {
    let first = words.first()?.as_str();
    let ups = words.iter().take_while(|word| *word == "super").count();
    let (base, rest) = match first {
        "crate" => (&[][..], words.get(1..)?),
        "self" => (here, words.get(1..)?),
        "super" => (here.get(..here.len().checked_sub(ups)?)?, words.get(ups..)?),
        child => {
            let own: Vec<String> = file.iter().cloned().chain([child.to_owned()]).collect();
            files.get(&own)?;
            (file, words)
        }
    };
    Some(base.iter().chain(rest).cloned().collect())
}

type Edges<'a> = BTreeMap<&'a Vec<String>, BTreeMap<&'a Vec<String>, usize>>;

/// The shortest way from `start` back to it.
fn way_back<'a>(start: &'a Vec<String>, edges: &Edges<'a>) -> Option<Vec<&'a Vec<String>>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut reached = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in edges.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
            if *next == start {
                return Some(way);
            }
            if reached.insert(*next) {
                ways.push_back(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

fn told(circle: &[&Vec<String>], files: &BTreeMap<Vec<String>, &Source>, edges: &Edges<'_>) -> String {
    let mut text = "a circle of files:".to_owned();
    for (index, from) in circle.iter().enumerate() {
        let to = circle.get(index + 1).or(circle.first());
        let line = to.and_then(|to| edges.get(from)?.get(to)).copied().unwrap_or(0);
        let path = files.get(*from).map_or("?", |source| source.path.as_str());
        text.push_str(&[" ", path, ":", &line.to_string(), " ->"].concat());
    }
    text.push_str(" the first");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::example_sources;

    fn found(sources: &[(&str, &str)]) -> usize {
        check(&example_sources(true, sources)).len()
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let lib = ("src/lib.rs", "mod b; mod c;");
        for (b, c) in [
            ("use crate::c::X;", "use crate::b::Y;"),
            ("use super::{c::{X, Z}};", "fn f() { crate::b::y() }"),
            ("use super::c;", "fn f(x: super::b::Y) {}"),
        ] {
            assert_eq!(found(&[lib, ("src/b.rs", b), ("src/c.rs", c)]), 1, "{b} {c}");
        }
    }

    #[test]
    fn a_longer_circle_is_told_once_with_its_places() {
        let faults = check(&example_sources(
            true,
            &[
                ("src/lib.rs", "mod b; mod c; mod d;"),
                ("src/b.rs", "\nuse crate::c::X;"),
                ("src/c.rs", "use crate::d::X;"),
                ("src/d.rs", "use crate::b::X;"),
            ],
        ));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("crates/a/src/b.rs:2 -> crates/a/src/c.rs:1"), "{faults:?}");
    }

    #[test]
    fn a_parent_and_its_child_may_not_use_each_other() {
        assert_eq!(found(&[("src/lib.rs", "mod b; pub use b::X;"), ("src/b.rs", "use crate::Y;")]), 1);
        assert_eq!(found(&[("src/b.rs", "mod c; fn f() { c::x() }"), ("src/b/c.rs", "use super::Y;")]), 1);
    }

    #[test]
    fn what_is_no_circle_is_left_in_peace() {
        assert_eq!(
            found(&[
                ("src/lib.rs", "mod b; pub use b::X;"),
                ("src/b.rs", "use std::fmt; use crate::c::Z;"),
                ("src/c.rs", "")
            ]),
            0
        );
        assert_eq!(found(&[("src/lib.rs", "mod b;"), ("src/b.rs", "use crate::Y;")]), 0);
        let tested = "mod c; use c::X; mod inner { use super::*; } #[cfg(test)] mod tests { use super::*; use crate::b::Y; }";
        assert_eq!(
            found(&[("src/b.rs", tested), ("src/b/c.rs", "// crate::b\nconst X: &str = \"super::Y\";")]),
            0
        );
    }
}
