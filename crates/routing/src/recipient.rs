//! A recipient through the tables: who he stands for, whether there is such a person, and whether his route refuses him.
//!
//! Aliases are followed until an address has none, or stands for itself. One that leads back to an address on its own way,
//! that goes too deep, or that becomes too many is a mistake of the table: the client is told to come again, so that
//! nothing is lost until somebody has corrected it.

use std::collections::BTreeSet;

use mail_model::{Mailbox, Notify, OriginalRecipient, Recipient};

use crate::relay::RelayPolicy;
use crate::table::Routes;
use crate::tables::{Rewrite, Tables, Unavailable};
use crate::target::{Refusal, Target};

/// Aliases that may lead to one another.
const DEPTH_MAX: usize = 20;
/// Addresses that one recipient may become.
const ADDRESSES_MAX: usize = 1_000;
/// Addresses that all recipients of a message may become, and the bytes they may have: they are one record.
const ENVELOPE_ADDRESSES_MAX: usize = 10_000;
const ENVELOPE_BYTES_MAX: usize = 512 << 10;

/// Why an alias leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// There is no table now.
    #[error("the table of aliases cannot be read now")]
    Unavailable,
    /// It comes back to this address.
    #[error("its aliases lead back to {0}")]
    Loop(Mailbox),
    /// More than [`DEPTH_MAX`].
    #[error("its aliases lead on and on, at {0}")]
    Deep(Mailbox),
    /// More than are allowed.
    #[error("its aliases are too many")]
    Many,
}

impl From<Unavailable> for AliasError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

#[derive(Debug, Default)]
struct Expansion {
    found: Vec<Mailbox>,
    seen: BTreeSet<Mailbox>,
    way: Vec<Mailbox>,
    /// Each step, for people.
    steps: Vec<String>,
}

impl Expansion {
    fn follow(&mut self, tables: &Tables, mailbox: &Mailbox) -> Result<(), AliasError> {
        let Some(entry) = tables.aliases.find(mailbox)? else {
            // RFC 5321 4.5.1: its mail is taken everywhere, so it needs somewhere to go.
            let Some(home) = tables.postmaster.as_ref().filter(|_| mailbox.domain().is_none()) else {
                return self.arrive(mailbox);
            };
            self.steps.push(format!("bounces.postmaster: {mailbox} without a domain stands for {home}"));
            return self.follow(tables, home);
        };
        if self.way.len() >= DEPTH_MAX {
            return Err(AliasError::Deep(mailbox.clone()));
        }
        self.way.push(mailbox.clone());
        let to = entry.value.iter().map(Rewrite::to_string).collect::<Vec<_>>().join(", ");
        let (line, pattern) = (entry.line, entry.pattern);
        self.steps.push(format!("tables.aliases line {line}: '{pattern}' turns {mailbox} into {to}"));
        for rewrite in entry.value {
            let next = rewrite.apply(mailbox);
            if next == *mailbox {
                // A copy to somebody else, and one stays here.
                self.arrive(&next)?;
            } else if self.way.contains(&next) {
                return Err(AliasError::Loop(next));
            } else {
                self.follow(tables, &next)?;
            }
        }
        self.way.pop();
        Ok(())
    }

    fn arrive(&mut self, mailbox: &Mailbox) -> Result<(), AliasError> {
        if self.seen.insert(mailbox.clone()) {
            self.found.push(mailbox.clone());
        }
        if self.found.len() > ADDRESSES_MAX { Err(AliasError::Many) } else { Ok(()) }
    }
}

/// Where mail for an address goes in the end, each address once; the address alone if it has no alias.
pub fn follow(tables: &Tables, mailbox: &Mailbox) -> Result<Vec<Mailbox>, AliasError> {
    let mut expansion = Expansion::default();
    expansion.follow(tables, mailbox)?;
    Ok(expansion.found)
}

/// The recipients of a message after their aliases, each address once. What a sender wants to know of a recipient it wants
/// to know of all that he stands for, by the name that it wrote. Of success it is told once: one of several addresses stands for
/// all. RFC 3461 5.2.7.
pub fn expand(tables: &Tables, recipients: Vec<Recipient>) -> Result<Vec<Recipient>, AliasError> {
    let mut expanded: Vec<Recipient> = Vec::with_capacity(recipients.len());
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for recipient in recipients {
        let addresses = follow(tables, &recipient.address)?;
        let stays = addresses == std::slice::from_ref(&recipient.address);
        let several = addresses.len() > 1;
        let mut told_by_another = false;
        for address in addresses {
            if !seen.insert(address.clone()) {
                continue;
            }
            let written = || OriginalRecipient {
                address_type: if recipient.address.is_international() { "utf-8" } else { "rfc822" }.into(),
                address: recipient.address.to_string().into(),
            };
            let original = if stays {
                recipient.original.clone()
            } else {
                recipient.original.clone().or_else(|| Some(written()))
            };
            bytes +=
                address.to_string().len() + original.as_ref().map_or(0, |original| original.address.len());
            if expanded.len() >= ENVELOPE_ADDRESSES_MAX || (!stays && bytes > ENVELOPE_BYTES_MAX) {
                return Err(AliasError::Many);
            }
            let tells = several && recipient.wants_success() && !told_by_another;
            let notify = recipient
                .notify
                .map(|notify| Notify { success: notify.success && !told_by_another, ..notify });
            told_by_another |= tells;
            expanded.push(Recipient { address, notify, original, expanded: tells });
        }
    }
    Ok(expanded)
}

/// What a client is told about a recipient that it may send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// He is taken.
    Taken,
    /// There is no such person in a domain of ours.
    Unknown,
    /// A table cannot be had: nobody knows.
    Unavailable,
    /// His aliases are a mistake.
    Alias(AliasError),
    /// His route refuses him.
    Refused(Refusal),
}

/// Judges a recipient whose domain was judged already.
#[must_use]
pub fn judge(relay: &RelayPolicy, tables: &Tables, routes: &Routes, mailbox: &Mailbox) -> Judgement {
    let addresses = match follow(tables, mailbox) {
        Ok(addresses) => addresses,
        Err(AliasError::Unavailable) => return Judgement::Unavailable,
        Err(error) => return Judgement::Alias(error),
    };
    // Who has an alias is known by it. In foreign domains it is not ours to know.
    let has_alias = addresses != std::slice::from_ref(mailbox);
    if !has_alias && mailbox.domain().is_some_and(|domain| relay.is_ours(domain)) {
        match known(tables, mailbox) {
            Ok(true) => {}
            Ok(false) => return Judgement::Unknown,
            Err(Unavailable) => return Judgement::Unavailable,
        }
    }
    if let [only] = addresses.as_slice()
        && let Some(Target::Error(refusal)) = routes.find(only).map(|route| &route.target)
    {
        return Judgement::Refused(refusal.clone());
    }
    Judgement::Taken
}

fn known(tables: &Tables, mailbox: &Mailbox) -> Result<bool, Unavailable> {
    let has_table = tables.recipients != crate::tables::Slot::Unset;
    // RFC 5321 4.5.1: mail to the postmaster is taken everywhere.
    let is_postmaster = mailbox.local_part().eq_ignore_ascii_case("postmaster");
    Ok(!has_table || is_postmaster || tables.recipients.find(mailbox)?.is_some())
}

/// Every step of a recipient through the tables, a line each.
#[must_use]
pub fn explain(relay: &RelayPolicy, tables: &Tables, routes: &Routes, mailbox: &Mailbox) -> Vec<String> {
    let mut told = Vec::new();
    let ours = mailbox.domain().is_some_and(|domain| relay.is_ours(domain));
    told.push(if ours {
        format!("relay: everybody may send to {mailbox}, its domain is one of relay.domains")
    } else if mailbox.domain().is_none() {
        format!("relay: everybody may send to {mailbox}, as every server must take its mail (RFC 5321 4.5.1)")
    } else {
        format!("relay: only clients of relay.trusted_networks may send to {mailbox}")
    });
    let mut expansion = Expansion::default();
    let outcome = expansion.follow(tables, mailbox);
    told.append(&mut expansion.steps.clone());
    if let Err(error) = outcome {
        told.push(format!("{mailbox} is put off with 451: {error}"));
        return told;
    }
    if ours && expansion.steps.is_empty() {
        match tables.recipients.find(mailbox) {
            Ok(Some(found)) => told
                .push(format!("tables.recipients line {}: '{}' knows {mailbox}", found.line, found.pattern)),
            Ok(None) if tables.recipients == crate::tables::Slot::Unset => {}
            Ok(None) => told
                .push(format!("tables.recipients: no line knows {mailbox}, so it is refused with 550 5.1.1")),
            Err(Unavailable) => {
                told.push(format!("tables.recipients cannot be read, so {mailbox} is put off with 450"));
            }
        }
    }
    for address in &expansion.found {
        told.extend(routes.explain(address));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::Route;
    use crate::tables::{Slot, read_aliases, read_recipients};

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse_stored(text).unwrap()
    }

    fn tables(aliases: &str, recipients: &str) -> Tables {
        let recipients = if recipients.is_empty() {
            Slot::Unset
        } else {
            Slot::Loaded(Arc::new(read_recipients(recipients).unwrap()))
        };
        Tables {
            aliases: Slot::Loaded(Arc::new(read_aliases(aliases).unwrap())),
            recipients,
            ..Tables::default()
        }
    }

    fn followed(aliases: &str, from: &str) -> Result<Vec<String>, AliasError> {
        let found = follow(&tables(aliases, ""), &mailbox(from))?;
        Ok(found.iter().map(Mailbox::to_string).collect())
    }

    #[test]
    fn aliases_are_followed_to_their_end_and_each_address_comes_once() {
        let text = "team@a.test ann@a.test, bob@b.test, lead@a.test\nlead@a.test ann@a.test\nold.test @a.test\n\
                    copy@a.test copy@a.test, archive@z.test\n";
        assert_eq!(followed(text, "team@a.test").unwrap(), ["ann@a.test", "bob@b.test"]);
        assert_eq!(followed(text, "team@old.test").unwrap(), ["ann@a.test", "bob@b.test"]);
        assert_eq!(followed(text, "copy@a.test").unwrap(), ["copy@a.test", "archive@z.test"]);
        assert_eq!(followed(text, "x@c.test").unwrap(), ["x@c.test"]);
    }

    #[test]
    fn an_alias_without_an_end_is_a_mistake_and_no_endless_work() {
        let text = "a@a.test b@a.test\nb@a.test a@a.test\n";
        assert_eq!(followed(text, "a@a.test"), Err(AliasError::Loop(mailbox("a@a.test"))));
        let chain: Vec<String> = (0..30).map(|n| format!("n{n}@a.test n{}@a.test", n + 1)).collect();
        let chain = chain.join("\n");
        assert!(matches!(followed(&chain, "n0@a.test"), Err(AliasError::Deep(_))));
        let many: Vec<String> = (0..1_001).map(|n| format!("m{n}@a.test")).collect();
        assert_eq!(
            followed(&format!("all@a.test {}\n", many.join(",")), "all@a.test"),
            Err(AliasError::Many)
        );
    }

    #[test]
    fn wishes_go_along_and_reports_name_the_address_that_was_written() {
        let notify = Some(Notify { success: true, failure: true, delay: false });
        let sent = vec![
            Recipient { notify, ..Recipient::plain(mailbox("team@a.test")) },
            Recipient::plain(mailbox("ann@a.test")),
            Recipient::plain(mailbox("eve@a.test")),
        ];
        let expanded = expand(&tables("team@a.test ann@a.test, bob@b.test\n", ""), sent).unwrap();
        let shown: Vec<_> = expanded
            .iter()
            .map(|r| (r.address.to_string(), r.notify, r.original.as_ref().map(|o| o.address.to_string())))
            .collect();
        let tells: Vec<bool> = expanded.iter().map(|r| r.expanded).collect();
        assert_eq!(tells, [true, false, false], "success is told once for all");
        let team = || Some("team@a.test".to_owned());
        assert_eq!(
            shown,
            [
                ("ann@a.test".to_owned(), notify, team()),
                ("bob@b.test".to_owned(), notify.map(|notify| Notify { success: false, ..notify }), team()),
                ("eve@a.test".to_owned(), None, None),
            ]
        );
    }

    #[test]
    fn a_postmaster_without_a_domain_has_somewhere_to_go_and_an_alias_comes_first() {
        let home = Some(mailbox("postmaster@a.test"));
        let followed = |aliases: &str| {
            let tables = Tables { postmaster: home.clone(), ..tables(aliases, "joe@a.test\n") };
            let sent = vec![Recipient::plain(mailbox("Postmaster"))];
            let expanded = expand(&tables, sent).unwrap();
            let shown = expanded.iter().map(|r| (r.address.to_string(), r.original.clone().unwrap().address));
            shown.map(|(address, original)| format!("{address} {original}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(followed(""), "postmaster@a.test Postmaster");
        assert_eq!(followed("postmaster@a.test ann@a.test\n"), "ann@a.test Postmaster");
        assert_eq!(followed("/(?i)^postmaster$/ bob@b.test\n"), "bob@b.test Postmaster");
        let relay = RelayPolicy { domains: vec!["a.test".parse().unwrap()], ..RelayPolicy::default() };
        let told = explain(
            &relay,
            &Tables { postmaster: home, ..tables("", "joe@a.test\n") },
            &Routes::new(vec![Route { pattern: "*".parse().unwrap(), target: "mx".parse().unwrap() }]),
            &mailbox("postmaster"),
        );
        assert!(told.iter().any(|line| line.contains("stands for postmaster@a.test")), "{told:?}");
        assert!(told.iter().any(|line| line.contains("postmaster@a.test goes to")), "{told:?}");
    }

    #[test]
    fn a_recipient_is_judged_by_alias_then_table_then_route() {
        let relay = RelayPolicy { domains: vec!["a.test".parse().unwrap()], ..RelayPolicy::default() };
        let route = |pattern: &str, target: &str| Route {
            pattern: pattern.parse().unwrap(),
            target: target.parse().unwrap(),
        };
        let routes = Routes::new(vec![route("*", "10.0.0.1"), route("gone@a.test", "error: 5.1.6 moved")]);
        let tables = tables(
            "info@a.test ann@a.test\nloop@a.test pool@a.test\npool@a.test loop@a.test\n",
            "ann@a.test\ngone@a.test\n",
        );
        let judged = |to: &str| judge(&relay, &tables, &routes, &mailbox(to));
        assert_eq!(judged("ann@a.test"), Judgement::Taken);
        assert_eq!(judged("info@a.test"), Judgement::Taken, "known by its alias");
        assert_eq!(judged("joe@a.test"), Judgement::Unknown);
        assert_eq!(judged("Postmaster@a.test"), Judgement::Taken);
        assert_eq!(judged("joe@elsewhere.test"), Judgement::Taken);
        assert!(matches!(judged("gone@a.test"), Judgement::Refused(_)));
        assert!(matches!(judged("loop@a.test"), Judgement::Alias(AliasError::Loop(_))));
        let blind = Tables { recipients: Slot::Unavailable, ..tables.clone() };
        assert_eq!(judge(&relay, &blind, &routes, &mailbox("joe@a.test")), Judgement::Unavailable);
        let blind = Tables { aliases: Slot::Unavailable, ..tables };
        assert_eq!(judge(&relay, &blind, &routes, &mailbox("x@elsewhere.test")), Judgement::Unavailable);
    }
}
