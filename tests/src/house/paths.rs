//! The paths that code names: `a::b::c`, also out of `use a::{b::c, d}`, each with the line and the inline module it is in.

use crate::house::source::line_of;

/// One path as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its words. A star is `*`.
    pub words: Vec<String>,
    /// The line, from 1.
    pub line: usize,
    /// The inline modules around it, from the outermost.
    pub inside: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Mark(char),
}

/// All paths of at least two words, and every single word that a `use` or an `extern crate` names. `code` is blanked.
#[must_use]
pub fn paths(code: &str) -> Vec<Named> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some((token, place)) = tokens.get(at) {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth = depth.saturating_sub(1);
                inside.retain(|(_, opened)| *opened < depth + 1);
            }
            Token::Word(word) if word == "mod" => {
                if let (Some((Token::Word(name), _)), Some((Token::Mark('{'), _))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    inside.push((name.clone(), depth + 1));
                }
            }
            Token::Word(word) => {
                let imported = word == "use" || word == "crate" && before(&tokens, at) == Some("extern");
                let start = if imported { at + 1 } else { at };
                let mut expanded = Vec::new();
                let end = tree(&tokens, start, &[], &mut expanded);
                let modules: Vec<String> = inside.iter().map(|(name, _)| name.clone()).collect();
                for words in expanded {
                    if words.len() > 1 || imported {
                        found.push(Named { words, line: line_of(code, *place), inside: modules.clone() });
                    }
                }
                at = end.max(at + 1);
                continue;
            }
            Token::Colons | Token::Mark(_) => {}
        }
        at += 1;
    }
    found
}

fn before(tokens: &[(Token, usize)], at: usize) -> Option<&str> {
    match tokens.get(at.checked_sub(1)?)? {
        (Token::Word(word), _) => Some(word),
        (Token::Colons | Token::Mark(_), _) => None,
    }
}

/// Reads `a::b`, `a::{…}`, `a::*` from `at` and answers where it ends.
fn tree(tokens: &[(Token, usize)], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut words = prefix.to_vec();
    if tokens.get(at).is_some_and(|(token, _)| *token == Token::Colons) {
        at += 1;
    }
    loop {
        match tokens.get(at).map(|(token, _)| token) {
            Some(Token::Word(word)) => words.push(word.clone()),
            Some(Token::Mark('*')) => words.push("*".to_owned()),
            Some(Token::Mark('{')) => {
                at += 1;
                loop {
                    match tokens.get(at).map(|(token, _)| token) {
                        None => return at,
                        Some(Token::Mark('}')) => return at + 1,
                        Some(Token::Word(word)) if word == "as" => at += 2,
                        Some(Token::Word(_) | Token::Mark('{' | '*')) => {
                            at = tree(tokens, at, &words, found).max(at + 1);
                        }
                        Some(Token::Colons | Token::Mark(_)) => at += 1,
                    }
                }
            }
            Some(Token::Colons | Token::Mark(_)) | None => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|(token, _)| *token != Token::Colons) {
            break;
        }
        at += 1;
    }
    if words.len() > prefix.len() {
        // `a::{self}` names `a`.
        if words.len() > 1 && words.last().is_some_and(|word| word == "self") {
            words.pop();
        }
        found.push(words);
    }
    at
}

fn tokens(code: &str) -> Vec<(Token, usize)> {
    let mut found: Vec<(Token, usize)> = Vec::new();
    let mut word: Option<(String, usize)> = None;
    let mut colon = false;
    for (at, character) in code.char_indices() {
        if character.is_alphanumeric() || character == '_' {
            word.get_or_insert_with(|| (String::new(), at)).0.push(character);
            colon = false;
            continue;
        }
        if let Some((text, start)) = word.take() {
            found.push((Token::Word(text), start));
        }
        if character == ':' && colon {
            found.pop();
            found.push((Token::Colons, at));
            colon = false;
        } else if !character.is_whitespace() {
            found.push((Token::Mark(character), at));
            colon = character == ':';
        } else {
            colon = false;
        }
    }
    if let Some((text, start)) = word {
        found.push((Token::Word(text), start));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(code: &str) -> Vec<String> {
        paths(code).into_iter().map(|path| path.words.join("::")).collect()
    }

    #[test]
    fn a_tree_of_imports_names_each_of_its_leaves() {
        assert_eq!(
            named("use std::{fs, net::{self, IpAddr as Ip, TcpStream}, io::*};"),
            ["std::fs", "std::net", "std::net::IpAddr", "std::net::TcpStream", "std::io::*"]
        );
        assert_eq!(named("pub use child;"), ["child"]);
    }

    #[test]
    fn a_path_in_the_code_is_found_and_a_lone_word_is_not() {
        assert_eq!(
            named("fn f(x: u8) -> a::B<c::D> { ::e::f::<g::H>(x); self.i(j) }"),
            ["a::B", "c::D", "e::f", "g::H"]
        );
    }

    #[test]
    fn a_path_knows_the_inline_module_it_is_in() {
        let found = paths("mod a { mod b { use super::X; } use super::Y; } use super::Z;");
        let inside: Vec<_> = found.iter().map(|path| path.inside.join("::")).collect();
        assert_eq!(inside, ["a::b", "a", ""]);
    }
}
