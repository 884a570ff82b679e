//! `auth`, and what a listener for submission needs of it.

use std::time::Duration;

use smtp::sasl::Mechanism;

use crate::model::{AuthSettings, ListenerKind};
use crate::reader::{At, Reader};

const USERS: &str = "/etc/mailswitch/users";

/// Who may submit mail.
pub(crate) fn auth<'a>(read: &mut Reader<'a>, at: &At<'a>) -> AuthSettings {
    let users = read.path(&at.key("users")).unwrap_or_else(|| USERS.into());
    let mut mechanisms: Vec<Mechanism> = Vec::new();
    let names = at.key("mechanisms");
    for item in names.items() {
        let known = Mechanism::ALL.map(|mechanism| mechanism.name().to_lowercase()).join(", ");
        let mechanism = read.parsed(&item, |text| {
            Mechanism::named(text).ok_or_else(|| format!("'{text}' is not known; write one of {known}"))
        });
        if let Some(mechanism) = mechanism.filter(|mechanism| !mechanisms.contains(mechanism)) {
            mechanisms.push(mechanism);
        }
    }
    if names.is_there() && names.has_no_items() {
        read.fault(&names, "none, so nobody could authenticate; name one, or remove the key for all");
    }
    if mechanisms.is_empty() {
        mechanisms = Mechanism::ALL.to_vec();
    }
    let delay = Duration::ZERO..=Duration::from_secs(30);
    let failure_delay = read.duration(&at.key("failure_delay"), delay).unwrap_or(Duration::from_secs(2));
    let failures = read.number(&at.key("failures_per_client"), 1..=1_000_000);
    let failures_per_client = failures.and_then(|number| u32::try_from(number).ok()).unwrap_or(20);
    AuthSettings { users, mechanisms, failure_delay, failures_per_client }
}

/// Whether what a message lacks is added. Only the first server of a message may do that. RFC 6409 8.
pub(crate) fn add_missing_fields<'a>(read: &mut Reader<'a>, at: &At<'a>, kind: ListenerKind) -> bool {
    let submission = kind == ListenerKind::Submission;
    let wanted = read.flag(at);
    if wanted == Some(true) && !submission {
        read.fault(at, "only what users submit is completed; write 'kind: submission' too, or remove this");
    }
    wanted.unwrap_or(submission)
}

/// What a listener is for.
pub(crate) fn kind<'a>(read: &mut Reader<'a>, listener: &At<'a>, has_certificate: bool) -> ListenerKind {
    let at = listener.key("kind");
    let kind = read.parsed(&at, |text| match text {
        "relay" => Ok(ListenerKind::Relay),
        "submission" => Ok(ListenerKind::Submission),
        other => Err(format!("'{other}' is no kind of listener; write relay or submission")),
    });
    if kind == Some(ListenerKind::Submission) && !has_certificate {
        read.fault(
            &at,
            "passwords are taken under TLS only; add 'tls: { cert: …, key: … }' to this listener",
        );
    }
    kind.unwrap_or_default()
}
