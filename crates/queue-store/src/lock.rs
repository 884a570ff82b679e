//! `Q/lock`: the lock of the running instance. It guards against a double start on one machine and lets a watcher of the
//! same machine notice a death at once. It is never trusted for safety: network file systems lose and move locks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use queue_format::names;

/// The lock file, locked or not. The lock goes with the value.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    held: parking_lot::Mutex<Option<File>>,
}

fn whole_file() -> nix::libc::flock {
    nix::libc::flock {
        l_type: i16::try_from(nix::libc::F_WRLCK).unwrap_or(1),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl Lock {
    pub(crate) fn new(queue_dir: &Path) -> Self {
        Self { path: queue_dir.join(names::LOCK_FILE), held: parking_lot::Mutex::new(None) }
    }

    /// Takes the lock if it is free. An open-file-description lock: it ends with the process, however that ends.
    pub(crate) fn try_take(&self) -> std::io::Result<bool> {
        let mut held = self.held.lock();
        if held.is_some() {
            return Ok(true);
        }
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => {
                *held = Some(file);
                Ok(true)
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it back.
    pub(crate) fn release(&self) {
        *self.held.lock() = None;
    }

    /// True if nobody holds it. Takes nothing.
    pub(crate) fn looks_free(&self) -> std::io::Result<bool> {
        is_free_file(&self.path)
    }
}

/// True if nobody on this machine (on file systems with coherent locks: nobody at all) runs the queue in `queue_dir`.
pub(crate) fn is_free(queue_dir: &Path) -> std::io::Result<bool> {
    is_free_file(&queue_dir.join(names::LOCK_FILE))
}

fn is_free_file(path: &Path) -> std::io::Result<bool> {
    let file = match File::options().write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    let mut probe = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut probe))?;
    Ok(i32::from(probe.l_type) == nix::libc::F_UNLCK)
}
