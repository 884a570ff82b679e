//! What is left over from writing: work not done, and paths of somebody's machine.

use crate::house::tree::Tree;

/// Macros that stand for work not done.
const MACROS: [&str; 2] = ["todo!", "unimplemented!"];

/// Words that say so. Written in two halves: this file is read, too.
const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Folders of a machine on which this was written.
const FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// What is left over.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for source in tree.sources() {
        for (number, line) in numbered(&source.code) {
            for word in MACROS.iter().filter(|word| line.contains(*word)) {
                faults.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    let texts = tree.texts.iter().map(|text| (&text.path, &text.text));
    for (path, text) in tree.sources().map(|source| (&source.path, &source.text)).chain(texts) {
        for (number, line) in numbered(text) {
            for word in WORDS.iter().filter(|word| has_word(line, word)) {
                faults.push(format!("{path}:{number}: {word}"));
            }
            for folder in FOLDERS.iter().filter(|folder| has_folder(line, folder)) {
                faults.push(format!("{path}:{number}: a path of one machine, {folder}"));
            }
        }
    }
    faults
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// At the start of an absolute path, not within one.
fn has_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '~'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::{Text, example_sources};

    #[test]
    fn work_not_done_is_found_in_code_and_in_text() {
        for bad in [
            "fn f() { todo!() }",
            "// TO\u{44}O: later",
            "// FIX\u{4d}E",
            "const P: &str = \"/ro\u{6f}t/x\";",
        ] {
            assert_eq!(check(&example_sources(true, &[("src/lib.rs", bad)])).len(), 1, "{bad}");
        }
        for good in ["// todo!() is a macro", "fn f() { T\u{4f}DOS }", "// ../wo\u{72}k/x and a/home/b"] {
            assert_eq!(
                check(&example_sources(true, &[("src/lib.rs", good)])),
                Vec::<String>::new(),
                "{good}"
            );
        }
        let text = Text { path: "README.md".to_owned(), text: ["see /wo", "rk/x"].concat() };
        assert_eq!(check(&Tree { texts: vec![text], ..Tree::default() }).len(), 1);
    }
}
