//! From an address to its next hop, and who may relay where. Touches no world.

mod certificate;
mod credentials;
mod drill;
mod in_doubt;
mod lines;
pub mod mx;
mod next_hop;
mod pattern;
mod rate;
pub mod recipient;
mod relay;
pub mod sts;
mod table;
pub mod tables;
mod target;
mod tls;

pub use certificate::{CertificatePattern, CertificatePatternError, ClientCertificate, Identity};
pub use credentials::{Credentials, Secret};
pub use drill::{DrillAddress, DrillKey, drill_address, is_drill};
pub use in_doubt::{InDoubt, InDoubtError};
pub use lines::LineFault;
pub use next_hop::{Host, HostPort, NextHop, NextHopError, Protocol};
pub use pattern::{Expression, Pattern, PatternError};
pub use rate::{Rate, RateError};
pub use relay::{DomainPattern, DomainPatternError, RelayPolicy, RelayVerdict};
pub use table::{Route, Routes};
pub use tables::{Slot, Tables};
pub use target::{Refusal, Target, TargetError};
pub use tls::{Roots, TlsPolicy, TlsPolicyError};
