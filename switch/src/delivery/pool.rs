//! Connections that wait for the next message to their next hop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mail_model::Moment;
use parking_lot::Mutex;
use routing::NextHop;

use super::connection::Connection;

/// For so long nobody asks whether a connection is alive, and how many wait.
const MOMENT: Duration = Duration::from_millis(500);

/// Those of each next hop, with when they began to wait; the last came last.
type Waiting = HashMap<Arc<NextHop>, Vec<(Moment, Connection)>>;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Waiting>);

impl Pool {
    /// One that is alive as far as can be seen. The one used last: the others may go.
    pub(crate) fn take(&self, hop: &Arc<NextHop>, idle: Duration, now: Moment) -> Option<Connection> {
        let mut all = self.0.lock();
        let waiting = all.get_mut(hop)?;
        while let Some((since, mut connection)) = waiting.pop() {
            let waited = now.since(since);
            // One that was used a moment ago is not asked: if it is dead its transaction finds out, before anything is lost.
            let alive = if waited < MOMENT { connection.is_settled() } else { connection.is_quiet() };
            if waited < idle && alive {
                return Some(connection);
            }
            connection.close();
        }
        None
    }

    /// Keeps one, if any are kept. More than those wait for a moment: where much is sent, connections come and go between
    /// two messages, and one that is closed now would be opened again at once.
    pub(crate) fn put(&self, hop: &Arc<NextHop>, connection: Connection, max: usize, now: Moment) {
        if max > 0 {
            self.0.lock().entry(Arc::clone(hop)).or_default().push((now, connection));
        } else {
            connection.close();
        }
    }

    /// Closes those that waited too long, and of those that waited for more than a moment all but `max`. True if some go on
    /// waiting.
    pub(crate) fn sweep(&self, idle: Duration, max: usize, now: Moment) -> bool {
        let mut all = self.0.lock();
        all.retain(|_, waiting| {
            let surplus = waiting.len().saturating_sub(max);
            let mut aged = waiting.iter().map(|(since, _)| now.since(*since)).enumerate();
            let stays = |(place, waited)| waited < idle && (place >= surplus || waited < MOMENT);
            let first = aged.position(stays);
            for (_, connection) in waiting.drain(..first.unwrap_or(waiting.len())) {
                connection.close();
            }
            !waiting.is_empty()
        });
        !all.is_empty()
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        for (_, connection) in self.0.lock().drain().flat_map(|(_, waiting)| waiting) {
            connection.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_are_kept_wait_for_a_moment_and_none_where_none_is_kept() {
        let hop: Arc<NextHop> = Arc::new("192.0.2.1:25".parse().unwrap());
        let (pool, idle, begun) = (Pool::default(), Duration::from_secs(10), Moment(1_000));
        let waiting = || pool.0.lock().get(&hop).map_or(0, Vec::len);
        pool.put(&hop, Connection::nowhere(), 0, begun);
        assert_eq!(waiting(), 0);
        for _ in 0..5 {
            pool.put(&hop, Connection::nowhere(), 2, begun);
        }
        assert!(pool.take(&hop, idle, begun + MOMENT / 2).is_some(), "it is not asked");
        assert!(pool.sweep(idle, 2, begun + MOMENT / 2));
        assert_eq!(waiting(), 4);
        pool.put(&hop, Connection::nowhere(), 2, begun + MOMENT / 2);
        assert!(pool.sweep(idle, 2, begun + MOMENT));
        assert_eq!(waiting(), 2);
        assert!(pool.take(&hop, idle, begun + MOMENT).is_some(), "the one that was used last");
        assert!(pool.take(&hop, idle, begun + MOMENT).is_none(), "the other is asked, and leads nowhere");
        pool.put(&hop, Connection::nowhere(), 2, begun);
        assert!(!pool.sweep(idle, 2, begun + idle));
    }
}
