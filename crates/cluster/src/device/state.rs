//! What a device says of itself, as the hook of the storage prints it.

use serde::{Deserialize, Serialize};

/// Which side of the device this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceRole {
    /// It may be mounted here.
    Primary,
    /// It may not.
    Secondary,
    /// It does not say.
    Unknown,
}

/// How the local copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// It has everything that it knows of.
    Current,
    /// It is whole, and older.
    Outdated,
    /// It is being filled.
    Inconsistent,
    /// It does not say.
    Unknown,
}

/// How the other side stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerLink {
    /// Every write goes to both copies, and the other one is whole. While it is being filled it is not this.
    Connected,
    /// Anything less.
    Alone,
    /// Both sides wrote alone: their copies have parted.
    Split,
}

/// One line of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceState {
    /// Which side it is.
    pub role: DeviceRole,
    /// It is mounted here.
    pub mounted: bool,
    /// The local copy.
    pub data: CopyState,
    /// The other side.
    pub peer: PeerLink,
}
