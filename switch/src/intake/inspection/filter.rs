//! Content filters that operators run beside the switch: asked about a whole message, each within its own time.
//!
//! | file | who is asked |
//! |---|---|
//! | `wire` | how any of them is reached |
//! | `rspamd` | rspamd, over HTTP |
//! | `clamd` | the daemon of `ClamAV`, by INSTREAM |
//! | `milter` | any milter, over the protocol of sendmail |
//!
//! | what happens | `on_error: accept` | `on_error: defer` |
//! |---|---|---|
//! | it is not reached, is late, or says what nobody understands | the message passes | 451 4.3.0 |
//! | the message is larger than `size_max` | the message passes | 552 5.3.4 (it would never be smaller) |

mod clamd;
mod milter;
mod rspamd;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use mail_model::{EnhancedStatus, Reply};
use settings::{FilterKind, FilterSettings, OnError};
use tokio::time::timeout;

use super::exhibit::{Exhibit, Inspecting, Inspector, Opinion};
use crate::counters::Counters;

/// One filter of the configuration.
#[derive(Debug)]
pub(super) struct Filter {
    settings: FilterSettings,
    hostname: String,
    counters: Arc<Counters>,
}

impl Filter {
    /// Nothing is connected before a message comes.
    pub(super) fn new(settings: FilterSettings, hostname: String, counters: Arc<Counters>) -> Self {
        Self { settings, hostname, counters }
    }

    async fn look(&self, exhibit: &Exhibit) -> Opinion {
        let FilterSettings { name, kind, size_max, .. } = &self.settings;
        let (id, size) = (&exhibit.id, exhibit.content.len());
        if u64::try_from(size).is_ok_and(|size| size > *size_max) {
            self.count("too_large");
            tracing::info!(event = "filter.too_large", %id, filter = %name, size, accepted = self.lenient());
            let text = "the message is larger than what a content filter here looks at";
            return self.instead(Reply::local(552, EnhancedStatus::new(5, 3, 4), text));
        }
        let asked = async {
            let wire = wire::connect(&self.settings.address).await?;
            match kind {
                FilterKind::Rspamd => rspamd::ask(wire, exhibit, &self.hostname).await,
                FilterKind::Clamd => clamd::ask(wire, exhibit).await,
                FilterKind::Milter => milter::ask(wire, exhibit, &self.hostname).await,
            }
        };
        match within(self.settings.timeout, asked).await {
            Ok(opinion) => {
                let (result, why) = opinion.in_short();
                self.count(result);
                if result == "passed" {
                    tracing::debug!(event = "filter.passed", %id, filter = %name);
                } else {
                    tracing::info!(event = "filter.spoke", %id, filter = %name, client = %exhibit.client, result, why);
                }
                opinion
            }
            Err(error) => {
                self.count("failed");
                tracing::warn!(event = "filter.failed", %id, filter = %name, error, accepted = self.lenient());
                let text = "a content filter is out of reach, try again later";
                self.instead(Reply::local(451, EnhancedStatus::new(4, 3, 0), text))
            }
        }
    }

    fn lenient(&self) -> bool {
        self.settings.on_error == OnError::Accept
    }

    /// What holds when the filter says nothing.
    fn instead(&self, reply: Reply) -> Opinion {
        match self.settings.on_error {
            OnError::Accept => Opinion::fields(String::new()),
            OnError::Defer => Opinion::Refuse(reply),
        }
    }

    fn count(&self, result: &'static str) {
        self.counters.filtered.add([self.settings.kind.as_str(), result], 1);
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(time, work).await.unwrap_or_else(|_| Err(format!("no answer within {time:?}")))
}

impl Inspector for Filter {
    fn inspect<'a>(&'a self, exhibit: &'a Exhibit) -> Inspecting<'a> {
        Box::pin(self.look(exhibit))
    }
}
