//! How many connections there may be: of all clients, and of one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
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
    /// Counts one more connection of `client` for as long as the place is held, unless there are `all_max` of everybody or
    /// `client_max` of this client.
    pub(crate) fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        all_max: usize,
        client_max: usize,
    ) -> Result<Place, Crowded> {
        let mut clients = self.clients.lock();
        if *self.open.borrow() >= all_max {
            return Err(Crowded::All);
        }
        if clients.get(&client).is_some_and(|count| *count >= client_max) {
            return Err(Crowded::Client);
        }
        *clients.entry(client).or_default() += 1;
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

impl Place {
    /// Whose connection it is.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    /// The same connection turns out to be of another client. It stays counted where it was if that one has enough.
    pub(crate) fn move_to(&mut self, client: IpAddr, client_max: usize) -> Result<(), Crowded> {
        let mut clients = self.admission.clients.lock();
        if client == self.client {
            return Ok(());
        }
        if clients.get(&client).is_some_and(|count| *count >= client_max) {
            return Err(Crowded::Client);
        }
        *clients.entry(client).or_default() += 1;
        leave(&mut clients, self.client);
        self.client = client;
        Ok(())
    }
}

/// One connection of `client` less.
fn leave(clients: &mut HashMap<IpAddr, usize>, client: IpAddr) {
    if let Some(count) = clients.get_mut(&client) {
        *count -= 1;
        if *count == 0 {
            // Clients come and go for years: only those connected are remembered.
            clients.remove(&client);
        }
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
        leave(&mut self.admission.clients.lock(), self.client);
        self.admission.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_for_all_and_for_each_client_and_come_back() {
        let admission = Arc::new(Admission::default());
        let [one, two, three] = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]].map(IpAddr::from);
        let enter = |client| admission.enter(client, 3, 2);
        let mut places = vec![enter(one).unwrap(), enter(one).unwrap()];
        assert_eq!(enter(one).unwrap_err(), Crowded::Client);
        places.push(enter(two).unwrap());
        assert_eq!(enter(three).unwrap_err(), Crowded::All);
        assert_eq!(admission.open(), 3);
        // One of a balancer's, which are not bounded, turns out to be of a client.
        assert_eq!(places[2].move_to(one, 2).unwrap_err(), Crowded::Client);
        places[2].move_to(three, 1).unwrap();
        assert_eq!(admission.clients.lock().len(), 2);
        places.clear();
        assert_eq!((admission.open(), admission.clients.lock().len()), (0, 0), "nobody is remembered");
        enter(three).unwrap();
    }
}
