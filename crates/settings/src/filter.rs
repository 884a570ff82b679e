//! A content filter as the programs get it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A program beside the switch that is asked about whole messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterSettings {
    /// Its name in the log.
    pub name: String,
    /// How it is spoken to.
    pub kind: FilterKind,
    /// Where it is.
    pub address: FilterAddress,
    /// How long it may take for one message.
    pub timeout: Duration,
    /// What becomes of a message of which it says nothing.
    pub on_error: OnError,
    /// The listeners whose mail it sees; empty: all.
    pub listeners: Vec<SocketAddr>,
    /// Whose mail it sees.
    pub clients: FilterClients,
    /// It sees no message of more bytes.
    pub size_max: u64,
}

/// How a filter is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKind {
    /// rspamd's HTTP.
    Rspamd,
    /// `ClamAV`'s daemon.
    Clamd,
    /// The milter protocol.
    Milter,
}

impl FilterKind {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rspamd => "rspamd",
            Self::Clamd => "clamd",
            Self::Milter => "milter",
        }
    }
}

impl FromStr for FilterKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Rspamd, Self::Clamd, Self::Milter];
        let found = all.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| format!("'{word}' is no kind of filter; write rspamd, clamd or milter"))
    }
}

/// Where a filter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterAddress {
    /// An address with a port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for FilterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for FilterAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("'{text}' is no address; write an IP address and a port (127.0.0.1:11333) or unix:/path")
        };
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(wrong()),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
        }
    }
}

/// What becomes of a message of which a filter says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It passes.
    Accept,
    /// Its client is asked to come again.
    #[default]
    Defer,
}

impl OnError {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Defer => "defer",
        }
    }
}

/// Whose mail a filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterClients {
    /// Everybody's.
    #[default]
    All,
    /// That of clients who may not send anywhere.
    Strangers,
    /// That of clients who may, and of users.
    Trusted,
}

impl FilterClients {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Strangers => "strangers",
            Self::Trusted => "trusted",
        }
    }
}
