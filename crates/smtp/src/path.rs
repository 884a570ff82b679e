//! Reverse and forward paths: `<>`, `<user@domain>`, `<@a,@b:user@domain>`, `<Postmaster>`. RFC 5321 4.1.2, RFC 6531 3.3.
//!
//! - The local part is kept exactly as it was sent, quotes included. `%` and `!` in it mean nothing here.
//! - A source route is checked and dropped. RFC 5321 3.6.1 and appendix C.
//! - Address literals are IPv4 or IPv6; no other kind was ever registered, so no other can be routed.
//! - A domain may have underscores: hosts with such names send mail, and nothing is ambiguous about them.
//! - Letters outside ASCII are taken as RFC 6531 allows; whether SMTPUTF8 was said is the session's question.

use core::net::{Ipv4Addr, Ipv6Addr};

use mail_model::{Domain, Mailbox, ReversePath};

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// No `<` at the front, or no `>` at the end.
    #[error("the address must stand in angle brackets")]
    Brackets,
    /// Not `@domain,@domain:`.
    #[error("the source route is malformed")]
    Route,
    /// Empty, a misplaced dot, a character it may not have, an open quote.
    #[error("the local part is malformed")]
    LocalPart,
    /// Absent, a bad label, a bad address literal.
    #[error("the domain is malformed")]
    Domain,
    /// More than 256 octets, or 64 in the local part. RFC 5321 4.5.3.1.
    #[error("the address is too long")]
    TooLong,
    /// `<>` where a recipient must stand.
    #[error("a recipient must not be empty")]
    Empty,
}

/// RFC 5321 4.5.3.1.3: a path has at most 256 octets, brackets included.
const PATH_OCTETS_MAX: usize = 256;

/// Takes a reverse path from the front of `text`; returns it and what follows its `>`.
pub fn reverse_path(text: &str) -> Result<(ReversePath, &str), PathError> {
    if let Some(rest) = text.strip_prefix("<>") {
        return Ok((ReversePath::Null, rest));
    }
    let (mailbox, rest) = path(text)?;
    match mailbox {
        Found::Mailbox(mailbox) => Ok((ReversePath::Mailbox(mailbox), rest)),
        Found::Unqualified(_) => Err(PathError::Domain),
    }
}

/// Takes a forward path from the front of `text`; returns it and what follows its `>`.
pub fn forward_path(text: &str) -> Result<(Mailbox, &str), PathError> {
    if text.starts_with("<>") {
        return Err(PathError::Empty);
    }
    let (mailbox, rest) = path(text)?;
    match mailbox {
        Found::Mailbox(mailbox) => Ok((mailbox, rest)),
        // RFC 5321 4.5.1: "postmaster" alone, in any case, is always a recipient.
        Found::Unqualified(local) => {
            Mailbox::bare_postmaster(local).map(|mailbox| (mailbox, rest)).map_err(|_| PathError::Domain)
        }
    }
}

/// True if `mailbox` can be written between angle brackets and be read back as itself: nothing in it can end the path,
/// the parameter or the line. Stored addresses are checked with it before they are sent.
#[must_use]
pub fn is_sendable(mailbox: &Mailbox) -> bool {
    let text = format!("<{mailbox}>");
    forward_path(&text).is_ok_and(|(read, rest)| rest.is_empty() && read == *mailbox)
}

enum Found<'a> {
    Mailbox(Mailbox),
    Unqualified(&'a str),
}

fn path(text: &str) -> Result<(Found<'_>, &str), PathError> {
    let inside = text.strip_prefix('<').ok_or(PathError::Brackets)?;
    let address = if inside.starts_with('@') { source_route(inside)? } else { inside };
    let (local, after) = local_part(address)?;
    if local.len() > 64 {
        return Err(PathError::TooLong);
    }
    if let Some(rest) = after.strip_prefix('>') {
        let routed = address.len() != inside.len();
        return if routed { Err(PathError::Domain) } else { Ok((Found::Unqualified(local), rest)) };
    }
    let (name, after) = domain(after.strip_prefix('@').ok_or(PathError::LocalPart)?)?;
    let rest = after.strip_prefix('>').ok_or(PathError::Brackets)?;
    if local.len() + name.len() + "<@>".len() > PATH_OCTETS_MAX {
        return Err(PathError::TooLong);
    }
    let name = Domain::new(name).map_err(|_| PathError::Domain)?;
    let mailbox = Mailbox::new(local, name).map_err(|_| PathError::LocalPart)?;
    Ok((Found::Mailbox(mailbox), rest))
}

/// Checks `@a,@b:` and returns what follows the colon.
fn source_route(text: &str) -> Result<&str, PathError> {
    let mut rest = text;
    loop {
        let (_, after) =
            domain(rest.strip_prefix('@').ok_or(PathError::Route)?).map_err(|_| PathError::Route)?;
        if let Some(address) = after.strip_prefix(':') {
            return Ok(address);
        }
        rest = after.strip_prefix(',').ok_or(PathError::Route)?;
    }
}

/// Splits at `length`, which is a character boundary because the character there is ASCII or the text ends.
fn split(text: &str, length: usize) -> (&str, &str) {
    text.split_at_checked(length).unwrap_or((text, ""))
}

fn local_part(text: &str) -> Result<(&str, &str), PathError> {
    if text.starts_with('"') {
        return quoted_string(text);
    }
    let length = text.find(|c| !is_atom(c) && c != '.').unwrap_or(text.len());
    let (local, rest) = split(text, length);
    // RFC 5321 4.1.2: Dot-string = Atom *("." Atom)
    if local.split('.').any(str::is_empty) { Err(PathError::LocalPart) } else { Ok((local, rest)) }
}

/// `"…"` with its quotes. A backslash may stand before any printable ASCII character, and `"` and `\` need one.
fn quoted_string(text: &str) -> Result<(&str, &str), PathError> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        let allowed = if escaped { matches!(character, ' '..='~') } else { !character.is_control() };
        match character {
            _ if !allowed => return Err(PathError::LocalPart),
            '"' if !escaped => return Ok(split(text, at + 1)),
            _ => escaped = !escaped && character == '\\',
        }
    }
    Err(PathError::LocalPart)
}

/// RFC 5322 3.2.3 atext, with the UTF-8 of RFC 6531 3.3.
fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_international(c)
}

/// A character outside ASCII that is neither a control nor a space: those could hide or break a line on a screen.
fn is_international(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace()
}

fn domain(text: &str) -> Result<(&str, &str), PathError> {
    if text.starts_with('[') {
        let length = text.find(']').ok_or(PathError::Domain)? + 1;
        let (literal, rest) = split(text, length);
        return if is_address_literal(literal) { Ok((literal, rest)) } else { Err(PathError::Domain) };
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || is_international(c);
    let length = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, rest) = split(text, length);
    // RFC 5321 4.5.3.1.2: at most 255 octets.
    if name.len() <= 255 && name.split('.').all(is_label) { Ok((name, rest)) } else { Err(PathError::Domain) }
}

fn is_label(label: &str) -> bool {
    // The 63 octets of a label count in its ASCII form; a label outside ASCII is longer there or here, and is bounded by
    // the domain's 255.
    let fits = !label.is_empty() && (label.len() <= 63 || !label.is_ascii());
    fits && !label.starts_with('-') && !label.ends_with('-')
}

/// RFC 5321 4.1.3: `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
pub(crate) fn is_address_literal(text: &str) -> bool {
    let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
        return false;
    };
    match inside.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse::<Ipv6Addr>().is_ok(),
        _ => inside.parse::<Ipv4Addr>().is_ok(),
    }
}
