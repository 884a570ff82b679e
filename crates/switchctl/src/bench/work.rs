//! The loads that are measured.

use std::net::SocketAddr;

use super::options::Options;

/// What becomes of the mail that a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It goes to the sink.
    To(SocketAddr),
    /// It stays in the queue.
    Held,
    /// It goes to the sink, but for that to [`DEAD`], which stays.
    Beside(SocketAddr),
}

/// A domain whose mail nobody takes.
pub(crate) const DEAD: &str = "dead.test";
/// Connections of the load that only holds them.
const IDLE: usize = 9_900;

/// What a server does under a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Generator into sink, nothing between: no figure through them can be higher.
    Ceiling,
    /// Takes mail, which stays in its queue.
    Accept,
    /// Takes mail and delivers it.
    Relay,
    /// Starts with a queue that is full, and empties it.
    Drain,
    /// Starts with a queue full of mail for a dead destination, and relays other mail.
    Beside,
    /// Takes mail at half the rate that it can: how long does a 250 take?
    Pace,
    /// Holds connections on which nothing is said.
    Idle,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Accept => "accept",
            Self::Relay => "relay",
            Self::Drain => "drain",
            Self::Beside => "relay beside",
            Self::Pace => "half of accept",
            Self::Idle => "idle",
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) sessions: usize,
    /// One message per connection instead of many.
    pub(crate) single: bool,
    pub(crate) size_bytes: usize,
    /// Messages of a held queue; 0 for the others.
    pub(crate) held: u64,
}

impl Work {
    fn new(kind: Kind, sessions: usize) -> Self {
        Self { kind, sessions, single: false, size_bytes: 4096, held: 0 }
    }

    /// True for what says something of ours only.
    pub(crate) fn is_ours_alone(&self) -> bool {
        match self.kind {
            Kind::Beside | Kind::Idle => true,
            Kind::Ceiling | Kind::Accept | Kind::Relay | Kind::Drain | Kind::Pace => false,
        }
    }

    /// Its name in tables: `relay, 50 sessions`.
    pub(crate) fn name(&self) -> String {
        match self.kind {
            Kind::Drain => return format!("{} of {} held", self.kind.word(), self.held),
            Kind::Beside => return format!("{} {} held", self.kind.word(), self.held),
            Kind::Ceiling | Kind::Accept | Kind::Relay | Kind::Pace | Kind::Idle => {}
        }
        let sessions = if self.sessions == 1 { "session" } else { "sessions" };
        let single = if self.single { ", one a connection" } else { "" };
        let size = if self.size_bytes >= 1 << 20 {
            format!(", {} MiB", self.size_bytes >> 20)
        } else {
            String::new()
        };
        format!("{}, {} {sessions}{single}{size}", self.kind.word(), self.sessions)
    }

    /// The loads of a benchmark.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let counts: &[usize] = if options.quick { &[10] } else { &[1, 10, 50, 200] };
        let mut all = Vec::new();
        let many = |kind| counts.iter().map(move |sessions| Self::new(kind, *sessions));
        let single = |kind, sessions| Self { single: true, ..Self::new(kind, sessions) };
        let large = |kind| Self { size_bytes: 1 << 20, ..Self::new(kind, 10) };
        all.push(Self::new(Kind::Ceiling, counts.last().copied().unwrap_or(1)));
        all.push(single(Kind::Ceiling, 50));
        all.extend(many(Kind::Accept));
        if !options.quick {
            all.push(single(Kind::Accept, 50));
            all.push(large(Kind::Accept));
        }
        all.extend(many(Kind::Relay));
        if !options.quick {
            all.push(single(Kind::Relay, 50));
            all.push(large(Kind::Relay));
        }
        all.push(Self { held: options.held, ..Self::new(Kind::Drain, 50) });
        all.push(Self { held: options.held / 20, ..Self::new(Kind::Beside, 50) });
        all.push(Self { held: options.held, ..Self::new(Kind::Beside, 50) });
        all.push(Self::new(Kind::Pace, 10));
        all.push(Self::new(Kind::Idle, if options.quick { 500 } else { IDLE }));
        if let Some(only) = &options.only {
            all.retain(|work| work.name().contains(only.as_str()));
        }
        all
    }
}
