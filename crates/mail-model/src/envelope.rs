//! The envelope of a message: who sent it, who gets it, and what was asked about reports. RFC 5321 2.3.1, RFC 3461.

use crate::address::{ForwardPath, ReversePath};

/// Position of a recipient in its envelope, from 0. Stable for the life of the message.
pub type RecipientIndex = u16;

/// BODY= of MAIL. RFC 6152.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BodyType {
    /// Nothing said, or `7BIT`.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// RET= of MAIL: how much of the message a failure report returns. RFC 3461 4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DsnReturn {
    /// The whole message.
    Full,
    /// Its header section.
    Headers,
}

/// NOTIFY= of RCPT. RFC 3461 4.1. `Default` of the protocol (nothing said) is `None` in [`Recipient::notify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Notify {
    /// Report success.
    pub success: bool,
    /// Report failure.
    pub failure: bool,
    /// Report delay.
    pub delay: bool,
}

impl Notify {
    /// `NOTIFY=NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };
}

/// ORCPT= of RCPT, decoded from xtext: `rfc822;user@example.test`. RFC 3461 4.2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginalRecipient {
    /// `rfc822` or `utf-8`, as sent.
    pub address_type: Box<str>,
    /// The decoded address.
    pub address: Box<str>,
}

/// One recipient and what its sender asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipient {
    /// Where it goes.
    pub address: ForwardPath,
    /// NOTIFY=, if said.
    pub notify: Option<Notify>,
    /// ORCPT=, if said.
    pub original: Option<OriginalRecipient>,
    /// It is the one of several addresses, for which its sender wrote one, whose success is told for all of them. RFC 3464 2.3.3.
    pub expanded: bool,
}

impl Recipient {
    /// A recipient with no wishes.
    #[must_use]
    pub fn plain(address: ForwardPath) -> Self {
        Self { address, notify: None, original: None, expanded: false }
    }

    /// NOTIFY= as the next host is told it: what is told here is not asked for there.
    #[must_use]
    pub fn notify_onward(&self) -> Option<Notify> {
        self.notify.map(|notify| Notify { success: notify.success && !self.expanded, ..notify })
    }

    /// True if a failure of this recipient is to be reported. RFC 3461 4.1: failure is reported unless said otherwise.
    #[must_use]
    pub fn wants_failure(&self) -> bool {
        self.notify.is_none_or(|n| n.failure)
    }

    /// True if its success is to be reported. RFC 3461 4.1: only where that was asked for.
    #[must_use]
    pub fn wants_success(&self) -> bool {
        self.notify.is_some_and(|n| n.success)
    }

    /// True if its delay may be reported. RFC 3461 4.1: where nothing was said, whoever delays it decides.
    #[must_use]
    pub fn wants_delay(&self) -> bool {
        self.notify.is_none_or(|n| n.delay)
    }
}

/// Everything SMTP says about a message outside its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// BODY=.
    pub body: BodyType,
    /// SMTPUTF8 was said. RFC 6531.
    pub smtputf8: bool,
    /// REQUIRETLS was said: only under verified TLS, to hosts that pass that on. RFC 8689.
    pub require_tls: bool,
    /// RET=.
    pub ret: Option<DsnReturn>,
    /// ENVID=, decoded from xtext, at most 100 octets.
    pub envid: Option<Box<str>>,
    /// In the order of the RCPT commands; at most 65,535.
    pub recipients: Vec<Recipient>,
}

impl Envelope {
    /// An envelope without recipients or wishes.
    #[must_use]
    pub fn from_sender(reverse_path: ReversePath) -> Self {
        Self {
            reverse_path,
            body: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            ret: None,
            envid: None,
            recipients: Vec::new(),
        }
    }
}
