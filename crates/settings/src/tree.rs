//! The files as one tree of values, each knowing where it stands. Later files win: maps are merged, everything else
//! replaces.

use serde_yaml::Value as Yaml;

use crate::fault::Fault;
use crate::locate::{Aim, Step, locate};
use crate::source::Source;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the sources, from 0.
    pub(crate) source: usize,
    /// The way to it.
    pub(crate) steps: Vec<Step>,
}

impl Place {
    fn below(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { source: self.source, steps }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What is written. A key without a value (`null`) is as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it is shown.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// A value with a tag: `!name`.
    Tagged,
}

impl Value {
    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Tagged => "a value with a tag",
        }
    }
}

impl Node {
    /// The value of a key, if this is a map that has it and it is not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        let found = entries.iter().find(|(name, _)| name == key);
        found.map(|(_, node)| node).filter(|node| node.value != Value::Null)
    }

    fn merge(&mut self, later: Self) {
        match (&mut self.value, later.value) {
            (Value::Map(mine), Value::Map(theirs)) => {
                for (key, node) in theirs {
                    match mine.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, held)) => held.merge(node),
                        None => mine.push((key, node)),
                    }
                }
            }
            (_, value) => *self = Self { place: later.place, value },
        }
    }
}

/// Reads all sources into one tree. A source that is no YAML is left out and named in the faults.
pub(crate) fn read(sources: &[Source], faults: &mut Vec<Fault>) -> Node {
    let mut whole = Node { place: Place { source: 0, steps: Vec::new() }, value: Value::Map(Vec::new()) };
    for (index, source) in sources.iter().enumerate() {
        match parse(&source.text) {
            Ok(yaml) => {
                let place = Place { source: index, steps: Vec::new() };
                let node = grown(place, yaml, sources, faults);
                match node.value {
                    Value::Null => {}
                    Value::Map(_) => whole.merge(node),
                    Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Tagged => {
                        let what = format!("this is {}; write 'key: value' lines", node.value.kind());
                        faults.push(Fault {
                            file: source.path.clone(),
                            line: 1,
                            column: 1,
                            path: String::new(),
                            what,
                        });
                    }
                }
            }
            Err(error) => faults.push(syntax(source, &error)),
        }
    }
    whole
}

fn parse(text: &str) -> Result<Yaml, serde_yaml::Error> {
    // The library takes a text without a document for a cut one.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) { Ok(Yaml::Null) } else { serde_yaml::from_str(text) }
}

fn syntax(source: &Source, error: &serde_yaml::Error) -> Fault {
    let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    let said = error.to_string();
    // The place is told already, in front.
    let said = said.split(" at line ").next().unwrap_or_default();
    let what = format!("not readable as YAML: {said}; look at this line and the one above it");
    Fault { file: source.path.clone(), line, column, path: String::new(), what }
}

fn grown(place: Place, yaml: Yaml, sources: &[Source], faults: &mut Vec<Fault>) -> Node {
    let value = match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => Value::Number(number.to_string()),
        Yaml::String(text) => Value::Text(text),
        Yaml::Sequence(items) => {
            let item = |(index, yaml)| grown(place.below(Step::Item(index)), yaml, sources, faults);
            Value::List(items.into_iter().enumerate().map(item).collect())
        }
        Yaml::Mapping(entries) => {
            let mut map = Vec::new();
            for (key, yaml) in entries {
                if let Yaml::String(key) = key {
                    let node = grown(place.below(Step::Key(key.clone())), yaml, sources, faults);
                    map.push((key, node));
                } else if let Some(source) = sources.get(place.source) {
                    let (line, column) = locate(&source.text, &place.steps, Aim::Value);
                    let what =
                        "a key of this map is not text; keys are words, quote it if it is meant".to_owned();
                    faults.push(Fault {
                        file: source.path.clone(),
                        line,
                        column,
                        path: shown(&place.steps),
                        what,
                    });
                }
            }
            Value::Map(map)
        }
        Yaml::Tagged(_) => Value::Tagged,
    };
    Node { place, value }
}

/// A way as it is printed: `cluster.nodes[1].id`.
pub(crate) fn shown(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Item(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
        }
    }
    text
}
