//! All file operations of the queue, behind one small trait with a real and a simulated side.
//!
//! The trait says what each operation *promises*, no more: a write is durable after `sync_data`, a name after `sync_dir`.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use queue_format::lease::SECTOR_LEN;

/// An open file.
pub trait StoredFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`. Not durable yet.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads into `buffer` from `offset`; fewer bytes only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Fills `buffer` from `offset` if that needs no wait for a disk; false if it might.
    fn read_cached(&self, _offset: u64, _buffer: &mut [u8]) -> bool {
        false
    }
    /// Bytes.
    fn size(&self) -> io::Result<u64>;
    /// Makes everything written durable. After an error nothing is known about what was written: never call it again.
    fn sync_data(&self) -> io::Result<()>;
    /// Sets `len` bytes of space aside, reading as zeros. A file system that cannot do it is fine; a full one is an error.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Gives back what is behind `len`.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A place for files.
pub trait Storage: Send + Sync + Debug {
    /// Makes a file that is not there yet.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// Opens a file for reading, through the cache.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// Opens a file for reading and writing, through the cache.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// Opens a file whose sectors are read past every cache. Reads are of whole sectors.
    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// Gives a file a second name, if that name is free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// How many names a file has.
    fn link_count(&self, path: &Path) -> io::Result<u64>;
    /// Takes a name away.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory; one that is there already is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory; none if there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Free bytes where `path` is.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Locks `path`, which is made if it is missing, against other processes of this machine at least; `None` if another
    /// holds the lock.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>>;
    /// True if no process of this machine holds the lock of `path`. Takes nothing.
    fn is_lock_free(&self, path: &Path) -> io::Result<bool>;
}

/// A lock that is held. It goes with the value, and with the process, however that ends.
pub trait HeldLock: Send + Sync + Debug {}

/// An open-file-description lock ends with its file.
impl HeldLock for File {}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile(File);

impl StoredFile for DiskFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_full(&self.0, offset, buffer)
    }

    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let wanted = buffer.len();
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        let read = rustix::io::preadv2(&self.0, &mut [io::IoSliceMut::new(buffer)], offset, flags);
        read.is_ok_and(|count| count == wanted)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, len) {
            // NFSv4.1 and some FUSE file systems cannot: the segment grows as it is written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A buffer whose start lies on a sector boundary, as `O_DIRECT` demands.
#[repr(C, align(4096))]
struct Aligned([u8; SECTOR_LEN]);

#[derive(Debug)]
struct DirectFile(File);

impl StoredFile for DirectFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut sector = Aligned([0; SECTOR_LEN]);
        let read = read_full(&self.0, offset, &mut sector.0)?;
        let count = read.min(buffer.len());
        if let (Some(slots), Some(bytes)) = (buffer.get_mut(..count), sector.0.get(..count)) {
            slots.copy_from_slice(bytes);
        }
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Where `O_DIRECT` is refused: every read opens the file anew, which network file systems answer with fresh attributes.
#[derive(Debug)]
struct ReopenedFile(PathBuf);

impl StoredFile for ReopenedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_full(&File::open(&self.0)?, offset, buffer)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.0)?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Storage for Disk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(DiskFile(File::open(path)?)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(DiskFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => Ok(Box::new(DirectFile(file))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(Box::new(ReopenedFile(path.to_owned())))
            }
            Err(error) => Err(error),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.nlink())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(OsStr::to_string_lossy(&entry?.file_name()).into_owned())).collect()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Some(Box::new(file))),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_lock_free(&self, path: &Path) -> io::Result<bool> {
        let file = match File::options().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            file => file?,
        };
        let mut probe = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut probe))?;
        Ok(i32::from(probe.l_type) == nix::libc::F_UNLCK)
    }
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
