//! Values read out of the tree with their types. A fault is noted and reading goes on, so that all of them are found.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use routing::Secret;

use crate::fault::Fault;
use crate::locate::{Aim, Step, locate};
use crate::source::Source;
use crate::tree::{Node, Place, Value, shown};
use crate::units;

/// A key that may or may not be written.
#[derive(Debug, Clone)]
pub(crate) struct At<'a> {
    node: Option<&'a Node>,
    /// The nearest thing that is written: where a missing key is reported.
    near: &'a Node,
    path: String,
}

impl<'a> At<'a> {
    /// The whole tree.
    pub(crate) fn top(root: &'a Node) -> Self {
        Self { node: Some(root), near: root, path: String::new() }
    }

    /// The key below.
    pub(crate) fn key(&self, key: &str) -> Self {
        let node = self.node.and_then(|node| node.get(key));
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { node, near: node.unwrap_or(self.near), path }
    }

    /// True if it is written.
    pub(crate) fn is_there(&self) -> bool {
        self.node.is_some()
    }

    /// The text that is written, for rules between keys; what is no text is noted by who reads it.
    pub(crate) fn quietly_text(&self) -> Option<&'a str> {
        let Some(Node { value: Value::Text(text), .. }) = self.node else { return None };
        Some(text)
    }

    /// True if it is not written, or an empty list. What is no list is noted as that already.
    pub(crate) fn has_no_items(&self) -> bool {
        self.node.is_none_or(|node| matches!(&node.value, Value::List(items) if items.is_empty()))
    }

    /// The items of a list; none if it is not written or no list.
    pub(crate) fn items(&self) -> Vec<Self> {
        let Some(Node { value: Value::List(items), .. }) = self.node else { return Vec::new() };
        let item =
            |(index, node)| Self { node: Some(node), near: node, path: format!("{}[{index}]", self.path) };
        items.iter().enumerate().map(item).collect()
    }
}

/// Reads, and notes what is wrong.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    sources: &'a [Source],
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    /// A reader of values that stand in `sources`, with the faults found so far.
    pub(crate) fn new(sources: &'a [Source], faults: Vec<Fault>) -> Self {
        Self { sources, faults }
    }

    /// All faults, in the order of the files.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        let position = |fault: &Fault| self.sources.iter().position(|source| source.path == fault.file);
        let mut faults = self.faults;
        faults.sort_by_cached_key(|fault| (position(fault), fault.line, fault.column));
        faults
    }

    /// Notes a fault of what stands at `place`.
    pub(crate) fn note(&mut self, place: &Place, aim: Aim, path: String, what: impl Into<String>) {
        let Some(source) = self.sources.get(place.source) else { return };
        let (line, column) = locate(&source.text, &place.steps, aim);
        self.faults.push(Fault { file: source.path.clone(), line, column, path, what: what.into() });
    }

    /// Notes a fault of a value, or of the place where it is missing.
    pub(crate) fn fault(&mut self, at: &At<'_>, what: impl Into<String>) {
        // What is missing is missing from something: point at that thing's key.
        let aim = if at.is_there() || !matches!(at.near.place.steps.last(), Some(Step::Key(_))) {
            Aim::Value
        } else {
            Aim::Key
        };
        self.note(&at.near.place, aim, at.path.clone(), what);
    }

    /// Notes a fault of a node that does not fit the table of keys.
    pub(crate) fn misfit(&mut self, node: &Node, is_key: bool, what: String) {
        let aim = if is_key { Aim::Key } else { Aim::Value };
        self.note(&node.place, aim, shown(&node.place.steps), what);
    }

    /// A value that must be written.
    pub(crate) fn required<T>(
        &mut self,
        at: &At<'a>,
        read: impl FnOnce(&mut Self, &At<'a>) -> Option<T>,
        remedy: &str,
    ) -> Option<T> {
        if at.is_there() {
            return read(self, at);
        }
        self.fault(at, format!("missing; {remedy}"));
        None
    }

    /// Text.
    pub(crate) fn text(&mut self, at: &At<'a>) -> Option<&'a str> {
        match &at.node?.value {
            Value::Text(text) => Some(text),
            Value::Number(number) => {
                self.fault(at, format!("this is the number {number}; write it in quotes: '{number}'"));
                None
            }
            other @ (Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) | Value::Tagged) => {
                self.fault(at, format!("this is {}; write text", other.kind()));
                None
            }
        }
    }

    /// Text that means something. The error of `parse` says what to do.
    pub(crate) fn parsed<T>(
        &mut self,
        at: &At<'a>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.text(at)?) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(at, what);
                None
            }
        }
    }

    /// A duration within bounds.
    pub(crate) fn duration(&mut self, at: &At<'a>, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let value = units::duration(self.with_unit(at)?);
        let (low, high) = (units::shown(*bounds.start()), units::shown(*bounds.end()));
        self.bounded(at, value, &bounds, &low, &high)
    }

    /// A size within bounds, given in words too.
    pub(crate) fn size(
        &mut self,
        at: &At<'a>,
        bounds: RangeInclusive<u64>,
        low: &str,
        high: &str,
    ) -> Option<u64> {
        let value = units::size(self.with_unit(at)?);
        self.bounded(at, value, &bounds, low, high)
    }

    /// A number within bounds.
    pub(crate) fn number(&mut self, at: &At<'a>, bounds: RangeInclusive<u64>) -> Option<u64> {
        let node = at.node?;
        let value = match &node.value {
            Value::Number(number) => {
                number.parse().map_err(|_| format!("{number} is not a whole number; write digits only"))
            }
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Tagged) => Err(format!("this is {}; write a whole number", other.kind())),
        };
        let (low, high) = (bounds.start().to_string(), bounds.end().to_string());
        self.bounded(at, value, &bounds, &low, &high)
    }

    fn bounded<T: PartialOrd>(
        &mut self,
        at: &At<'a>,
        value: Result<T, String>,
        bounds: &RangeInclusive<T>,
        low: &str,
        high: &str,
    ) -> Option<T> {
        let what = match value {
            Ok(value) if value < *bounds.start() => format!("too small; write {low} or more"),
            Ok(value) if value > *bounds.end() => format!("too large; write {high} or less"),
            Ok(value) => return Some(value),
            Err(what) => what,
        };
        self.fault(at, what);
        None
    }

    /// Text with a unit; a bare number is passed on as text, for its own remedy.
    fn with_unit(&mut self, at: &At<'a>) -> Option<&'a str> {
        match &at.node?.value {
            Value::Number(number) => Some(number),
            Value::Null
            | Value::Bool(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Tagged => self.text(at),
        }
    }

    /// True or false.
    pub(crate) fn flag(&mut self, at: &At<'a>) -> Option<bool> {
        match &at.node?.value {
            Value::Bool(value) => Some(*value),
            other @ (Value::Null
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Tagged) => {
                self.fault(at, format!("this is {}; write true or false", other.kind()));
                None
            }
        }
    }

    /// An address with a port.
    pub(crate) fn address(&mut self, at: &At<'a>) -> Option<SocketAddr> {
        let remedy = "write an IP address and a port: 127.0.0.1:2525 or '[::1]:2525'";
        self.parsed(at, |text| {
            text.parse().map_err(|_| format!("'{text}' is not an address with a port; {remedy}"))
        })
    }

    /// A secret, or where one stands. A fault does not show what is written.
    pub(crate) fn secret(&mut self, at: &At<'a>) -> Option<Secret> {
        let source = at.node.and_then(|node| self.sources.get(node.place.source));
        let base = source.and_then(|source| source.path.parent()).unwrap_or_else(|| std::path::Path::new(""));
        self.parsed(at, |text| {
            Secret::parse(text, base).ok_or_else(|| {
                "this is no secret; write '${file:PATH}', '${env:NAME}', or the secret itself".to_owned()
            })
        })
    }

    /// A path; a relative one starts from the directory of its file.
    pub(crate) fn path(&mut self, at: &At<'a>) -> Option<PathBuf> {
        let source = at.node.and_then(|node| self.sources.get(node.place.source));
        let base = source.and_then(|source| source.path.parent()).unwrap_or_else(|| std::path::Path::new(""));
        self.parsed(at, |text| {
            if text.is_empty() {
                Err("the path is empty; write one, or remove the key".to_owned())
            } else {
                Ok(base.join(text))
            }
        })
    }
}
