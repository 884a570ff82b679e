//! Hosts whose TLS did not work and that may be spoken to in clear: remembered for a while, so that not every message
//! pays for a handshake that fails.

use std::collections::HashMap;
use std::time::Duration;

use mail_model::Moment;
use parking_lot::Mutex;
use routing::HostPort;

/// How long a host is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);
/// So many are remembered at once; past that the old ones go, and then all.
const HOSTS_MAX: usize = 1_000;

/// Those hosts, each with when its TLS failed.
#[derive(Debug, Default)]
pub(crate) struct ClearHosts(Mutex<HashMap<HostPort, Moment>>);

impl ClearHosts {
    /// Its TLS just failed.
    pub(crate) fn remember(&self, host: &HostPort, now: Moment) {
        let mut hosts = self.0.lock();
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, since| now.since(*since) < REMEMBERED);
        }
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        hosts.insert(host.clone(), now);
    }

    /// True if its TLS failed not long ago.
    pub(crate) fn holds(&self, host: &HostPort, now: Moment) -> bool {
        self.0.lock().get(host).is_some_and(|since| now.since(*since) < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> HostPort {
        format!("h{number}.test").parse().unwrap()
    }

    #[test]
    fn a_host_is_remembered_for_a_while_and_never_more_of_them_than_the_bound() {
        let hosts = ClearHosts::default();
        let begun = Moment(0);
        hosts.remember(&host(0), begun);
        assert!(hosts.holds(&host(0), begun + REMEMBERED / 2) && !hosts.holds(&host(1), begun));
        assert!(!hosts.holds(&host(0), begun + REMEMBERED), "TLS is tried again");
        for number in 0..HOSTS_MAX * 2 {
            hosts.remember(&host(number), begun);
            assert!(hosts.holds(&host(number), begun) && hosts.0.lock().len() <= HOSTS_MAX);
        }
    }
}
