//! Delivery status notifications: a `multipart/report` of a text for people, fields for programs, and the message it is
//! about. RFC 3462, RFC 3464, RFC 6533.
//!
//! It is ASCII except where the returned message is not: then its envelope says 8BITMIME. Only CRLF ends its lines. It is
//! always sent with the null reverse-path, so that no report is ever about a report. RFC 3464 2.

use std::fmt::Write as _;

use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};
use mail_model::{Domain, EnhancedStatus, Mailbox, OriginalRecipient, Reply, WallTime};

use crate::date::date;

/// Recipients that the text for people names; the fields for programs name all.
const NAMED_MAX: usize = 50;

/// A recipient that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecipient {
    /// The address that was tried.
    pub address: Mailbox,
    /// ORCPT=, if the sender said one.
    pub original: Option<OriginalRecipient>,
    /// The last thing that was said about it, by the next host or by us.
    pub reply: Option<Reply>,
    /// The host that said so, if one did and it is known.
    pub remote: Option<String>,
    /// True if it was given up because its time was over, not because it was refused.
    pub expired: bool,
}

impl FailedRecipient {
    /// RFC 3464 2.3.4.
    fn status(&self) -> EnhancedStatus {
        if self.expired {
            // RFC 3463 3.5: delivery time expired.
            return EnhancedStatus::new(4, 4, 7);
        }
        let said = self.reply.as_ref().and_then(|reply| reply.enhanced).filter(|status| status.class == 5);
        said.unwrap_or(EnhancedStatus::new(5, 0, 0))
    }

    fn fields(&self, out: &mut String) {
        if let Some(original) = &self.original {
            let address = xtext(&original.address);
            field(out, "Original-Recipient", &format!("{};{address}", ascii(&original.address_type)));
        }
        // RFC 6533 3: an address outside ASCII has a type of its own, and here the form that is ASCII.
        let address = self.address.to_string();
        let address_type = if self.address.is_international() { "utf-8" } else { "rfc822" };
        field(out, "Final-Recipient", &format!("{address_type};{}", xtext(&address)));
        field(out, "Action", "failed");
        field(out, "Status", &self.status().to_string());
        if let Some(remote) = &self.remote {
            field(out, "Remote-MTA", &format!("dns;{}", ascii(remote)));
        }
        if let Some(reply) = &self.reply {
            field(out, "Diagnostic-Code", &format!("smtp;{}", ascii(&reply.to_string())));
        }
    }

    fn told(&self, out: &mut String) {
        let why = if self.expired { "could not be delivered in time" } else { "was refused" };
        let _ = write!(out, "<{}>: {why}", self.address);
        if let Some(reply) = &self.reply {
            let host = self.remote.as_deref().map(|host| format!("{host} ")).unwrap_or_default();
            let _ = write!(out, "\n  {host}said: {reply}");
        }
        out.push_str("\n\n");
    }
}

/// What of the message is returned. RFC 3461 4.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// Nothing can be had of it.
    Nothing,
    /// Its header.
    Headers(Vec<u8>),
    /// All of it.
    Full(Vec<u8>),
}

/// A report about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The host that reports.
    pub host: Domain,
    /// The sender of the message, who gets the report.
    pub to: Mailbox,
    /// The id of the report.
    pub id: String,
    /// The id of the message.
    pub about: String,
    /// ENVID=, if the sender said one.
    pub envid: Option<Box<str>>,
    /// True if the message needed SMTPUTF8; then the report does as well. RFC 6533.
    pub smtputf8: bool,
    /// When the message was taken.
    pub arrived: WallTime,
    /// When the report is made.
    pub at: WallTime,
    /// Who failed; at least one.
    pub recipients: Vec<FailedRecipient>,
    /// What of the message is returned.
    pub returned: Returned,
}

impl Report {
    /// The whole message, header and all.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // The boundary bears the id of this report, which is younger than everything in it.
        let boundary = format!("report-{}", self.id);
        let kind = ContentType::new("multipart/report")
            .attribute("report-type", "delivery-status")
            .attribute("boundary", boundary);
        let status = MimePart::new(ContentType::new("message/delivery-status"), self.status().into_bytes());
        let mut parts = vec![MimePart::new("text/plain", self.text()), status.transfer_encoding("7bit")];
        parts.extend(self.returned_part());
        let mut out = Vec::new();
        MessageBuilder::new()
            .header("Date", Raw::new(date(self.at)))
            .header("From", Raw::new(format!("Mail Delivery System <MAILER-DAEMON@{}>", self.host)))
            .header("To", Raw::new(format!("<{}>", self.to)))
            .header("Message-ID", Raw::new(format!("<{}@{}>", self.id, self.host)))
            .header("Subject", Raw::new("Undelivered mail returned to sender"))
            // RFC 3834 5: automatic answers are marked, so that no machine answers them.
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .header("MIME-Version", Raw::new("1.0"))
            .body(MimePart::new(kind, BodyPart::Multipart(parts)))
            .serialize(&mut out);
        out
    }

    fn text(&self) -> String {
        let mut text = format!(
            "This is the mail system at {}.\n\nYour message {} of {}\ncould not be delivered to everybody. It will not \
             be tried again for:\n\n",
            self.host,
            self.about,
            date(self.arrived)
        );
        for recipient in self.recipients.iter().take(NAMED_MAX) {
            recipient.told(&mut text);
        }
        if let Some(more) = self.recipients.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            let _ = write!(text, "and {more} more, named in the second part of this report.\n\n");
        }
        text
    }

    fn status(&self) -> String {
        let mut out = String::new();
        if let Some(envid) = &self.envid {
            field(&mut out, "Original-Envelope-Id", &xtext(envid));
        }
        field(&mut out, "Reporting-MTA", &format!("dns;{}", ascii(self.host.as_str())));
        field(&mut out, "Arrival-Date", &date(self.arrived));
        for recipient in &self.recipients {
            // An empty line stands between groups. RFC 3464 2.1.
            out.push_str("\r\n");
            recipient.fields(&mut out);
        }
        out
    }

    fn returned_part(&self) -> Option<MimePart<'_>> {
        let (bytes, kind) = match (&self.returned, self.smtputf8) {
            (Returned::Nothing, _) => return None,
            (Returned::Headers(bytes), false) => (bytes, "text/rfc822-headers"),
            (Returned::Headers(bytes), true) => (bytes, "message/global-headers"),
            (Returned::Full(bytes), false) => (bytes, "message/rfc822"),
            (Returned::Full(bytes), true) => (bytes, "message/global"),
        };
        // RFC 2046 5.2.1: a message is never encoded within another.
        let encoding = if bytes.is_ascii() { "7bit" } else { "8bit" };
        let contents = BodyPart::Binary(bytes.as_slice().into());
        Some(MimePart::new(ContentType::new(kind), contents).transfer_encoding(encoding))
    }
}

/// One field, folded so that no line is longer than RFC 5322 2.1.1 allows.
fn field(out: &mut String, name: &str, value: &str) {
    let mut column = name.len() + 1;
    let _ = write!(out, "{name}:");
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        if column + word.len() + 1 > 78 && column > name.len() + 1 {
            out.push_str("\r\n ");
            column = 1;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\r\n");
}

/// Printable ASCII; anything else becomes a question mark.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// An address or name in ASCII that keeps what it says: RFC 3461 4 for ASCII, RFC 6533 3 for the rest.
fn xtext(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' if !text.is_ascii() => out.push_str("\\x{5C}"),
            ' '..='~' => out.push(c),
            other => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(other));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
