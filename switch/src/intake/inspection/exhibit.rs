//! What an inspector sees, and what it may say.

use std::fmt::Debug;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use bytes::Bytes;
use mail_model::{Envelope, Recipient, Reply};

/// A whole message, and how it came.
#[derive(Debug)]
pub(crate) struct Exhibit {
    /// Its id, should it be taken.
    pub(crate) id: String,
    /// Who sent it.
    pub(crate) client: IpAddr,
    /// Its host name, if somebody who is believed said it.
    pub(crate) client_name: Option<Box<str>>,
    /// As whom it authenticated.
    pub(crate) user: Option<String>,
    /// The client may send anywhere, or has authenticated: it is one of ours.
    pub(crate) trusted: bool,
    /// How it called itself.
    pub(crate) helo: String,
    /// From whom and to whom.
    pub(crate) envelope: Envelope,
    /// The content, without the fields that we add.
    pub(crate) content: Bytes,
}

/// What becomes of a message that is taken.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Comes on top: whole fields with their line ends, or nothing.
    pub(crate) top: String,
    /// Another content in place of what came.
    pub(crate) content: Option<Bytes>,
    /// Why it is held in the queue until an operator releases it.
    pub(crate) hold: Option<String>,
    /// Why it is taken and deleted at once.
    pub(crate) discard: Option<String>,
    /// Other recipients than the client named.
    pub(crate) recipients: Option<Vec<Recipient>>,
}

/// What an inspector says.
#[derive(Debug)]
pub(crate) enum Opinion {
    /// It may pass, changed so.
    Changes(Box<Changes>),
    /// It is not taken.
    Refuse(Reply),
}

impl Opinion {
    /// It may pass, with these on top.
    pub(crate) fn fields(top: String) -> Self {
        Self::Changes(Box::new(Changes { top, ..Changes::default() }))
    }

    /// In a word of the metrics, and why.
    pub(crate) fn in_short(&self) -> (&'static str, String) {
        match self {
            Self::Refuse(reply) if reply.code >= 500 => ("refused", reply.to_string()),
            Self::Refuse(reply) => ("deferred", reply.to_string()),
            Self::Changes(changes) => match (&changes.discard, &changes.hold) {
                (Some(why), _) => ("discarded", why.clone()),
                (None, Some(why)) => ("held", why.clone()),
                (None, None) => ("passed", String::new()),
            },
        }
    }
}

#[cfg(test)]
impl Exhibit {
    /// From a@client.test to b@example.test.
    pub(crate) fn plain(content: &'static [u8]) -> Self {
        let mut envelope = Envelope::from_sender(mail_model::ReversePath::Mailbox(
            mail_model::Mailbox::parse_stored("a@client.test").unwrap(),
        ));
        let to = mail_model::Mailbox::parse_stored("b@example.test").unwrap();
        envelope.recipients.push(Recipient::plain(to));
        Self {
            id: "a-1-1".to_owned(),
            client: IpAddr::from([192, 0, 2, 1]),
            client_name: None,
            user: None,
            trusted: false,
            helo: "client.test".to_owned(),
            envelope,
            content: Bytes::from_static(content),
        }
    }
}

/// An inspector's work.
pub(crate) type Inspecting<'a> = Pin<Box<dyn Future<Output = Opinion> + Send + 'a>>;

/// Whoever must see the whole message.
pub(crate) trait Inspector: Debug + Send + Sync {
    /// Looks at a message. Cancelled if it takes too long.
    fn inspect<'a>(&'a self, exhibit: &'a Exhibit) -> Inspecting<'a>;
}

/// From this size on, hashing a content is kept off the threads that serve sessions.
const HEAVY: usize = 128 << 10;

/// Does work whose time goes with the size of the content. Within a runtime of several threads, as the switch's is.
pub(crate) fn heavy<T>(content: &[u8], work: impl FnOnce() -> T) -> T {
    if content.len() < HEAVY { work() } else { tokio::task::block_in_place(work) }
}
