//! How many connections there may be, of all clients, of one and of one network, and what each client did lately.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use mail_model::Moment;
use parking_lot::Mutex;
use policy::limits::{Kind, network_of};
use policy::meter::Meter;
use settings::LimitSettings;
use tokio::sync::watch;

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Connections of all clients.
    All,
    /// Connections of this client.
    Client,
    /// Connections of its network.
    Network,
    /// Connections of this client, or its network, within a minute.
    Rate,
}

impl Crowded {
    /// Its name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Client => "client",
            Self::Network => "network",
            Self::Rate => "rate",
        }
    }

    /// Its name among the reasons of `mailswitch_smtp_refusals_total`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::All => "limit_all",
            Self::Client => "limit_client",
            Self::Network => "limit_network",
            Self::Rate => "limit_rate",
        }
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    counts: Mutex<Counts>,
    open: watch::Sender<usize>,
}

/// Of whom there is something to count.
#[derive(Debug, Default)]
struct Counts {
    clients: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
    meter: Meter,
}

impl Counts {
    fn enter(&mut self, now: Moment, client: IpAddr, limits: &LimitSettings) -> Result<(), Crowded> {
        let client_max = limits.connections_per_client;
        if self.clients.get(&client).is_some_and(|count| *count >= client_max) {
            return Err(Crowded::Client);
        }
        let network = network_of(client);
        let factor = usize::try_from(limits.clients.network_factor.get()).unwrap_or(usize::MAX);
        let network_max = client_max.saturating_mul(factor);
        if self.networks.get(&network).is_some_and(|count| *count >= network_max)
            && !limits.clients.is_exempt(client)
        {
            return Err(Crowded::Network);
        }
        if !self.meter.take(now, client, Kind::Connection, 1, &limits.clients) {
            return Err(Crowded::Rate);
        }
        *self.clients.entry(client).or_default() += 1;
        *self.networks.entry(network).or_default() += 1;
        Ok(())
    }

    fn leave(&mut self, client: IpAddr) {
        for (counts, who) in [(&mut self.clients, client), (&mut self.networks, network_of(client))] {
            if let Some(count) = counts.get_mut(&who) {
                *count -= 1;
                if *count == 0 {
                    // Clients come and go for years: only those connected are remembered.
                    counts.remove(&who);
                }
            }
        }
    }
}

impl Admission {
    /// Counts one more connection of `client` for as long as the place is held, unless somebody has enough of them. Whose
    /// client is not known yet is counted among all only.
    pub(crate) fn enter(
        self: &Arc<Self>,
        now: Moment,
        client: Option<IpAddr>,
        limits: &LimitSettings,
    ) -> Result<Place, Crowded> {
        let mut counts = self.counts.lock();
        if *self.open.borrow() >= limits.connections {
            return Err(Crowded::All);
        }
        if let Some(client) = client {
            counts.enter(now, client, limits)?;
        }
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
    /// Whose it is, if a client is known that it counts for.
    client: Option<IpAddr>,
}

impl Place {
    /// It turns out whose connection this is; none: nobody's whom anybody could count. It stays where it was if that client
    /// has enough.
    pub(crate) fn move_to(
        &mut self,
        now: Moment,
        client: Option<IpAddr>,
        limits: &LimitSettings,
    ) -> Result<(), Crowded> {
        if client == self.client {
            return Ok(());
        }
        let mut counts = self.admission.counts.lock();
        if let Some(client) = client {
            counts.enter(now, client, limits)?;
        }
        if let Some(earlier) = std::mem::replace(&mut self.client, client) {
            counts.leave(earlier);
        }
        Ok(())
    }

    /// Counts what the client did; false if that is more than it may in a minute.
    pub(crate) fn take(&self, now: Moment, kind: Kind, count: u64, limits: &LimitSettings) -> bool {
        let Some(client) = self.client else { return true };
        if count == 0 {
            return true;
        }
        self.admission.counts.lock().meter.take(now, client, kind, count, &limits.clients)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.admission.counts.lock().leave(client);
        }
        self.admission.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> LimitSettings {
        let text = "cluster: { id: test }\nnode: { id: a }\nlisteners: [ { address: 127.0.0.1:25 } ]\n\
                    relay: { trusted_networks: [ 10.0.0.0/8 ] }\nroutes: [ { match: \"*\", next_hop: h } ]\n\
                    limits: { connections: 5, connections_per_client: 2, network_factor: 2 }\n";
        let source = settings::Source { path: "/nowhere/m.yaml".into(), text: text.to_owned() };
        settings::parse(&[source], &settings::Environment::default()).unwrap().limits
    }

    #[test]
    fn places_are_counted_for_all_for_each_client_and_network_and_come_back() {
        let (admission, mut limits) = (Arc::new(Admission::default()), limits());
        let [one, two, three, far] =
            [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3], [192, 0, 3, 1]].map(IpAddr::from);
        let now = Moment(0);
        let mut places = vec![
            admission.enter(now, Some(one), &limits).unwrap(),
            admission.enter(now, Some(one), &limits).unwrap(),
            admission.enter(now, None, &limits).unwrap(),
        ];
        assert_eq!(admission.enter(now, Some(one), &limits).unwrap_err(), Crowded::Client);
        // One of a balancer's turns out to be of a client.
        assert_eq!(places[2].move_to(now, Some(one), &limits).unwrap_err(), Crowded::Client);
        places[2].move_to(now, Some(two), &limits).unwrap();
        places.push(admission.enter(now, Some(two), &limits).unwrap());
        assert_eq!(admission.enter(now, Some(three), &limits).unwrap_err(), Crowded::Network);
        places.push(admission.enter(now, Some(far), &limits).unwrap());
        assert_eq!(admission.enter(now, Some(far), &limits).unwrap_err(), Crowded::All);
        assert_eq!(admission.open(), 5);
        places.clear();
        let counts = admission.counts.lock();
        assert_eq!((admission.open(), counts.clients.len(), counts.networks.len()), (0, 0, 0));
        drop(counts);
        limits.clients.per_minute.connections = std::num::NonZeroU32::new(1);
        drop(admission.enter(now, Some(three), &limits).unwrap());
        assert_eq!(admission.enter(now, Some(three), &limits).unwrap_err(), Crowded::Rate);
    }
}
