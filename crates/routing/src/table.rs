//! The table of routes: which next hop an address has.
//!
//! The most specific pattern wins: the address, its domain, the longest parent domain, any. Among equals the first one
//! listed. The order of the file matters only between equals, so a general route on top hides nothing.

use std::fmt;
use std::str::FromStr;

use mail_model::{Domain, Mailbox};

use crate::next_hop::host_name;
use crate::target::Target;

/// Why a text is not a pattern. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' matches nothing; write '*', 'example.test', '.example.test' or 'user@example.test'")]
pub struct PatternError(String);

/// What a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: every address.
    Any,
    /// `example.test`: this domain, not those below it.
    Domain(Domain),
    /// `.example.test` or `*.example.test`: every domain below this one, not itself.
    Subdomains(Domain),
    /// `user@example.test`: one address; the case of the local part matters. RFC 5321 2.4.
    Address(Mailbox),
}

/// How specific a match is; a greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Any,
    /// Bytes of the parent domain.
    Subdomains(usize),
    Domain,
    Address,
}

impl Pattern {
    fn matches(&self, mailbox: &Mailbox) -> Option<Specificity> {
        match self {
            Self::Any => Some(Specificity::Any),
            Self::Domain(domain) => (mailbox.domain() == Some(domain)).then_some(Specificity::Domain),
            Self::Subdomains(parent) => mailbox
                .domain()
                .filter(|domain| is_below(domain, parent))
                .map(|_| Specificity::Subdomains(parent.as_str().len())),
            Self::Address(address) => (mailbox == address).then_some(Specificity::Address),
        }
    }
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
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fault = || PatternError(text.to_owned());
        let domain = |name| host_name(name).ok_or_else(fault);
        if text == "*" {
            return Ok(Self::Any);
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

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it is for.
    pub pattern: Pattern,
    /// What becomes of that.
    pub target: Target,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// A table of these, in the order they are listed.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// The routes in the order they are listed.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The route of an address; `None` if no pattern matches it.
    #[must_use]
    pub fn find(&self, mailbox: &Mailbox) -> Option<&Route> {
        self.best(mailbox).map(|(_, route)| route)
    }

    /// The winner and its position, from 0.
    fn best(&self, mailbox: &Mailbox) -> Option<(usize, &Route)> {
        let mut best: Option<(Specificity, usize, &Route)> = None;
        for (index, route) in self.0.iter().enumerate() {
            let Some(specificity) = route.pattern.matches(mailbox) else { continue };
            // Only a more specific one replaces: the first listed wins among equals.
            if best.is_none_or(|(held, ..)| specificity > held) {
                best = Some((specificity, index, route));
            }
        }
        best.map(|(_, index, route)| (index, route))
    }

    /// What each route says to an address, a line each, and then the answer.
    #[must_use]
    pub fn explain(&self, mailbox: &Mailbox) -> Vec<String> {
        let best = self.best(mailbox);
        let mut lines: Vec<String> = Vec::new();
        for (index, route) in self.0.iter().enumerate() {
            let verdict = match route.pattern.matches(mailbox) {
                None => "does not match",
                Some(_) if best.is_some_and(|(winner, _)| winner == index) => {
                    "matches, and is the most specific"
                }
                Some(_) => "matches, but another is more specific or listed first",
            };
            lines.push(format!("route {}: '{}' {verdict}", index + 1, route.pattern));
        }
        lines.push(match best {
            Some((_, route)) => match &route.target {
                Target::Hop(hop) => format!("{mailbox} goes to {hop}"),
                Target::Discard => format!("{mailbox} is taken and discarded"),
                Target::Hold => {
                    format!("{mailbox} is taken and held until an operator deletes it or its route changes")
                }
                Target::Error(refusal) => format!("{mailbox} is refused: {}", refusal.reply()),
            },
            None => format!("{mailbox} has no route: add one to 'routes', for example with match: \"*\""),
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse_stored(text).unwrap()
    }

    fn table(routes: &[(&str, &str)]) -> Routes {
        let route = |(pattern, next_hop): &(&str, &str)| Route {
            pattern: pattern.parse().unwrap(),
            target: next_hop.parse().unwrap(),
        };
        Routes::new(routes.iter().map(route).collect())
    }

    fn goes_to(routes: &Routes, address: &str) -> Option<String> {
        routes.find(&mailbox(address)).map(|route| route.target.to_string())
    }

    #[test]
    fn the_most_specific_pattern_wins_wherever_it_stands() {
        let routes = table(&[
            ("*", "any"),
            (".test", "below-test"),
            ("*.example.test", "below-example"),
            ("Example.TEST", "example"),
            ("example.test", "second"),
            ("User@example.test", "user"),
        ]);
        let cases = [
            ("a@elsewhere.invalid", "any:25"),
            ("a@other.test", "below-test:25"),
            ("a@badexample.test", "below-test:25"),
            ("a@EXAMPLE.test", "example:25"),
            ("a@deep.mail.example.test", "below-example:25"),
            ("User@EXAMPLE.test", "user:25"),
            ("user@example.test", "example:25"),
            ("postmaster", "any:25"),
        ];
        for (address, wanted) in cases {
            assert_eq!(goes_to(&routes, address).as_deref(), Some(wanted), "{address}");
        }
    }

    #[test]
    fn without_a_matching_route_there_is_none_and_the_explanation_says_what_to_add() {
        let routes = table(&[("example.test", "a")]);
        assert_eq!(goes_to(&routes, "a@sub.example.test"), None);
        assert_eq!(goes_to(&routes, "postmaster"), None);
        assert_eq!(
            routes.explain(&mailbox("a@b.test")),
            [
                "route 1: 'example.test' does not match",
                "a@b.test has no route: add one to 'routes', for example with match: \"*\""
            ]
        );
    }

    #[test]
    fn the_explanation_names_the_winner_that_find_gives() {
        let routes = table(&[("*", "any"), ("b.test", "first"), ("b.test", "second")]);
        assert_eq!(
            routes.explain(&mailbox("a@b.test")),
            [
                "route 1: '*' matches, but another is more specific or listed first",
                "route 2: 'b.test' matches, and is the most specific",
                "route 3: 'b.test' matches, but another is more specific or listed first",
                "a@b.test goes to first:25",
            ]
        );
    }

    #[test]
    fn a_pattern_that_could_match_nothing_is_refused() {
        for bad in
            ["", ".", "*.", "**", "a b", "@example.test", "user@", "user@*", "example.test.", "10.0.0.1"]
        {
            let said = bad.parse::<Pattern>().unwrap_err().to_string();
            assert!(said.contains("write '*'"), "{bad:?}: {said}");
        }
    }
}
