//! Every fault of a drill is tried by a test, and told in `docs/DRILLS.md`.
//!
//! The faults are the variants of `DrillFault`; a test names one as `DrillFault::Kill`, the page in a row that begins with
//! its word in backquotes.

use crate::house::tree::Tree;

/// Where the faults stand.
const TABLE: &str = "crates/cluster/src/drill.rs";
/// Where they are told.
const PAGE: &str = "docs/DRILLS.md";
/// Where they are tried.
const TESTS: &str = "tests/tests/";

/// Faults that no test runs, or no row tells.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sources = tree.packages.iter().flat_map(|package| &package.sources);
    let Some(table) = sources.find(|source| source.path == TABLE) else {
        return vec![format!("{TABLE} is not there: where do the faults of drills stand?")];
    };
    let page = tree.texts.iter().find(|text| text.path == PAGE).map_or("", |text| text.text.as_str());
    let names = variants(&table.code);
    if names.is_empty() {
        faults.push(format!("{TABLE}: no variant of DrillFault was found"));
    }
    for name in names {
        let call = format!("DrillFault::{name}");
        let tried = tree.packages.iter().flat_map(|package| &package.sources).any(|source| {
            source.path.starts_with(TESTS)
                && source.code.match_indices(&call).any(|(at, _)| {
                    let next = source.code.get(at + call.len()..).and_then(|rest| rest.chars().next());
                    !next.is_some_and(char::is_alphanumeric)
                })
        });
        if !tried {
            faults.push(format!("{TABLE}: no test below {TESTS} runs {call}"));
        }
        let word = word(&name);
        if !page.contains(&format!("\n| `{word}` |")) {
            faults.push(format!("{PAGE}: there is no row for {word}"));
        }
    }
    faults
}

/// The variants of `DrillFault`, which bear no data.
fn variants(code: &str) -> Vec<String> {
    let Some((_, rest)) = code.split_once("pub enum DrillFault {") else { return Vec::new() };
    let inside = rest.split('}').next().unwrap_or_default();
    inside.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// `StorageHang` as the command line has it: `storage-hang`.
fn word(name: &str) -> String {
    let mut word = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(character.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::source::Source;
    use crate::house::tree::{Package, Text};

    fn found(test: &str, page: &str) -> usize {
        let table = "pub enum DrillFault {\n    /// Dies.\n    Kill,\n    /// Hangs.\n    StorageHang,\n}\n";
        let sources = vec![Source::new(TABLE, table), Source::new("tests/tests/drill.rs", test)];
        let package = Package { name: "x".to_owned(), sources, ..Package::default() };
        let told = Text { path: PAGE.to_owned(), text: page.to_owned() };
        check(&Tree { packages: vec![package], texts: vec![told], ..Tree::default() }).len()
    }

    #[test]
    fn a_fault_that_no_test_runs_or_no_row_tells_is_found() {
        let page = "x\n| `kill` | dies |\n| `storage-hang` | hangs |\n";
        assert_eq!(found("fn f() { drill(DrillFault::Kill); drill(DrillFault::StorageHang) }", page), 0);
        assert_eq!(found("fn f() { drill(DrillFault::Kill) }", page), 1);
        assert_eq!(found("fn f() { drill(DrillFault::Killer); drill(DrillFault::StorageHang) }", page), 1);
        assert_eq!(
            found("fn f() { drill(DrillFault::Kill); drill(DrillFault::StorageHang) }", "\n| `kill` |"),
            1
        );
    }
}
