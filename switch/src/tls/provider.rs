//! The cryptography under TLS.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// AWS-LC, whatever else of the program may have chosen a provider for itself.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
