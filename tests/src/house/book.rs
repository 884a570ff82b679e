//! The book of the documentation has every page of `docs/`, and each once. That its links lead somewhere is a rule of its own.

use crate::house::links::{joined, links};
use crate::house::tree::Tree;

/// The list of its chapters.
const LIST: &str = "docs/SUMMARY.md";

/// Pages that are missing, and pages that stand twice.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let Some(list) = tree.texts.iter().find(|text| text.path == LIST) else {
        return vec![format!("there is no {LIST}")];
    };
    let chapters: Vec<String> =
        links(&list.text).into_iter().filter_map(|(_, target)| joined(LIST, &target)).collect();
    let pages = tree.texts.iter().filter(|text| text.is_document() && text.path.starts_with("docs/"));
    pages
        .filter(|page| page.path != LIST)
        .filter_map(|page| match chapters.iter().filter(|chapter| **chapter == page.path).count() {
            1 => None,
            0 => Some(format!("{LIST}: {} is missing", page.path)),
            count => Some(format!("{LIST}: {} stands there {count} times", page.path)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::Text;

    fn found(list: &str) -> Vec<String> {
        let text = |path: &str, text: &str| Text { path: path.to_owned(), text: text.to_owned() };
        let pages = ["docs/A.md", "docs/b/C.md", "README.md"].map(|path| text(path, ""));
        let texts = pages.into_iter().chain([text(LIST, list)]).collect();
        check(&Tree { texts, ..Tree::default() })
    }

    #[test]
    fn a_page_that_is_missing_or_stands_twice_is_found() {
        assert!(found("[x](../README.md)\n- [a](A.md)\n  - [c](b/C.md)\n").is_empty());
        assert_eq!(found("- [a](A.md)\n"), ["docs/SUMMARY.md: docs/b/C.md is missing"]);
        assert_eq!(
            found("[a](A.md) [a](A.md) [c](b/C.md)"),
            ["docs/SUMMARY.md: docs/A.md stands there 2 times"]
        );
    }
}
