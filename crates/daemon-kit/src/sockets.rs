//! Listening sockets that the service manager opened and handed down: `sd_listen_fds(3)`.
//!
//! Never opens a socket itself, and never looks at what is handed down beyond its name.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// One of them.
#[derive(Debug)]
pub struct Inherited {
    /// Its name: `FileDescriptorName=` of the socket unit.
    pub name: String,
    /// The descriptor, closed when dropped and not passed on to children.
    pub socket: OwnedFd,
}

/// All of them, in the order of the service manager's list. Empty if it handed none down, and on every further call.
pub fn inherited() -> io::Result<Vec<Inherited>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let listed = sd_notify::listen_fds_with_names()?;
    let adopt = |(raw, name)| {
        #[expect(
            unsafe_code,
            reason = "the service manager says that these descriptors are open and ours, and they are taken once"
        )]
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        Inherited { name, socket }
    };
    Ok(listed.map(adopt).collect())
}
