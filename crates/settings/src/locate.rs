//! Line and column of a key or a value in a YAML text.
//!
//! The YAML library tells a place only with an error. So the text is read once more by a reader that walks to the value
//! wanted and fails right there: the library's own scanner then says where that is, in block and in flow style, behind
//! quotes and comments alike. Faults are few and files are short.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step down into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list, from 0.
    Item(usize),
}

/// What is pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The key that leads there.
    Key,
    /// The value.
    Value,
}

/// Line and column, from 1, of what `steps` lead to; of the deepest thing on the way that exists.
pub(crate) fn locate(text: &str, steps: &[Step], aim: Aim) -> (usize, usize) {
    let walk = Walk { steps, aim };
    let failed = walk.deserialize(serde_yaml::Deserializer::from_str(text)).err();
    failed.and_then(|error| error.location()).map_or((1, 1), |place| (place.line(), place.column()))
}

/// Fails at its goal, so that the library says where that is. Succeeds only if the goal is not there.
#[derive(Clone, Copy)]
struct Walk<'a> {
    steps: &'a [Step],
    aim: Aim,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            deserializer.deserialize_any(Here)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("here"));
        };
        let stop = rest.is_empty() && self.aim == Aim::Key;
        while let Some(found) = map.next_key_seed(Key { wanted, stop })? {
            if found {
                map.next_value_seed(Walk { steps: rest, aim: self.aim })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("not there: its map is"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Item(wanted), rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Walk { steps: rest, aim: self.aim })?;
        Err(A::Error::custom("not there: its list is"))
    }
}

/// Accepts nothing: every default of `Visitor` is an error.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// Compares a key; fails at the wanted one if that is the goal.
struct Key<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        if self.stop && key == self.wanted { Err(E::custom("here")) } else { Ok(key == self.wanted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
# a comment
cluster:
  id: demo
  nodes:
    - { id: a, heartbeat: [127.0.0.1:1, 127.0.0.1:2] }
    - id: b   # the other
      \"control\": 127.0.0.1:7202
node: {id: a,
   state_dir:   'state/a'}
note: |
  id: not a key
  node: neither
listeners: []
";

    fn steps(path: &[&str]) -> Vec<Step> {
        let step = |s: &&str| s.parse().map_or_else(|_| Step::Key((*s).to_owned()), Step::Item);
        path.iter().map(step).collect()
    }

    #[test]
    fn keys_and_values_are_found_in_block_and_in_flow_style() {
        let cases: [(&[&str], Aim, (usize, usize)); 11] = [
            (&["cluster"], Aim::Key, (2, 1)),
            (&["cluster", "id"], Aim::Key, (3, 3)),
            (&["cluster", "id"], Aim::Value, (3, 7)),
            (&["cluster", "nodes", "0", "heartbeat"], Aim::Key, (5, 16)),
            (&["cluster", "nodes", "0", "heartbeat", "1"], Aim::Value, (5, 41)),
            (&["cluster", "nodes", "1", "id"], Aim::Value, (6, 11)),
            (&["cluster", "nodes", "1", "control"], Aim::Key, (7, 7)),
            (&["node", "id"], Aim::Key, (8, 8)),
            (&["node", "state_dir"], Aim::Value, (9, 17)),
            (&["node"], Aim::Value, (8, 7)),
            (&["listeners"], Aim::Value, (13, 12)),
        ];
        for (path, aim, wanted) in cases {
            assert_eq!(locate(TEXT, &steps(path), aim), wanted, "{path:?} {aim:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_placed_at_the_deepest_thing_that_is() {
        assert_eq!(locate(TEXT, &steps(&["node", "hostname"]), Aim::Value).0, 8);
        assert_eq!(locate(TEXT, &steps(&["listeners", "3"]), Aim::Value), (13, 12));
        assert_eq!(locate(TEXT, &steps(&["cluster", "id", "deeper"]), Aim::Value), (3, 7));
        assert_eq!(locate("", &steps(&["node"]), Aim::Value), (1, 1));
    }

    proptest! {
        #[test]
        fn no_text_and_no_way_into_it_ends_in_a_panic(text in "[a-c:\\[\\]{}, \n'\"|&*!-]{0,60}", key in "[a-c]") {
            let (line, column) = locate(&text, &[Step::Key(key), Step::Item(1)], Aim::Key);
            prop_assert!(line >= 1 && column >= 1);
        }
    }
}
