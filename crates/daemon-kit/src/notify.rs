//! What systemd is told about this service. Each call does nothing where `NOTIFY_SOCKET` is not set, and a failure
//! is logged, never returned: a daemon works as well without its service manager knowing.

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

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(event = "notify.failed", %error);
    }
}
