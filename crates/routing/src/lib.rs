//! From an address to its next hop, and who may relay where. Touches no world.

pub mod mx;
mod next_hop;
mod relay;
pub mod sts;
mod table;
mod target;
mod tls;

pub use next_hop::{Host, HostPort, NextHop, NextHopError, Protocol};
pub use relay::{DomainPattern, DomainPatternError, RelayPolicy, RelayVerdict};
pub use table::{Pattern, PatternError, Route, Routes};
pub use target::{Refusal, Target, TargetError};
pub use tls::{Roots, TlsPolicy, TlsPolicyError};
