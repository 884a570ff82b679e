//! What the two ends write down: the client a [`Probe`] per message it made, the sink a [`Delivery`] per message it took.

use std::fmt;
use std::str::FromStr;

use mail_model::Moment;
use serde::Serialize;

/// The field that says which probe a message is: `X-Mailswitch-Probe: RUN-NUMBER`.
pub(crate) const PROBE_FIELD: &str = "X-Mailswitch-Probe";

/// The name of one message of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ProbeTag {
    /// The run that made it.
    pub run: String,
    /// From 1, without gaps in a run.
    pub number: u64,
}

impl fmt::Display for ProbeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.number)
    }
}

/// A text that is no probe tag: it has no `RUN-NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a probe tag: it looks like RUN-NUMBER")]
pub struct NotATag;

impl FromStr for ProbeTag {
    type Err = NotATag;
    fn from_str(text: &str) -> Result<Self, NotATag> {
        let (run, number) = text.trim().rsplit_once('-').ok_or(NotATag)?;
        let number = number.parse().map_err(|_| NotATag)?;
        if run.is_empty() { Err(NotATag) } else { Ok(Self { run: run.to_owned(), number }) }
    }
}

/// A 250 to the final dot, as the client read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// When the reply was read.
    pub at: Moment,
    /// The text after the code.
    pub text: String,
}

impl Accepted {
    /// The message id of `… queued as ID`, if the server says one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let (_, rest) = self.text.split_once("queued as ")?;
        rest.split_whitespace().next()
    }
}

/// What the client knows of one of its messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Its number in the run.
    pub number: u64,
    /// Bytes as sent, before dot-stuffing.
    pub size_bytes: u64,
    /// CRC-32C of these bytes.
    pub checksum: u32,
    /// How many recipients it has, all different.
    pub recipients: usize,
    /// When its first transaction began (`MAIL` was written); `None` if no connection was ever had for it.
    pub first_submitted: Option<Moment>,
    /// How many transactions began for it.
    pub submissions: u32,
    /// How many of these sent the final dot and saw no reply: the server may or may not hold the message.
    pub cuts_after_dot: u32,
    /// The 250, at most one: nothing is sent again after it.
    pub accepted: Option<Accepted>,
    /// A 5yz reply, after which it is not tried again.
    pub refused: Option<String>,
}

/// What the sink knows of one message it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// When the end of the message was read.
    pub at: Moment,
    /// From the probe field; `None` for other mail, bounces for example.
    pub probe: Option<ProbeTag>,
    /// The `id` word of the topmost Received field, if the message begins with one.
    pub id: Option<String>,
    /// Without angle brackets; empty for the null sender.
    pub reverse_path: String,
    /// Those that were accepted, without angle brackets.
    pub recipients: Vec<String>,
    /// The parameters of MAIL as they were written, `SIZE=… BODY=…`.
    pub mail_parameters: String,
    /// The whole message, Received field and all, dot-stuffing taken off.
    pub size_bytes: u64,
    /// CRC-32C of what follows the topmost Received field; of the whole message if it begins with another field.
    pub checksum: u32,
    /// The whole message, where the sink keeps it and it is within the limit.
    #[serde(skip)]
    pub content: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_back_as_it_was_written() {
        let tag = ProbeTag { run: "demo-7".to_owned(), number: 41 };
        assert_eq!(tag.to_string().parse(), Ok(tag));
        for wrong in ["", "demo", "demo-", "-7", "demo-x"] {
            assert_eq!(wrong.parse::<ProbeTag>(), Err(NotATag), "{wrong}");
        }
    }

    #[test]
    fn the_id_is_the_word_after_queued_as() {
        let reply = |text: &str| Accepted { at: Moment(0), text: text.to_owned() };
        assert_eq!(reply("2.0.0 queued as a-7-1f").id(), Some("a-7-1f"));
        assert_eq!(reply("2.0.0 Ok").id(), None);
    }
}
