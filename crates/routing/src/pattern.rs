//! What a line of a table is for, and how the line of an address is found.
//!
//! The most specific pattern wins: the address, a regular expression, its domain, the longest parent domain, any. Among
//! equals the first one listed. The order matters only between equals, so a general line on top hides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mail_model::{Domain, Mailbox};

use crate::next_hop::host_name;

/// Bytes that a compiled expression may take.
const EXPRESSION_SIZE_MAX: usize = 1 << 18;

/// Why a text is not a pattern. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is of no form.
    #[error(
        "'{0}' matches nothing; write '*', 'example.test', '.example.test', 'user@example.test' or '/expression/'"
    )]
    Form(String),
    /// Between slashes, but no expression.
    #[error("{0} is no regular expression: {1}")]
    Expression(String, String),
}

/// A regular expression, looked for anywhere in an address whose domain is in lower case. Two are equal if they are
/// written alike.
#[derive(Debug, Clone)]
pub struct Expression(regex::Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

/// What a line is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `*`: every address.
    Any,
    /// `example.test`: this domain, not those below it.
    Domain(Domain),
    /// `.example.test` or `*.example.test`: every domain below this one, not itself.
    Subdomains(Domain),
    /// `user@example.test`: one address; the case of the local part matters. RFC 5321 2.4.
    Address(Mailbox),
    /// `/^sales-.*@example\\.test$/`.
    Expression(Expression),
}

/// True for `a.example.test` below `example.test`; false for `example.test` itself and for `badexample.test`.
pub(crate) fn is_below(domain: &Domain, parent: &Domain) -> bool {
    let rest = domain.as_str().strip_suffix(parent.as_str());
    rest.and_then(|rest| rest.strip_suffix('.')).is_some_and(|label| !label.is_empty())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Domain(domain) => domain.fmt(f),
            Self::Subdomains(parent) => write!(f, ".{parent}"),
            Self::Address(address) => address.fmt(f),
            Self::Expression(expression) => write!(f, "/{}/", expression.0.as_str()),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fault = || PatternError::Form(text.to_owned());
        let domain = |name| host_name(name).ok_or_else(fault);
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(expression) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            let built = regex::RegexBuilder::new(expression).size_limit(EXPRESSION_SIZE_MAX).build();
            let said = |error: regex::Error| {
                let line = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                PatternError::Expression(text.to_owned(), line)
            };
            return built.map(|built| Self::Expression(Expression(built))).map_err(said);
        }
        if let Some((local_part, name)) = text.rsplit_once('@') {
            return Mailbox::new(local_part, domain(name)?).map(Self::Address).map_err(|_| fault());
        }
        match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            Some(parent) => domain(parent).map(Self::Subdomains),
            None => domain(text).map(Self::Domain),
        }
    }
}

/// Finds the line of an address without looking at every line. Lines are known by their position, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    addresses: BTreeMap<Mailbox, usize>,
    domains: BTreeMap<Domain, usize>,
    parents: BTreeMap<Domain, usize>,
    expressions: Vec<(Expression, usize)>,
    any: Option<usize>,
}

impl Index {
    /// An index of these, in the order they are listed.
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let mut index = Self::default();
        for (position, pattern) in patterns.enumerate() {
            match pattern {
                Pattern::Any => {
                    index.any.get_or_insert(position);
                }
                Pattern::Domain(domain) => {
                    index.domains.entry(domain.clone()).or_insert(position);
                }
                Pattern::Subdomains(parent) => {
                    index.parents.entry(parent.clone()).or_insert(position);
                }
                Pattern::Address(address) => {
                    index.addresses.entry(address.clone()).or_insert(position);
                }
                Pattern::Expression(expression) => index.expressions.push((expression.clone(), position)),
            }
        }
        index
    }

    /// The position of the line that wins.
    pub(crate) fn find(&self, mailbox: &Mailbox) -> Option<usize> {
        let domain = mailbox.domain();
        let expression = || {
            if self.expressions.is_empty() {
                return None;
            }
            let text = mailbox.to_string();
            self.expressions.iter().find(|(expression, _)| expression.0.is_match(&text)).map(|(_, at)| *at)
        };
        self.addresses
            .get(mailbox)
            .copied()
            .or_else(expression)
            .or_else(|| self.domains.get(domain?).copied())
            .or_else(|| self.parent(domain?))
            .or(self.any)
    }

    /// The longest parent comes first.
    fn parent(&self, domain: &Domain) -> Option<usize> {
        if self.parents.is_empty() || domain.is_literal() {
            return None;
        }
        let mut rest = domain.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(position) = Domain::new(parent).ok().and_then(|parent| self.parents.get(&parent)) {
                return Some(*position);
            }
            rest = parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_could_match_nothing_is_refused() {
        for bad in
            ["", ".", "*.", "**", "a b", "@example.test", "user@", "user@*", "example.test.", "10.0.0.1", "/"]
        {
            let said = bad.parse::<Pattern>().unwrap_err().to_string();
            assert!(said.contains("write '*'"), "{bad:?}: {said}");
        }
    }

    #[test]
    fn an_expression_is_bounded_and_a_faulty_one_is_told() {
        let told = |text: &str| text.parse::<Pattern>().unwrap_err().to_string();
        assert!(told("/(/").contains("no regular expression"), "{}", told("/(/"));
        assert!(
            told("/((a{1000}){1000}){1000}/").contains("size limit"),
            "{}",
            told("/((a{1000}){1000}){1000}/")
        );
        assert_eq!("/^a/".parse::<Pattern>().unwrap().to_string(), "/^a/");
    }
}
