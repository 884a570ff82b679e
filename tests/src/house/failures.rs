//! Every failure that `docs/FAILURES.md` tells of names the tests that show it, and those exist.
//!
//! A row has three cells: what fails, what comes of it, and the tests, each in backticks, with commas between.

use std::collections::BTreeSet;

use crate::house::tree::Tree;

const PAGE: &str = "docs/FAILURES.md";

/// Rows without a test, and tests that are not there.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.texts.iter().find(|text| text.path == PAGE) else {
        return vec![format!("{PAGE} is not there")];
    };
    let sources = tree.packages.iter().flat_map(|package| &package.sources);
    let tests: BTreeSet<&str> = sources.flat_map(|source| functions(&source.code)).collect();
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", what, _, shown, ""] = cells.as_slice() else { continue };
        if *shown == "test" || shown.starts_with('-') {
            continue;
        }
        let names: Vec<&str> = shown.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in names {
            if !tests.contains(name) {
                faults.push(format!("{PAGE}:{number}: '{what}': there is no test '{name}'"));
            }
        }
    }
    faults
}

fn functions(code: &str) -> impl Iterator<Item = &str> {
    code.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<', ' ']).next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::source::Source;
    use crate::house::tree::{Package, Text};

    #[test]
    fn a_failure_that_no_test_shows_is_found() {
        let page = "| failure | answer | test |\n|---|---|---|\n| DNS is silent | 450 | `it_waits` |\n| x | y | `it_waits`, `gone` |\n| z | z | |\n";
        let source = Source::new("a/tests/t.rs", "async fn it_waits() { }\n// fn gone()\n");
        let package = Package { sources: vec![source], ..Package::default() };
        let told = Text { path: PAGE.to_owned(), text: page.to_owned() };
        let faults = check(&Tree { packages: vec![package], texts: vec![told], ..Tree::default() });
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().any(|fault| fault.contains("FAILURES.md:4: 'x': there is no test 'gone'")));
    }
}
