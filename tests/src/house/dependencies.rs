//! Nothing is taken in that nothing uses.

use crate::house::tree::Tree;

/// Dependencies in the root's table that no member imports, and imports that a member's code never names.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for key in &tree.table {
        let word = key.replace('-', "_");
        let used = tree.packages.iter().any(|package| {
            package.dependencies.iter().any(|dependency| dependency.word == word || dependency.name == *key)
        });
        // A member that nobody imports is a program.
        if !used && tree.package(key).is_none() {
            faults.push(format!("Cargo.toml: {key} is in the table and no member imports it"));
        }
    }
    for package in &tree.packages {
        for dependency in &package.dependencies {
            let sources = package.sources.iter().filter(|source| dependency.dev || !source.test);
            if !sources.into_iter().any(|source| names(&source.code, &dependency.word)) {
                faults.push(format!(
                    "{}/Cargo.toml: {} is imported and never named",
                    package.folder, dependency.name
                ));
            }
        }
    }
    faults
}

/// Whether `code` names the crate `word`: as the start of a path, or in an attribute or `use` by itself.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).unwrap_or_default();
        let after = code.get(at + word.len()..).unwrap_or_default();
        !before.ends_with(part)
            && !before.ends_with('.')
            && (after.starts_with("::") || (before.ends_with("use ") && !after.starts_with(part)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::source::Source;
    use crate::house::tree::example;

    fn tree(code: &str) -> Tree {
        let mut tree = example(&[("a", 1, true, &["b-c"])]);
        tree.packages[0].sources = vec![Source::new("crates/a/src/lib.rs", code)];
        tree
    }

    #[test]
    fn an_import_that_is_never_named_is_found() {
        for bad in ["", "// b_c::d", "use xb_c::d;", "use b_cx::d;", "fn b_c() {}", "use e::b_cd;"] {
            assert_eq!(check(&tree(bad)).len(), 1, "{bad}");
        }
        for good in ["use b_c::d;", "fn f() { b_c::d() }", "#[derive(b_c::D)] struct E;", "pub use b_c;"] {
            assert_eq!(check(&tree(good)), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn what_only_the_table_names_is_found() {
        let mut tree = tree("use b_c::d;");
        tree.table = vec!["b-c".to_owned(), "a".to_owned()];
        assert!(check(&tree).is_empty());
        tree.table.push("e".to_owned());
        assert_eq!(check(&tree).len(), 1);
    }
}
