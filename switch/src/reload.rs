//! The configuration and the certificates while the switch runs: read again when asked, checked first, and the old one kept if the new one has a
//! fault. No session is dropped.
//!
//! What sessions and deliveries look up each time (relay, routes, limits, retry) changes at once. What was opened at the
//! start (cluster, node, queue, listeners, health) needs a restart; the log says so.
//!
//! A change of the files is noticed and judged, but never taken into use without an order: half an edit is no wish.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use daemon_kit::configuration;
use mail_model::Role;
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use settings::Settings;
use tokio::sync::mpsc;

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
    /// The hash of the files as they were last judged. Also keeps two reloads apart.
    judged: Mutex<String>,
}

impl Reloader {
    /// For the configuration in use, which came from `file`.
    pub(crate) fn new(
        file: PathBuf,
        role: Role,
        settings: Arc<ArcSwap<Settings>>,
        tls: LiveTls,
        names: LiveNames,
    ) -> Self {
        let judged = Mutex::new(settings.load().hash.clone());
        Self { file, role, settings, tls, names, judged }
    }

    /// Takes the files and the certificates they name into use, or says every fault of them and changes nothing. Reads a few small files.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let mut judged = self.judged.lock();
        let new = match configuration::load(&self.file) {
            Ok(loaded) => loaded.settings,
            Err(faults) => return Err(self.refused(faults.to_string())),
        };
        judged.clone_from(&new.hash);
        let old = self.settings.load_full();
        let waiting = restart_only(&old, &new);
        let hash = new.hash.clone();
        let new = keep_opened(&old, new);
        // The listeners are those that are open, so it is their files that are read again.
        let tls = Tls::load(&new, self.role).map_err(|faults| self.refused(tls::shown(&faults)))?;
        let names = Names::new(&new).map_err(|fault| self.refused(fault.to_string()))?;
        self.tls.store(Arc::new(tls));
        self.names.store(Arc::new(names));
        self.settings.store(Arc::new(new));
        tracing::info!(event = "config.reloaded", %hash, previous = %old.hash);
        if waiting.is_empty() {
            return Ok(format!("configuration {hash} is in use"));
        }
        let waiting = waiting.join(", ");
        tracing::warn!(event = "config.restart_needed", changed = %waiting);
        Ok(format!("configuration {hash} is in use, except for {waiting}: restart the switch for that"))
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
    /// Watches the folder of `file` and `conf.d` in it. Without one (too many watches on this machine) nothing is noticed,
    /// and reloads work all the same.
    pub(crate) fn start(file: &Path) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let watcher = watcher(file, sender)
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

    /// Forgets the changes seen so far.
    pub(crate) fn forget(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }
}

fn watcher(file: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Our own reading makes events too.
        if event.is_ok_and(|event| event.kind.is_modify() || event.kind.is_create() || event.kind.is_remove())
        {
            // One note is as good as many.
            sender.try_send(()).ok();
        }
    })?;
    for folder in configuration::watch(file) {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
