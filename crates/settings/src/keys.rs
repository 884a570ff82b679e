//! Every key there is: its form, its default, what it means. The reference page (`explain`), the check for unknown keys and the
//! suggestions for mistyped ones all come from this table.
//! It stands in one file for each part of the configuration.

mod cluster;
mod delivery;
mod intake;
mod row;
mod watching;

pub(crate) use self::row::{Key, Unset};

/// Every key, in the order of the reference page.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    [cluster::KEYS, intake::KEYS, delivery::KEYS, watching::KEYS].into_iter().flatten()
}

/// What stands at `path`, with `[]` for items: a value, or what leads further.
pub(crate) enum Shape {
    Leaf,
    Map,
    List,
    Unknown,
}

pub(crate) fn shape(path: &str) -> Shape {
    for key in keys() {
        if path.is_empty() {
            return Shape::Map;
        }
        match key.path.strip_prefix(path) {
            Some("") => return Shape::Leaf,
            Some(rest) if rest.starts_with('.') => return Shape::Map,
            Some(rest) if rest.starts_with('[') => return Shape::List,
            Some(_) | None => {}
        }
    }
    Shape::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_place_of_its_own_and_leads_to_nothing_further() {
        for key in keys() {
            assert!(matches!(shape(key.path), Shape::Leaf), "{}", key.path);
            assert_eq!(keys().filter(|other| other.path == key.path).count(), 1, "{}", key.path);
        }
    }
}
