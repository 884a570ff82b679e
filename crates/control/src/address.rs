//! A socket's path as the kernel takes it: at most [`PATH_BYTES_MAX`] bytes.
//!
//! A longer path is named through its directory: that is opened, and `/proc/self/fd/N/NAME` means the same socket for as
//! long as the directory is held open.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path in a `sockaddr_un`, without its closing zero.
const PATH_BYTES_MAX: usize = 107;

/// A path short enough for the kernel, valid while this lives.
#[derive(Debug)]
pub(crate) struct Address {
    path: PathBuf,
    /// Held open: the path goes through it.
    _directory: Option<File>,
}

impl Address {
    /// A short path to the socket at `path`. Its directory must exist if `path` is long.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "names no file"));
        };
        let directory = File::open(parent)?;
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        if short.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, "the socket's name is too long"));
        }
        Ok(Self { path: short, _directory: Some(directory) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
