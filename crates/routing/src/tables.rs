//! The tables of addresses: aliases, recipients, senders. Each maps patterns to values, and each may be out of reach; then
//! whoever needs it is told to come again, and nothing is decided without it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mail_model::{Domain, Mailbox, ReversePath};

use crate::lines::{Line, LineFault, lines};
use crate::next_hop::host_name;
use crate::pattern::{Index, Pattern};
use crate::table::Route;
use crate::target::Target;
use crate::tls::TlsPolicy;

/// A table that is needed cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the table cannot be read now")]
pub struct Unavailable;

/// Patterns and their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<V> {
    entries: Vec<(usize, Pattern, V)>,
    index: Index,
}

/// What a table says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a, V> {
    /// The line that matched, from 1.
    pub line: usize,
    /// Its pattern.
    pub pattern: &'a Pattern,
    /// Its value.
    pub value: &'a V,
}

impl<V> Table<V> {
    fn read(text: &str, value: impl Fn(&Line) -> Result<V, LineFault>) -> Result<Self, Vec<LineFault>> {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        for line in lines(text).map_err(|fault| vec![fault])? {
            let pattern = line.key.parse::<Pattern>().map_err(|error| line.fault(error.to_string()));
            match (pattern, value(&line)) {
                (Ok(pattern), Ok(value)) => entries.push((line.number, pattern, value)),
                (pattern, value) => faults.extend([pattern.err(), value.err()].into_iter().flatten()),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let index = Index::new(entries.iter().map(|(_, pattern, _)| pattern));
        Ok(Self { entries, index })
    }

    /// What it says about an address: the most specific line.
    #[must_use]
    pub fn find(&self, mailbox: &Mailbox) -> Option<Found<'_, V>> {
        let (line, pattern, value) = self.entries.get(self.index.find(mailbox)?)?;
        Some(Found { line: *line, pattern, value })
    }

    /// How many lines it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without a line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What an address becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// This one.
    Address(Mailbox),
    /// `@example.test`: the same local part there.
    Domain(Domain),
}

impl Rewrite {
    /// What `mailbox` becomes.
    #[must_use]
    pub fn apply(&self, mailbox: &Mailbox) -> Mailbox {
        match self {
            Self::Address(address) => address.clone(),
            // The local part was checked when `mailbox` was made, so this cannot fail.
            Self::Domain(domain) => {
                Mailbox::new(mailbox.local_part(), domain.clone()).unwrap_or_else(|_| mailbox.clone())
            }
        }
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

impl FromStr for Rewrite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("'{text}' is no address; write 'user@example.test' or '@example.test'");
        let (local_part, domain) = text.rsplit_once('@').ok_or_else(fault)?;
        let domain = host_name(domain).ok_or_else(fault)?;
        if local_part.is_empty() {
            return Ok(Self::Domain(domain));
        }
        // Without quotes only what RFC 5321 4.1.2 calls an atom with dots may stand there: nothing is guessed.
        let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        let quoted = local_part.len() > 1 && local_part.starts_with('"') && local_part.ends_with('"');
        if !quoted && !local_part.chars().all(atom) {
            return Err(fault());
        }
        Mailbox::new(local_part, domain).map(Self::Address).map_err(|_| fault())
    }
}

/// A table that is not asked for, is there, or cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Slot<V> {
    /// Nobody configured it.
    #[default]
    Unset,
    /// It is there.
    Loaded(Arc<Table<V>>),
    /// It is configured and could never be read.
    Unavailable,
}

impl<V> Slot<V> {
    /// What it says about an address.
    pub fn find(&self, mailbox: &Mailbox) -> Result<Option<Found<'_, V>>, Unavailable> {
        match self {
            Self::Unset => Ok(None),
            Self::Loaded(table) => Ok(table.find(mailbox)),
            Self::Unavailable => Err(Unavailable),
        }
    }
}

/// The tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// Who stands for whom.
    pub aliases: Slot<Vec<Rewrite>>,
    /// Who there is in the relay domains.
    pub recipients: Slot<()>,
    /// What senders become.
    pub senders: Slot<Rewrite>,
    /// Whom `<postmaster>` without a domain stands for, unless an alias says otherwise.
    pub postmaster: Option<Mailbox>,
}

impl Tables {
    /// What a sender becomes.
    pub fn sender(&self, path: &ReversePath) -> Result<ReversePath, Unavailable> {
        match path {
            // RFC 5321 4.5.5: the null path stays what it is.
            ReversePath::Null => Ok(ReversePath::Null),
            ReversePath::Mailbox(mailbox) => {
                let rewritten = self.senders.find(mailbox)?.map(|found| found.value.apply(mailbox));
                Ok(ReversePath::Mailbox(rewritten.unwrap_or_else(|| mailbox.clone())))
            }
        }
    }
}

/// Reads a table of aliases: `user@example.test  a@b.test, c@d.test`.
pub fn read_aliases(text: &str) -> Result<Table<Vec<Rewrite>>, Vec<LineFault>> {
    Table::read(text, |line| {
        let parts =
            line.value.split(',').map(|part| part.trim().parse().map_err(|what: String| line.fault(what)));
        parts.collect()
    })
}

/// Reads a table of recipients: a pattern a line, and anything behind it.
pub fn read_recipients(text: &str) -> Result<Table<()>, Vec<LineFault>> {
    let table = Table::read(text, |_| Ok(()))?;
    if table.is_empty() {
        // Half a copy, or a program that failed: no list of users is empty on purpose.
        let what =
            "the table is empty and would refuse everybody; write a line for each recipient".to_owned();
        return Err(vec![LineFault { line: 1, what }]);
    }
    Ok(table)
}

/// Reads a table of senders: `.inside.test  @example.test`.
pub fn read_senders(text: &str) -> Result<Table<Rewrite>, Vec<LineFault>> {
    Table::read(text, |line| line.value.parse().map_err(|what: String| line.fault(what)))
}

/// Reads a table of routes: `example.test  10.0.0.1:25  tls=encrypt`. Each with its line.
pub fn read_routes(text: &str) -> Result<Vec<(usize, Route)>, Vec<LineFault>> {
    let table = Table::read(text, |line| {
        let (target, tls) = match line.value.rsplit_once("tls=") {
            Some((target, tls)) => {
                let tls = tls.parse::<TlsPolicy>().map_err(|error| line.fault(error.to_string()))?;
                (target.trim(), Some(tls))
            }
            None => (line.value.as_str(), None),
        };
        let target: Target =
            target.parse().map_err(|error: crate::target::TargetError| line.fault(error.to_string()))?;
        if tls.as_ref().is_some_and(TlsPolicy::is_published) {
            // They rest on settings that are checked beside them.
            return Err(
                line.fault("a policy that domains publish stands in 'routes' of the configuration only")
            );
        }
        match (tls, target.next_hop().is_some_and(|hop| !hop.is_socket())) {
            (Some(tls), true) => Ok(target.with_tls(tls)),
            (Some(_), false) => Err(line.fault(format!("no TLS is spoken with '{target}'; remove 'tls='"))),
            (None, true) => Ok(target),
            (None, false) => Ok(target.with_tls(TlsPolicy::None)),
        }
    })?;
    let route = |(line, pattern, target)| (line, Route { pattern, target });
    Ok(table.entries.into_iter().map(route).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse_stored(text).unwrap()
    }

    #[test]
    fn every_faulty_line_is_told_with_its_number() {
        let faults =
            read_aliases("a@b.test c@d.test\n-bad x\n/(/ a@b.test\nb@b.test c d@e.test\n").unwrap_err();
        let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [2, 2, 3, 4], "{faults:?}");
        assert!(read_recipients("# nobody\n").is_err(), "an empty list of users is a mistake");
        assert!(read_routes("a.test lmtp:unix:/x tls=encrypt\n").is_err());
    }

    #[test]
    fn a_sender_domain_is_masked_and_the_null_path_never() {
        let text = ".inside.test @example.test\nroot@host.inside.test admin@example.test\n";
        let tables =
            Tables { senders: Slot::Loaded(Arc::new(read_senders(text).unwrap())), ..Tables::default() };
        let becomes = |text: &str| tables.sender(&ReversePath::Mailbox(mailbox(text))).unwrap().to_string();
        assert_eq!(becomes("joe@host.inside.test"), "joe@example.test");
        assert_eq!(becomes("root@host.inside.test"), "admin@example.test");
        assert_eq!(becomes("joe@inside.test"), "joe@inside.test");
        assert_eq!(tables.sender(&ReversePath::Null), Ok(ReversePath::Null));
        let gone = Tables { senders: Slot::Unavailable, ..Tables::default() };
        assert_eq!(gone.sender(&ReversePath::Mailbox(mailbox("a@b.test"))), Err(Unavailable));
    }

    #[test]
    fn routes_of_a_file_have_their_line_and_their_tls() {
        let routes =
            read_routes("# x\na.test 10.0.0.1, b.test:26 tls=encrypt\nb.test error: 5.1.1 gone\n").unwrap();
        let shown: Vec<String> =
            routes.iter().map(|(line, route)| format!("{line} {}", route.target)).collect();
        assert_eq!(shown, ["2 10.0.0.1:25, b.test:26", "3 error: 5.1.1 gone"]);
        assert_eq!(routes[0].1.target.next_hop().unwrap().tls(), &TlsPolicy::Encrypt);
    }
}
