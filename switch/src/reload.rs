//! The configuration and the certificates while the switch runs: read again when asked, checked first, and the old one kept if the new one has a
//! fault. No session is dropped.
//!
//! What sessions and deliveries look up each time (relay, routes, limits, retry) changes at once. What was opened at the
//! start (cluster, node, queue, listeners, health) needs a restart; the log says so.
//!
//! A change of the files is noticed and judged, but never taken into use without an order: half an edit is no wish. Tables are
//! lists that programs write; one that changed is taken into use by itself, and one with a fault stays as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use daemon_kit::{configuration, tables};
use mail_model::Role;
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use settings::{Settings, TableFiles};
use tokio::sync::mpsc;

use crate::intake::{self, LiveDirectory, LiveInspection};
use crate::names::{LiveNames, Names};
use crate::tls::{self, LiveTls, Tls};

/// Reads the configuration again.
#[derive(Debug)]
pub(crate) struct Reloader {
    file: PathBuf,
    role: Role,
    settings: Arc<ArcSwap<Settings>>,
    tls: LiveTls,
    names: LiveNames,
    directory: LiveDirectory,
    inspection: LiveInspection,
    /// The hash of the files as they were last judged. Also keeps two reloads apart.
    judged: Mutex<String>,
    /// The faults of tables that were told last.
    table_faults: Mutex<String>,
}

impl Reloader {
    /// For the configuration in use, which came from `file`.
    pub(crate) fn new(
        file: PathBuf,
        role: Role,
        settings: Arc<ArcSwap<Settings>>,
        tls: LiveTls,
        names: LiveNames,
        directory: LiveDirectory,
        inspection: LiveInspection,
    ) -> Self {
        let judged = Mutex::new(settings.load().hash.clone());
        Self {
            file,
            role,
            settings,
            tls,
            names,
            directory,
            inspection,
            judged,
            table_faults: Mutex::default(),
        }
    }

    /// Takes the files and the certificates they name into use, or says every fault of them and changes nothing. Reads a few small files.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let mut judged = self.judged.lock();
        let mut new = match configuration::load(&self.file) {
            Ok(loaded) => loaded.settings,
            Err(faults) => return Err(self.refused(faults.to_string())),
        };
        let faults = tables::load(&mut new, None);
        if !faults.is_empty() {
            return Err(self.refused(tables::shown(&faults)));
        }
        judged.clone_from(&new.hash);
        let old = self.settings.load_full();
        let waiting = restart_only(&old, &new);
        let hash = new.hash.clone();
        let new = keep_opened(&old, new);
        // The listeners are those that are open, so it is their files that are read again.
        let tls = Tls::load(&new, self.role).map_err(|faults| self.refused(tls::shown(&faults)))?;
        let names = Names::new(&new).map_err(|fault| self.refused(fault.to_string()))?;
        let directory = intake::directory(&new, self.role).map_err(|faults| self.refused(faults))?;
        let inspection = self
            .inspection
            .load()
            .renewed(&new, self.role)
            .map_err(|faults| self.refused(faults.join("\n")))?;
        self.inspection.store(Arc::new(inspection));
        self.tls.store(Arc::new(tls));
        self.names.store(Arc::new(names));
        self.directory.store(directory.map(Arc::new));
        self.settings.store(Arc::new(new));
        tracing::info!(event = "config.reloaded", %hash, previous = %old.hash);
        if waiting.is_empty() {
            return Ok(format!("configuration {hash} is in use"));
        }
        let waiting = waiting.join(", ");
        tracing::warn!(event = "config.restart_needed", changed = %waiting);
        Ok(format!("configuration {hash} is in use, except for {waiting}: restart the switch for that"))
    }

    /// Takes tables into use that changed on disk.
    pub(crate) fn look_at_tables(&self) {
        let _no_reload_meanwhile = self.judged.lock();
        let old = self.settings.load_full();
        if tables::files(&old.table_files).is_empty() {
            return;
        }
        let mut new = Settings::clone(&old);
        let mut faults = tables::shown(&tables::load(&mut new, Some(&old)));
        if new.routes != old.routes || new.tables != old.tables {
            match Tls::load(&Settings { listeners: old.listeners.clone(), ..new.clone() }, self.role) {
                Ok(tls) => {
                    self.tls.store(Arc::new(tls));
                    self.settings.store(Arc::new(new));
                    tracing::info!(event = "table.reloaded");
                }
                Err(found) => faults.push_str(&tls::shown(&found)),
            }
        }
        let mut told = self.table_faults.lock();
        if *told != faults {
            if !faults.is_empty() {
                tracing::error!(event = "table.refused", %faults);
            }
            *told = faults;
        }
    }

    /// Says in the log what is wrong, and passes it on.
    fn refused(&self, faults: String) -> String {
        tracing::error!(event = "config.refused", file = %self.file.display(), %faults);
        faults
    }

    /// Judges the files if they are not those judged last, and says in the log what a reload would do.
    pub(crate) fn look(&self) {
        let mut judged = self.judged.lock();
        match configuration::load(&self.file) {
            Ok(loaded) if loaded.settings.hash == *judged => {}
            Ok(loaded) => {
                judged.clone_from(&loaded.settings.hash);
                tracing::info!(event = "config.changed_on_disk", valid = true, hash = %loaded.settings.hash);
            }
            Err(faults) => {
                let faults = faults.to_string();
                if *judged != faults {
                    tracing::warn!(event = "config.changed_on_disk", valid = false, %faults);
                    *judged = faults;
                }
            }
        }
    }
}

/// The parts of the configuration that changed and that only a restart takes into use.
fn restart_only(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let changed = [
        ("cluster", old.cluster != new.cluster),
        ("node", old.node != new.node),
        ("queue", old.queue != new.queue),
        ("listeners", old.listeners != new.listeners),
        ("health", old.health != new.health),
        ("log", old.log != new.log),
    ];
    changed.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The new configuration with what is open already as it is.
fn keep_opened(old: &Settings, new: Settings) -> Settings {
    Settings {
        cluster: old.cluster.clone(),
        node: old.node.clone(),
        queue: old.queue.clone(),
        listeners: old.listeners.clone(),
        health: old.health,
        log: old.log,
        ..new
    }
}

/// A watch on the folders of a configuration file. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    _watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches the folder of `file`, `conf.d` in it, and the folders of tables. Without one (too many watches on this machine) nothing is noticed,
    /// and reloads work all the same.
    pub(crate) fn start(file: &Path, table_files: &TableFiles) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let watcher = watcher(file, table_files, sender)
            .inspect_err(
                |error| tracing::warn!(event = "config.watch_failed", file = %file.display(), %error),
            )
            .ok();
        Self { _watcher: watcher, changes }
    }

    /// Returns when something changed. Pending for ever if nothing is watched.
    pub(crate) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets the changes seen so far. True if there were any.
    pub(crate) fn forget(&mut self) -> bool {
        let mut any = false;
        while self.changes.try_recv().is_ok() {
            any = true;
        }
        any
    }
}

/// True if what is read may be another now. Our own reading makes events too; and a log may lie in the folder, which grows
/// all the time.
fn matters(event: &Event, read: &[PathBuf]) -> bool {
    let is_read = |path: &PathBuf| read.contains(path) || path.extension().is_some_and(|end| end == "yaml");
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => event.paths.iter().any(is_read),
        EventKind::Modify(_) | EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Other => false,
    }
}

fn watcher(
    file: &Path,
    table_files: &TableFiles,
    sender: mpsc::Sender<()>,
) -> notify::Result<RecommendedWatcher> {
    let read: Vec<PathBuf> = tables::files(table_files)
        .into_iter()
        .chain([file])
        .map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned()))
        .collect();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| matters(&event, &read)) {
            // One note is as good as many.
            sender.try_send(()).ok();
        }
    })?;
    let mut folders = configuration::watch(file);
    folders.extend(tables::files(table_files).into_iter().filter_map(Path::parent).map(Path::to_owned));
    folders.sort();
    folders.dedup();
    for folder in folders {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange};

    use super::*;

    #[test]
    fn a_log_that_grows_beside_the_configuration_is_no_change_of_it() {
        let read = [PathBuf::from("/etc/ms/mailswitch.yaml"), PathBuf::from("/etc/ms/aliases")];
        let grown = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let told = |kind, path: &str| matters(&Event::new(kind).add_path(path.into()), &read);
        assert!(!told(grown, "/etc/ms/switch.log"));
        for path in ["/etc/ms/mailswitch.yaml", "/etc/ms/conf.d/more.yaml", "/etc/ms/aliases"] {
            assert!(told(grown, path), "{path}");
        }
        // A folder of links that is swapped as one has names of its own.
        assert!(told(EventKind::Create(CreateKind::Any), "/etc/ms/..data"));
    }
}
