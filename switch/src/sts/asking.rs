//! What is needed to ask for a policy.

use mail_model::WallTime;
use routing::Roots;

use crate::names::Names;
use crate::tls::Tls;

/// Whom to ask, whom to trust, and what time it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) names: &'a Names,
    pub(crate) tls: &'a Tls,
    pub(crate) roots: &'a Roots,
    pub(crate) now: WallTime,
}
