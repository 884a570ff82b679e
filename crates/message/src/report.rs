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

/// What became of a recipient. RFC 3464 2.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was refused.
    Failed,
    /// It was given up because its time was over.
    Expired,
    /// It waits, and is tried until then.
    Late {
        /// When it is given up.
        until: WallTime,
    },
    /// It went to a host that sends no notification of success.
    Relayed,
    /// It is in its mailbox.
    Delivered,
    /// It stood for several addresses, to which it went on.
    Expanded,
}

impl Action {
    /// What is reported about together.
    fn kind(self) -> Kind {
        match self {
            Self::Failed | Self::Expired => Kind::Failure,
            Self::Late { .. } => Kind::Delay,
            Self::Relayed | Self::Delivered | Self::Expanded => Kind::Success,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Failed | Self::Expired => "failed",
            Self::Late { .. } => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Expanded => "expanded",
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Failed => "was refused",
            Self::Expired => "could not be delivered in time",
            Self::Late { .. } => "is not delivered yet",
            Self::Relayed => "was taken by the next mail system, which will not tell you more",
            Self::Delivered => "was delivered",
            Self::Expanded => {
                "stands for several addresses and was passed on to them, which will not tell you more"
            }
        }
    }
}

/// What a report is about as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failure,
    Delay,
    Success,
}

/// A recipient that is reported on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRecipient {
    /// The address that was tried.
    pub address: Mailbox,
    /// ORCPT=, if the sender said one.
    pub original: Option<OriginalRecipient>,
    /// The last thing that was said about it, by the next host or by us.
    pub reply: Option<Reply>,
    /// The host that said so, if one did and it is known.
    pub remote: Option<String>,
    /// What became of it.
    pub action: Action,
}

impl ReportedRecipient {
    /// RFC 3464 2.3.4.
    fn status(&self) -> EnhancedStatus {
        let class = match self.action {
            // RFC 3463 3.5: delivery time expired.
            Action::Expired => return EnhancedStatus::new(4, 4, 7),
            Action::Failed => 5,
            Action::Late { .. } => 4,
            Action::Relayed | Action::Delivered | Action::Expanded => 2,
        };
        let said =
            self.reply.as_ref().and_then(|reply| reply.enhanced).filter(|status| status.class == class);
        said.unwrap_or(EnhancedStatus::new(class, 0, 0))
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
        field(out, "Action", self.action.word());
        field(out, "Status", &self.status().to_string());
        if let Some(remote) = &self.remote {
            field(out, "Remote-MTA", &format!("dns;{}", ascii(remote)));
        }
        if let Some(reply) = &self.reply {
            field(out, "Diagnostic-Code", &format!("smtp;{}", ascii(&reply.to_string())));
        }
        if let Action::Late { until } = self.action {
            field(out, "Will-Retry-Until", &date(until));
        }
    }

    fn told(&self, out: &mut String) {
        let _ = write!(out, "<{}>: {}", self.address, self.action.told());
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
    /// Who is reported on; at least one, and all failed, or all late, or all done.
    pub recipients: Vec<ReportedRecipient>,
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
            .header("Subject", Raw::new(self.subject()))
            // RFC 3834 5: automatic answers are marked, so that no machine answers them.
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .header("MIME-Version", Raw::new("1.0"))
            .body(MimePart::new(kind, BodyPart::Multipart(parts)))
            .serialize(&mut out);
        out
    }

    fn kind(&self) -> Kind {
        self.recipients.first().map_or(Kind::Failure, |recipient| recipient.action.kind())
    }

    fn subject(&self) -> &'static str {
        match self.kind() {
            Kind::Failure => "Undelivered mail returned to sender",
            Kind::Delay => "Delayed mail (still being tried)",
            Kind::Success => "Successful mail delivery report",
        }
    }

    fn text(&self) -> String {
        let what = match self.kind() {
            Kind::Failure => "could not be delivered to everybody. It will not be tried again for:",
            Kind::Delay => {
                "is still on its way. You need not send it again: it will be tried until it is given up, and you are told then. It waits for:"
            }
            Kind::Success => "has arrived, as you asked to be told:",
        };
        let arrived = date(self.arrived);
        let mut text = format!(
            "This is the mail system at {}.\n\nYour message {} of {arrived}\n{what}\n\n",
            self.host, self.about
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
