//! How many connections there may be: of all clients, and of one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use settings::LimitSettings;
use tokio::sync::watch;

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Connections of all clients.
    All,
    /// Connections of this client.
    Client,
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    clients: Mutex<HashMap<IpAddr, usize>>,
    open: watch::Sender<usize>,
}

impl Admission {
    /// Counts one more connection of `client` for as long as the place is held.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr, limits: &LimitSettings) -> Result<Place, Crowded> {
        let mut clients = self.clients.lock();
        if *self.open.borrow() >= limits.connections {
            return Err(Crowded::All);
        }
        let count = clients.entry(client).or_default();
        if *count >= limits.connections_per_client {
            return Err(Crowded::Client);
        }
        *count += 1;
        self.open.send_modify(|open| *open += 1);
        Ok(Place { admission: Arc::clone(self), client })
    }

    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Returns when none is open.
    pub(crate) async fn empty(&self) {
        // The sender lives in `self`, so this cannot fail.
        self.open.subscribe().wait_for(|open| *open == 0).await.ok();
    }
}

/// A counted connection.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.admission.clients.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                // Clients come and go for years: only those connected are remembered.
                clients.remove(&self.client);
            }
        }
        self.admission.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}
