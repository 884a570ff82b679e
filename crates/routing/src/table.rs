//! The table of routes: which next hop an address has. Those of the configuration come first, then those of a file.

use mail_model::Mailbox;

use crate::pattern::{Index, Pattern};
use crate::target::Target;

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
pub struct Routes {
    all: Vec<Route>,
    /// How many of them are the configuration's; the others came from a file, each from this line of it.
    own: usize,
    lines: Vec<usize>,
    index: Index,
    /// The file cannot be had. Nothing is routed then: what a missing line says cannot be known.
    is_blocked: bool,
}

impl Routes {
    /// A table of these, in the order they are listed.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let index = Index::new(routes.iter().map(|route| &route.pattern));
        Self { own: routes.len(), all: routes, lines: Vec::new(), index, is_blocked: false }
    }

    /// The configuration's routes, and behind them those of a file, each with its line. `None` if the file cannot be had:
    /// then nothing has a route.
    #[must_use]
    pub fn with_file(&self, file: Option<Vec<(usize, Route)>>) -> Self {
        let is_blocked = file.is_none();
        let (lines, more): (Vec<_>, Vec<_>) = file.unwrap_or_default().into_iter().unzip();
        let all: Vec<Route> = self.all.iter().take(self.own).cloned().chain(more).collect();
        let index = Index::new(all.iter().map(|route| &route.pattern));
        Self { all, own: self.own, lines, index, is_blocked }
    }

    /// The routes in the order they are listed.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.all.iter()
    }

    /// False while the file of routes cannot be had.
    #[must_use]
    pub fn are_known(&self) -> bool {
        !self.is_blocked
    }

    /// The route of an address; `None` if no pattern matches it, or if not all routes are known.
    #[must_use]
    pub fn find(&self, mailbox: &Mailbox) -> Option<&Route> {
        self.best(mailbox).map(|(_, route)| route)
    }

    /// The winner and its position, from 0.
    fn best(&self, mailbox: &Mailbox) -> Option<(usize, &Route)> {
        let position = self.index.find(mailbox).filter(|_| !self.is_blocked)?;
        self.all.get(position).map(|route| (position, route))
    }

    /// Which route an address has, and what that means, a line each.
    #[must_use]
    pub fn explain(&self, mailbox: &Mailbox) -> Vec<String> {
        if self.is_blocked {
            return vec!["routes: the table of routes cannot be read, so mail waits until it can".to_owned()];
        }
        let Some((position, route)) = self.best(mailbox) else {
            return vec![format!(
                "{mailbox} has no route: add one to 'routes', for example with match: \"*\""
            )];
        };
        let file = position.checked_sub(self.own).and_then(|position| self.lines.get(position));
        let place = match file {
            Some(line) => format!("tables.routes line {line}"),
            None => format!("route {}", position + 1),
        };
        let fate = match &route.target {
            Target::Hop(hop) => {
                let tls = if hop.is_socket() { String::new() } else { format!(", tls: {}", hop.tls()) };
                format!("{mailbox} goes to {hop}{tls}")
            }
            Target::Discard => format!("{mailbox} is taken and discarded"),
            Target::Hold => {
                format!("{mailbox} is taken and held until an operator deletes it or its route changes")
            }
            Target::Error(refusal) => format!("{mailbox} is refused: {}", refusal.reply()),
        };
        vec![format!("{place}: '{}' is the most specific that matches", route.pattern), fate]
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
            ("/^any[0-9]+@/", "numbered"),
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
            ("any12@elsewhere.invalid", "numbered:25"),
            ("any1@example.test", "numbered:25"),
            ("any@elsewhere.invalid", "any:25"),
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
            ["a@b.test has no route: add one to 'routes', for example with match: \"*\""]
        );
    }

    #[test]
    fn the_explanation_names_the_winner_that_find_gives() {
        let routes = table(&[("*", "any"), ("b.test", "first"), ("b.test", "second")]);
        assert_eq!(
            routes.explain(&mailbox("a@b.test")),
            ["route 2: 'b.test' is the most specific that matches", "a@b.test goes to first:25, tls: may"]
        );
    }

    #[test]
    fn a_file_adds_routes_and_without_it_nothing_is_routed() {
        let own = table(&[("*", "any"), ("b.test", "own")]);
        let line = |number, pattern: &str, target: &str| {
            (number, Route { pattern: pattern.parse().unwrap(), target: target.parse().unwrap() })
        };
        let file = vec![line(3, "b.test", "file"), line(4, "a@b.test", "discard")];
        let both = own.with_file(Some(file));
        assert_eq!(goes_to(&both, "x@b.test").as_deref(), Some("own:25"), "the configuration comes first");
        assert_eq!(goes_to(&both, "a@b.test").as_deref(), Some("discard"));
        assert_eq!(
            both.explain(&mailbox("a@b.test"))[0],
            "tables.routes line 4: 'a@b.test' is the most specific that matches"
        );
        let blocked = both.with_file(None);
        assert!(!blocked.are_known());
        assert_eq!(goes_to(&blocked, "x@b.test"), None);
        assert_eq!(blocked.with_file(Some(Vec::new())), own);
    }
}
