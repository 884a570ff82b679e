//! Names of hosts.

use mail_model::Domain;

/// A name of letters, digits, '-' and '.'.
pub(super) fn host_name(text: &str) -> Option<Domain> {
    let label = |label: &str| {
        let allowed = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        allowed && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) { Domain::new(text).ok() } else { None }
}
