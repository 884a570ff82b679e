//! The users file on disk: looked up by the switch, edited by `switchctl`.
//!
//! A look-up first asks the file system whether the file is still the one that was read, and reads it again if not. A file
//! that then has a fault changes nothing: the users of before stay, and the log says so once.
//!
//! An edit writes a new file beside the old one and puts it in its place, so a look-up reads the one or the other, whole.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::account::Account;
use crate::directory::{Directory, Unavailable};
use crate::users::{Users, UsersFault};
use crate::verifier::{ScramKeys, Verifiers};

/// More than this is no users file: half a million users.
const OCTETS_MAX: u64 = 128 << 20;

/// What tells a file from the one that was read before.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let told = |data: Metadata| (data.ino(), data.len(), data.mtime(), data.mtime_nsec());
    std::fs::metadata(path).ok().map(told)
}

fn unreadable(path: &Path, error: &io::Error) -> UsersFault {
    let remedy = if error.kind() == io::ErrorKind::NotFound {
        "make it with 'switchctl user add NAME'"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "let the user of the switch read it"
    } else if error.kind() == io::ErrorKind::InvalidData {
        "it must be text in UTF-8"
    } else {
        "look at the file and its file system"
    };
    UsersFault { file: path.to_owned(), line: None, what: format!("{error}; {remedy}") }
}

fn read(path: &Path) -> Result<Users, Vec<UsersFault>> {
    let fault = |error| vec![unreadable(path, &error)];
    if std::fs::metadata(path).map_err(fault)?.len() > OCTETS_MAX {
        return Err(fault(io::ErrorKind::FileTooLarge.into()));
    }
    Users::parse(path, &std::fs::read_to_string(path).map_err(fault)?)
}

/// The users of a file.
#[derive(Debug)]
pub struct FileDirectory {
    path: PathBuf,
    users: ArcSwap<Users>,
    /// Of the file that was judged last.
    judged: Mutex<Stamp>,
    /// What a password of nobody is checked against, so that it takes as long.
    decoy: OnceLock<Verifiers>,
    /// Makes the salts of nobody.
    salts: [u8; 32],
}

impl FileDirectory {
    /// Reads the file, or says every fault. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self, Vec<UsersFault>> {
        // The stamp of before the reading: what changes meanwhile is read again.
        let judged = Mutex::new(stamp(path));
        let users = ArcSwap::from_pointee(read(path)?);
        let mut salts = [0; 32];
        aws_lc_rs::rand::fill(&mut salts).map_err(|_| {
            let what = "this machine gives no random numbers".to_owned();
            vec![UsersFault { file: path.to_owned(), line: None, what }]
        })?;
        Ok(Self { path: path.to_owned(), users, judged, decoy: OnceLock::new(), salts })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The users as the file has them now, or had them when it was last right.
    fn users(&self) -> arc_swap::Guard<std::sync::Arc<Users>> {
        let mut judged = self.judged.lock();
        let now = stamp(&self.path);
        if *judged != now {
            *judged = now;
            let file = self.path.display();
            match read(&self.path) {
                Ok(users) => {
                    tracing::info!(event = "auth.users_read", %file, users = users.iter().count());
                    self.users.store(std::sync::Arc::new(users));
                }
                Err(faults) => {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    tracing::error!(event = "auth.users_refused", %file, faults = %faults.join("; "));
                }
            }
        }
        self.users.load()
    }

    fn decoy(&self) -> &Verifiers {
        self.decoy.get_or_init(|| Verifiers::of("nobody", false).unwrap_or_default())
    }

    /// Keys that no password has, the same for a name as long as this process lives.
    fn invented(&self, name: &str) -> ScramKeys {
        let hash = blake3::keyed_hash(&self.salts, name.to_lowercase().as_bytes());
        let salt = hash.as_bytes().iter().copied().take(16).collect();
        ScramKeys::invented(salt, *hash.as_bytes())
    }
}

impl Directory for FileDirectory {
    fn check(&self, name: &str, password: &str) -> Result<Option<Account>, Unavailable> {
        let users = self.users();
        let Some(user) = users.find(name) else {
            // For the time it takes.
            let _ = self.decoy().check(password);
            return Ok(None);
        };
        Ok(user.verifiers.check(password).then(|| user.account()))
    }

    fn scram(&self, name: &str) -> Result<(ScramKeys, Option<Account>), Unavailable> {
        let users = self.users();
        let found = users.find(name).and_then(|user| Some((user.verifiers.scram()?, user)));
        Ok(match found {
            Some((keys, user)) => (keys.clone(), Some(user.account())),
            None => (self.invented(name), None),
        })
    }
}

/// Edits the users file: reads it, changes it, and puts the new one in its place. A file that is not there is an empty one.
/// What `change` returns is passed on; nothing is written if that is an error. Edits of several programs follow each other.
pub fn edit<T>(
    path: &Path,
    change: impl FnOnce(&mut Users) -> Result<T, String>,
) -> Result<T, Vec<UsersFault>> {
    let told = |what: String| vec![UsersFault { file: path.to_owned(), line: None, what }];
    let fault = |error: io::Error| told(format!("{error}; run this as a user who may write there"));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder).map_err(fault)?;
    // One edit at a time; released when closed.
    folder.lock().map_err(fault)?;
    let there = match std::fs::metadata(path) {
        Ok(data) => Some(data),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fault(error)),
    };
    let mut users = if there.is_some() { read(path)? } else { Users::default() };
    let answer = change(&mut users).map_err(told)?;
    let text = users.to_string();
    // What the switch would refuse is not put in its way.
    Users::parse(path, &text)?;
    replace(path, &text, there.as_ref()).and_then(|()| folder.sync_all()).map_err(fault)?;
    Ok(answer)
}

fn replace(path: &Path, text: &str, old: Option<&Metadata>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    // Left over from an edit that was cut off: we hold the lock.
    std::fs::remove_file(&fresh).ok();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    if let Some(old) = old {
        // Whoever could read the old file can read the new one. Only root may give a file away.
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).ok();
        file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.sync_all()?;
    rustix::fs::rename(&fresh, path)?;
    Ok(())
}
