//! Connections that wait for the next message to their next hop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mail_model::Moment;
use parking_lot::Mutex;
use routing::NextHop;

use super::connection::Connection;

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
            if now.since(since) < idle && connection.is_quiet() {
                return Some(connection);
            }
            connection.close();
        }
        None
    }

    /// Keeps one, or closes it if enough wait already.
    pub(crate) fn put(&self, hop: &Arc<NextHop>, connection: Connection, max: usize, now: Moment) {
        let mut all = self.0.lock();
        let waiting = all.entry(Arc::clone(hop)).or_default();
        if waiting.len() < max {
            waiting.push((now, connection));
        } else {
            connection.close();
        }
    }

    /// Closes those that waited too long. True if some go on waiting.
    pub(crate) fn sweep(&self, idle: Duration, now: Moment) -> bool {
        let mut all = self.0.lock();
        all.retain(|_, waiting| {
            let young = waiting.iter().position(|(since, _)| now.since(*since) < idle);
            for (_, connection) in waiting.drain(..young.unwrap_or(waiting.len())) {
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
