//! What an inspector sees, and what it may say.

use std::fmt::Debug;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use bytes::Bytes;
use mail_model::{Envelope, Reply};

/// A whole message, and how it came.
#[derive(Debug)]
pub(crate) struct Exhibit {
    /// Who sent it.
    pub(crate) client: IpAddr,
    /// The client may send anywhere, or has authenticated: it is one of ours.
    pub(crate) trusted: bool,
    /// How it called itself.
    pub(crate) helo: String,
    /// From whom and to whom.
    pub(crate) envelope: Envelope,
    /// The content, without the fields that we add.
    pub(crate) content: Bytes,
}

/// What an inspector says.
#[derive(Debug)]
pub(crate) enum Opinion {
    /// It may pass, with these on top: whole fields with their line ends, or nothing.
    Fields(String),
    /// It is not taken.
    Refuse(Reply),
}

/// An inspector's work.
pub(crate) type Inspecting<'a> = Pin<Box<dyn Future<Output = Opinion> + Send + 'a>>;

/// Whoever must see the whole message.
pub(crate) trait Inspector: Debug + Send + Sync {
    /// Looks at a message. Cancelled if it takes too long.
    fn inspect<'a>(&'a self, exhibit: &'a Exhibit) -> Inspecting<'a>;
}
