//! The configuration: text in, [`Settings`] out, or every fault at once with file, line, column and remedy.
//!
//! Each part owns the type of its own settings (`routing::RelayPolicy`, `schedule::RetryPolicy`, `cluster::Timers`,
//! `smtp::limits::Limits`); here they are collected and checked against each other. Nothing here opens a file: the program
//! hands over the texts.
//!
//! `tree` is what is written, each value with its place; `keys` is the table of all keys there are; `reader` takes typed
//! values out of the tree and notes what is wrong; `check` makes [`Settings`] of them and knows the rules between keys;
//! `explain` says what a key is and where it is written.

mod check;
mod checks;
mod explain;
mod fault;
mod filter;
mod keys;
mod locate;
mod misfit;
mod model;
mod reader;
mod source;
mod tree;
mod units;

pub use checks::{BlockList, CheckSettings, HeloCheck};
pub use explain::{Change, Explained, Scope, Written, explain, reference};
pub use fault::Fault;
pub use filter::{FilterAddress, FilterClients, FilterKind, FilterSettings, OnError};

pub use model::{
    AlertMailSettings, AlertSettings, AuthSettings, Authentication, BounceSettings, CacheSettings,
    ClientCertificates, ClusterSettings, DeliverySettings, DkimKey, DnsSettings, DoubleBounce, EightBit,
    FenceSettings, Launcher, LimitSettings, ListenerKind, ListenerSettings, LogFormat, LogLevel, LogSettings,
    NodeSettings, OwnerSettings, PeerSettings, PromotedSettings, QueueSettings, Settings, Storage,
    TableFiles, TlsFiles, TlsMode, WebhookSettings,
};
pub use source::{Environment, Source};

/// Reads a configuration. Later sources win: maps are merged, everything else replaces.
pub fn parse(sources: &[Source], environment: &Environment) -> Result<Settings, Vec<Fault>> {
    let mut faults = Vec::new();
    let tree = tree::read(sources, &mut faults);
    if !faults.is_empty() {
        // A file that is not understood at all would make everything in it look missing.
        return Err(faults);
    }
    let mut reader = reader::Reader::new(sources, faults);
    let mut misfits = Vec::new();
    misfit::misfits(&tree, "", &mut misfits);
    for misfit in misfits {
        reader.misfit(misfit.node, misfit.is_key, misfit.what);
    }
    let settings = check::settings(&mut reader, &reader::At::top(&tree), environment, hash(sources));
    let faults = reader.into_faults();
    settings.filter(|_| faults.is_empty()).ok_or(faults)
}

/// A duration as the configuration writes it: `300ms`, `2s`, `5m`, `1h`, `5d`. The error says what to write.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    units::duration(text)
}

/// A size in bytes as the configuration writes it: `64KiB`, `10MiB`, `1GB`. The error says what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    units::size(text)
}

/// A duration as the configuration writes it, in the largest unit that fits.
#[must_use]
pub fn show_duration(duration: std::time::Duration) -> String {
    units::shown(duration)
}

/// 16 hexadecimal digits of a digest of all texts and where each ends.
fn hash(sources: &[Source]) -> String {
    let mut hasher = blake3::Hasher::new();
    for source in sources {
        hasher.update(&(source.text.len() as u64).to_le_bytes());
        hasher.update(source.text.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}
