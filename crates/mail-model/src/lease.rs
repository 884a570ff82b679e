//! The nouns of ownership that disk, heartbeat and machines share. The rules are in `cluster`, the bytes in `queue-format`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether an owner is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// On the queue's home node: it listens and delivers.
    Primary,
    /// Elsewhere: it drains and listens nowhere.
    Secondary,
}

/// Why an epoch was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// First start, or the first since the machine booted.
    Boot,
    /// The same node's earlier instance ended without releasing.
    Restart,
    /// The owner's renewals stopped for the whole window.
    Expired,
    /// The owner had released the queue.
    Released,
    /// An operator ordered it.
    Forced,
    /// A drill ordered it.
    Drill,
    /// The home node takes its queue back.
    Handback,
}

/// What an owner says of itself with each renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Recovering or working.
    Active,
    /// No new attempts; finishing the running ones.
    Draining,
    /// Writes no more. The queue is free.
    Released,
    /// Cannot use its storage.
    StorageSick,
}

macro_rules! coded {
    ($name:ident { $($variant:ident = $code:literal $text:literal),+ $(,)? }) => {
        impl $name {
            /// The byte on disk and on the wire; never 0.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }
            /// The value of a byte; `None` for a byte that means nothing.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            /// The value of a word; `None` for any other word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

coded!(Role { Primary = 1 "primary", Secondary = 2 "secondary" });
coded!(Reason {
    Boot = 1 "boot",
    Restart = 2 "restart",
    Expired = 3 "expired",
    Released = 4 "released",
    Forced = 5 "forced",
    Drill = 6 "drill",
    Handback = 7 "handback",
});
coded!(LeaseState {
    Active = 1 "active",
    Draining = 2 "draining",
    Released = 3 "released",
    StorageSick = 4 "storage_sick",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_zero_and_each_reads_back() {
        for code in 0..=u8::MAX {
            if let Some(reason) = Reason::from_code(code) {
                assert_eq!(reason.code(), code);
                assert_eq!(Reason::from_word(reason.as_str()), Some(reason));
            }
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(LeaseState::from_code(3), Some(LeaseState::Released));
    }
}
