//! Whether a client is the user it says. The session carries the messages, `accounts` understands them; here they are brought
//! together, off the threads that serve sessions, and what fails is answered late and counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use accounts::{Account, Denial, Directory, Exchange, FileDirectory, Said};
use arc_swap::ArcSwapOption;
use mail_model::{Clock, EnhancedStatus, Moment, Reply, Role};
use parking_lot::Mutex;
use settings::{AuthSettings, ListenerKind, Settings};
use smtp::sasl::Mechanism;
use smtp::session::{AuthStep, Authentication};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Where users are looked up; replaced on a reload.
pub(crate) type LiveDirectory = Arc<ArcSwapOption<Arc<dyn Directory>>>;

/// Passwords checked at once. Each takes 19 MiB and a processor for tens of milliseconds.
const CHECKS: usize = 4;
/// How long failures of a client are remembered, and of how many clients.
const MEMORY: Duration = Duration::from_mins(10);
const CLIENTS_MAX: usize = 10_000;

/// The directory that `settings` name, or its faults, a line each. A secondary takes no mail and needs none.
pub(crate) fn directory(settings: &Settings, role: Role) -> Result<Option<Arc<dyn Directory>>, String> {
    let submission = settings.listeners.iter().any(|listener| listener.kind == ListenerKind::Submission);
    if role == Role::Secondary || !submission {
        return Ok(None);
    }
    match FileDirectory::open(&settings.auth.users) {
        Ok(directory) => Ok(Some(Arc::new(directory))),
        Err(faults) => {
            Err(faults.iter().map(|fault| format!("auth.users: {fault}")).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// What logins of all sessions share.
#[derive(Debug)]
pub(crate) struct Logins {
    directory: LiveDirectory,
    checks: Semaphore,
    failures: Failures,
}

impl Logins {
    /// Users are looked up in this directory.
    pub(crate) fn new(directory: LiveDirectory) -> Self {
        Self { directory, checks: Semaphore::new(CHECKS), failures: Failures::default() }
    }
}

/// The login of one session.
#[derive(Debug, Default)]
pub(crate) struct Login {
    exchange: Option<(Mechanism, Exchange)>,
    account: Option<Account>,
}

impl Login {
    /// The user, once the client has shown to be one.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// What is said to a message of the client.
    pub(crate) async fn step(
        &mut self,
        logins: &Logins,
        auth: &AuthSettings,
        clock: &dyn Clock,
        client: IpAddr,
        step: AuthStep,
    ) -> Authentication {
        let Some(directory) = logins.directory.load_full() else {
            return unavailable(client, "no users were read");
        };
        if logins.failures.are_too_many(client, auth.failures_per_client, clock.now()) {
            tracing::info!(event = "auth.turned_away", %client);
            return refused(454, EnhancedStatus::new(4, 7, 0), "too many failures, try again later");
        }
        let message = match step {
            AuthStep::Begin { mechanism, initial } => {
                let exchange = Exchange::new(mechanism, Arc::clone(&directory));
                self.exchange = Some((mechanism, exchange));
                initial
            }
            AuthStep::Response(message) => Some(message),
        };
        let Some((mechanism, mut exchange)) = self.exchange.take() else {
            return unavailable(client, "no exchange was begun");
        };
        // The directory may be a disk or a network, and a password is slow to check on purpose.
        let said = {
            let place = logins.checks.acquire().await;
            let stepped = tokio::task::spawn_blocking(move || {
                let said = exchange.step(message.as_deref());
                (exchange, said)
            });
            let stepped = stepped.await;
            drop(place);
            match stepped {
                Ok((exchange, said)) => {
                    self.exchange = Some((mechanism, exchange));
                    said
                }
                Err(error) => return unavailable(client, &error.to_string()),
            }
        };
        let mechanism = mechanism.name();
        match said {
            Said::Challenge(message) => Authentication::Challenge(message.into()),
            Said::Accepted(account) => {
                tracing::info!(event = "auth.accepted", %client, user = %account.name, mechanism);
                self.account = Some(account);
                Authentication::Accepted
            }
            Said::Denied { name, why } => {
                let user = name.unwrap_or_default();
                let why = match why {
                    Denial::Wrong => "unknown user or wrong password",
                    Denial::Other => "wanted to act for another",
                    Denial::Malformed => "malformed",
                };
                tracing::info!(event = "auth.denied", %client, user = %user.escape_debug(), mechanism, why);
                logins.failures.note(client, clock.now());
                sleep(auth.failure_delay).await;
                refused(535, EnhancedStatus::new(5, 7, 8), "authentication failed")
            }
            Said::Unavailable(why) => unavailable(client, &why.to_string()),
        }
    }
}

fn unavailable(client: IpAddr, error: &str) -> Authentication {
    tracing::warn!(event = "auth.unavailable", %client, error);
    refused(454, EnhancedStatus::new(4, 7, 0), "cannot authenticate anybody now, try again later")
}

fn refused(code: u16, status: EnhancedStatus, text: &str) -> Authentication {
    Authentication::Refused(Reply::local(code, status, text))
}

/// Failures of clients, the last ten minutes. Bounded: past its room it forgets, and never refuses for want of room.
#[derive(Debug, Default)]
struct Failures(Mutex<HashMap<IpAddr, (u32, Moment)>>);

impl Failures {
    fn are_too_many(&self, client: IpAddr, max: u32, now: Moment) -> bool {
        let clients = self.0.lock();
        clients
            .get(&network(client))
            .is_some_and(|(count, since)| *count >= max && now.since(*since) < MEMORY)
    }

    fn note(&self, client: IpAddr, now: Moment) {
        let mut clients = self.0.lock();
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, (_, since)| now.since(*since) < MEMORY);
        }
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        let (count, since) = clients.entry(network(client)).or_insert((0, now));
        if now.since(*since) >= MEMORY {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
    }
}

/// A host with IPv6 has a whole /64 to call from.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_fails_too_often_is_turned_away_for_a_while_and_no_other_is() {
        let failures = Failures::default();
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().unwrap());
        let start = Moment(1_000);
        failures.note(one, start);
        assert!(!failures.are_too_many(one, 2, start));
        failures.note(same, start);
        assert!(failures.are_too_many(one, 2, start) && !failures.are_too_many(other, 2, start));
        let later = start + MEMORY;
        assert!(!failures.are_too_many(one, 2, later));
        failures.note(one, later);
        assert!(!failures.are_too_many(one, 2, later), "the count begins anew");
    }

    #[test]
    fn a_flood_of_clients_takes_no_more_room_than_is_meant() {
        let failures = Failures::default();
        for number in 0..30_000_u32 {
            failures.note(IpAddr::from(number.to_be_bytes()), Moment(1_000));
        }
        assert!(failures.0.lock().len() <= CLIENTS_MAX);
    }
}
