//! Recipients that are not just tried again: nobody knows whether they were served, or they may be what crashes this program.

use mail_model::{EnhancedStatus, Reply};
use queue_format::books::Standing;
use routing::InDoubt;
use settings::Settings;

use super::destination::Destination;

/// What is done with a recipient whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// It is tried.
    Usual,
    /// It is held: it was in flight at too many crashes in a row.
    Crashed,
    /// It is held: its last attempt ended in doubt, and its route says so.
    HoldDoubt,
    /// It is given up: the same.
    BounceDoubt,
}

impl Care {
    /// What `standing` needs at `destination`. Whoever releases a held recipient takes the doubt from it.
    pub(crate) fn of(settings: &Settings, destination: &Destination, standing: &Standing) -> Self {
        let limit = settings.delivery.crash_hold;
        if limit > 0 && standing.crashes >= limit {
            return Self::Crashed;
        }
        match destination {
            Destination::Hop(hop, _) if standing.doubtful => match hop.in_doubt() {
                InDoubt::Resend => Self::Usual,
                InDoubt::Hold => Self::HoldDoubt,
                InDoubt::Bounce => Self::BounceDoubt,
            },
            Destination::Hop(..)
            | Destination::Discard
            | Destination::Hold
            | Destination::Error(_)
            | Destination::NoRoute
            | Destination::Bounce => Self::Usual,
        }
    }

    /// The word of the log and the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "resend",
            Self::Crashed => "crash_held",
            Self::HoldDoubt => "held",
            Self::BounceDoubt => "bounced",
        }
    }

    /// For the audit, if it is held.
    pub(crate) fn by(self) -> Option<&'static str> {
        match self {
            Self::Usual | Self::BounceDoubt => None,
            Self::Crashed => Some("switch: it was in flight each time its owner crashed"),
            Self::HoldDoubt => Some("switch: its last attempt is in doubt, and its route says hold"),
        }
    }
}

/// What a sender is told. RFC 3463 3.5: bad connection.
pub(crate) fn doubt() -> Reply {
    let text = "it is not known whether the next host took it, and it is not sent twice";
    Reply::local(554, EnhancedStatus::new(5, 4, 2), text)
}
