//! What is written and fits no key: found, and answered with the key that was meant.

use crate::keys::{Shape, keys, shape};
use crate::tree::{Node, Value};

/// Something in the tree that does not fit the table.
pub(crate) struct Misfit<'a> {
    pub(crate) node: &'a Node,
    /// The key is wrong, not its value.
    pub(crate) is_key: bool,
    pub(crate) what: String,
}

/// Walks the tree and reports every unknown key, and every map or list that is not one.
pub(crate) fn misfits<'a>(node: &'a Node, path: &str, found: &mut Vec<Misfit<'a>>) {
    match (shape(path), &node.value) {
        (_, Value::Null) | (Shape::Leaf | Shape::Unknown, _) => {}
        (Shape::Map, Value::Map(entries)) => {
            for (name, child) in entries {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                // A dot or bracket in a key would be taken for a way.
                let known = !name.contains(['.', '[']) && !matches!(shape(&below), Shape::Unknown);
                if known {
                    misfits(child, &below, found);
                } else {
                    found.push(Misfit { node: child, is_key: true, what: unknown(path, name) });
                }
            }
        }
        (Shape::List, Value::List(items)) => {
            for item in items {
                misfits(item, &format!("{path}[]"), found);
            }
        }
        (Shape::Map, other) => {
            let what =
                format!("this is {}; write its keys below it: {}", other.kind(), children(path).join(", "));
            found.push(Misfit { node, is_key: false, what });
        }
        (Shape::List, other) => {
            let what =
                format!("this is {}; write a list, for example [ … ] or lines with '- '", other.kind());
            found.push(Misfit { node, is_key: false, what });
        }
    }
}

/// The keys that may stand in the map at `path`.
fn children(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for key in keys() {
        let below = if path.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = below.and_then(|rest| rest.split(['.', '[']).next());
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.push(name);
        }
    }
    names
}

fn unknown(path: &str, name: &str) -> String {
    let siblings = children(path);
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let near = siblings.iter().map(|known| (distance(&lower, known), *known)).min();
    if let Some((steps, known)) = near
        && steps <= 1 + known.len() / 4
    {
        return format!("unknown key '{name}'; did you mean '{known}'?");
    }
    let elsewhere = keys().find(|key| key.path.trim_end_matches("[]").rsplit('.').next() == Some(&lower));
    match elsewhere {
        Some(key) => format!("unknown key '{name}' here; did you mean '{}'?", key.path),
        None => format!("unknown key '{name}'; remove it, known here: {}", siblings.join(", ")),
    }
}

/// Letters to add, remove or change from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.chars().zip(row.iter().skip(1)) {
            left = (left + 1).min(above + 1).min(diagonal + usize::from(from != to));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_two_words_counts_letters() {
        assert_eq!(distance("listners", "listeners"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
