//! Files and functions that grew too long. The cure is the noun that hides in them.

use crate::house::source::{Source, item_end, line_of};
use crate::house::tree::Tree;

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 600;

/// Lines of a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 90;

/// Files and functions over their limit.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for source in tree.sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}: split by noun", source.path));
        }
        for (name, line, length) in functions(source) {
            if length > FUNCTION_LINES_MAX {
                let path = &source.path;
                faults.push(format!(
                    "{path}:{line}: fn {name} has {length} lines, at most {FUNCTION_LINES_MAX}"
                ));
            }
        }
    }
    faults
}

/// Name, first line and number of lines of each function with a body.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let code = source.code.as_str();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let joined = code.get(..at).and_then(|before| before.chars().next_back());
        let name: String = code
            .get(at + 3..)
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if name.is_empty() || joined.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let end = item_end(code.as_bytes(), at);
        let first = line_of(code, at);
        found.push((name, first, line_of(code, end) - first + 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::example_sources;

    #[test]
    fn a_file_at_its_limit_is_right_and_one_line_more_is_wrong() {
        assert!(check(&example_sources(true, &[("src/lib.rs", &"\n".repeat(600))])).is_empty());
        assert_eq!(check(&example_sources(true, &[("src/lib.rs", &"\n".repeat(601))])).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_and_its_neighbours_are_not() {
        let text = format!("fn a();\nfn b(x: [u8; 2]) {{ {}}}\nfn c() {{ }}\n", "{ x; }\n".repeat(90));
        let faults = check(&example_sources(true, &[("src/lib.rs", &text)]));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("src/lib.rs:2: fn b has 91 lines"), "{faults:?}");
    }
}
