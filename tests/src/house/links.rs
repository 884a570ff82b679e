//! Links in the documents lead somewhere: to a file of the tree, and to a heading of it where one is named.

use crate::house::tree::{Text, Tree};

/// Links that lead nowhere.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for document in tree.texts.iter().filter(|text| text.is_document()) {
        for (line, target) in links(&document.text) {
            if let Some(fault) = dead(tree, document, &target) {
                faults.push(format!("{}:{line}: the link '{target}': {fault}", document.path));
            }
        }
    }
    faults
}

/// Lines outside of fenced code, numbered from 1, with `code` blanked.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        let kept: Vec<&str> = line.split('`').step_by(2).collect();
        (!fenced).then(|| (index + 1, kept.join("`")))
    })
}

/// The links of a document: line and target.
pub(crate) fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = line.get(at + 2..).and_then(|rest| rest.split([')', ' ']).next());
            found.extend(target.map(|target| (number, target.to_owned())));
        }
        let reference = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(
            reference.and_then(|(_, rest)| rest.split(' ').next()).map(|target| (number, target.to_owned())),
        );
    }
    found
}

fn dead(tree: &Tree, document: &Text, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) =
        target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let path = if file.is_empty() { Some(document.path.clone()) } else { joined(&document.path, file) };
    let Some(path) = path.filter(|path| path.is_empty() || tree.files.contains(path)) else {
        return Some("there is no such file".to_owned());
    };
    let heading = heading?;
    let text = tree.texts.iter().find(|text| text.path == path)?;
    let found = text.text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
    (!found).then(|| format!("{path} has no such heading"))
}

/// `target` as seen from the folder of `document`; `None` if it leaves the tree.
pub(crate) fn joined(document: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// A heading's anchor, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        let page = |path: &str, text: &str| Text { path: path.to_owned(), text: text.to_owned() };
        let texts = vec![page("docs/A.md", text), page("docs/B.md", "# One thing, two\n")];
        let files = ["docs", "docs/A.md", "docs/B.md", "README.md"].into_iter().map(str::to_owned).collect();
        check(&Tree { texts, files, ..Tree::default() }).len()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        for bad in [
            "[x](C.md)",
            "a [x](../docs/C.md) b",
            "[x](B.md#two)",
            "[x](#here)",
            "[x](../../B.md)",
            "[x]: C.md",
        ] {
            assert_eq!(found(bad), 1, "{bad}");
        }
    }

    #[test]
    fn a_link_that_leads_somewhere_is_right() {
        let good = "# Here\n[x](B.md) [y](../README.md) [z](#here) [u](B.md#one-thing-two) [v](https://example.test/) [w](.)\n`[c](C.md)`\n```\n[d](D.md)\n```\n";
        assert_eq!(found(good), 0);
    }
}
