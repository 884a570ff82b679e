//! What systemd is told about this service. Each call does nothing where `NOTIFY_SOCKET` is not set, and a failure
//! is logged, never returned: a daemon works as well without its service manager knowing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The start is finished: what depends on this service may start.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    send(&[NotifyState::Status(line)]);
}

/// The service is going down as asked.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// It works: the service manager's watchdog starts anew. Only to be called by what would stand still if the program did.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be called: three times within the watchdog's span. `None` without a watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|span| span / 3)
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(event = "notify.failed", %error);
    }
}
