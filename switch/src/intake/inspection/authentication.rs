//! Whether mail is from whom it says: SPF (RFC 7208), DKIM (RFC 6376), ARC (RFC 8617) and DMARC, and the field that tells it to
//! those who read the message after us (RFC 8601). mail-auth judges; what follows from it is decided here.
//!
//! | DMARC | `mark` | `refuse` | `enforce` |
//! |---|---|---|---|
//! | fails, and its domain says reject | taken | 550 5.7.26 (RFC 7372) | 550 5.7.26 |
//! | fails, and its domain says quarantine | taken | taken | taken and held, as what a filter wants quarantined |
//! | cannot be told now | taken | 451 4.7.26 | 451 4.7.26 |
//! | anything else | taken | taken | taken |

use std::fmt;

use mail_auth::common::headers::HeaderWriter;
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, AuthenticationResults, DmarcOutput, DmarcResult, MessageAuthenticator,
};
use mail_model::{EnhancedStatus, Reply, ReversePath};
use settings::{Authentication, Settings};

use super::exhibit::{Changes, Exhibit, Inspecting, Inspector, Opinion, heavy};

/// Looks at mail of strangers.
pub(super) struct Authenticator {
    judge: MessageAuthenticator,
    hostname: String,
    mode: Authentication,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// It asks the same servers as everybody else here.
    pub(super) fn new(settings: &Settings, mode: Authentication) -> Result<Self, String> {
        // Built by itself, it would want certificates of authorities, which a small machine has not.
        let resolver = lookup::for_library(&settings.dns).map_err(|error| error.to_string())?;
        let judge = MessageAuthenticator(resolver);
        Ok(Self { judge, hostname: settings.node.hostname.to_string(), mode })
    }

    async fn look(&self, exhibit: &Exhibit) -> Opinion {
        let hostname = self.hostname.as_str();
        let (client, helo) = (exhibit.client.to_canonical(), exhibit.helo.as_str());
        let sender = match &exhibit.envelope.reverse_path {
            ReversePath::Null => String::new(),
            ReversePath::Mailbox(mailbox) => mailbox.to_string(),
        };
        let content = &exhibit.content;
        let Some(message) = heavy(content, || AuthenticatedMessage::parse(content)) else {
            // Without a header nothing can be said of it, and nobody reads it as somebody's mail.
            return Opinion::fields(AuthenticationResults::new(hostname).to_header());
        };
        // RFC 7208 2.4: a bounce is judged by who delivers it.
        let asked = if sender.is_empty() {
            SpfParameters::verify_ehlo(client, helo, hostname)
        } else {
            SpfParameters::verify_mail_from(client, helo, hostname, &sender)
        };
        let spf = self.judge.verify_spf(asked).await;
        let dkim = self.judge.verify_dkim(&message).await;
        let arc = self.judge.verify_arc(&message).await;
        let domain = sender.rsplit_once('@').map_or(helo, |(_, domain)| domain);
        let dmarc = self.judge.verify_dmarc(DmarcParameters::new(&message, &dkim, domain, &spf)).await;
        let hold = match self.follows(&dmarc) {
            Ok(hold) => hold,
            Err(refusal) => return Opinion::Refuse(refusal),
        };
        let results = AuthenticationResults::new(hostname);
        let results = if sender.is_empty() {
            results.with_spf_ehlo_result(&spf, client, helo)
        } else {
            results.with_spf_mailfrom_result(&spf, client, &sender, helo)
        };
        let results = results.with_dkim_results(&dkim, message.from()).with_dmarc_result(&dmarc);
        if message.as_headers.is_empty() {
            return marked(results.to_header(), hold);
        }
        marked(chain_told(&results.with_arc_result(&arc, client).to_header()), hold)
    }

    /// Why the message is held, if it is; or why it is not taken.
    fn follows(&self, dmarc: &DmarcOutput) -> Result<Option<String>, Reply> {
        let named = dmarc.domain();
        let refusal = |code, class, text: String| Reply::local(code, EnhancedStatus::new(class, 7, 26), text);
        match (self.mode, dmarc.result(), dmarc.policy()) {
            (Authentication::Off | Authentication::Mark, _, _) => Ok(None),
            (_, DmarcResult::Fail(_), Policy::Reject) => {
                let why = "not authenticated, and its domain says that such mail is to be refused (DMARC)";
                Err(refusal(550, 5, format!("{named}: {why}")))
            }
            (Authentication::Enforce, DmarcResult::Fail(_), Policy::Quarantine) => {
                Ok(Some(format!("dmarc: quarantine, as {named} wishes")))
            }
            (_, DmarcResult::TempError(_), _) => {
                Err(refusal(451, 4, "authentication cannot be checked now, try again later".to_owned()))
            }
            (
                Authentication::Refuse | Authentication::Enforce,
                DmarcResult::Pass | DmarcResult::Fail(_) | DmarcResult::PermError(_) | DmarcResult::None,
                _,
            ) => Ok(None),
        }
    }
}

fn marked(top: String, hold: Option<String>) -> Opinion {
    Opinion::Changes(Box::new(Changes { top, hold, ..Changes::default() }))
}

/// RFC 8617 4.4: a chain passes or fails; the words that signatures have besides are none of a chain.
fn chain_told(field: &str) -> String {
    const CHAIN: &str = "\tarc=";
    let Some((before, result)) = field.rsplit_once(CHAIN) else { return field.to_owned() };
    let rest = result.strip_prefix("neutral").or_else(|| result.strip_prefix("permerror"));
    format!("{before}{CHAIN}{}", rest.map_or_else(|| result.to_owned(), |rest| format!("fail{rest}")))
}

impl Inspector for Authenticator {
    fn inspect<'a>(&'a self, exhibit: &'a Exhibit) -> Inspecting<'a> {
        Box::pin(self.look(exhibit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_passes_or_fails() {
        let told = |result: &str| chain_told(&format!("x: h;\r\n\tspf=neutral;\r\n\tarc={result}\r\n"));
        assert_eq!(told("neutral (hash)"), "x: h;\r\n\tspf=neutral;\r\n\tarc=fail (hash)\r\n");
        assert_eq!(told("permerror"), "x: h;\r\n\tspf=neutral;\r\n\tarc=fail\r\n");
        assert_eq!(told("pass"), "x: h;\r\n\tspf=neutral;\r\n\tarc=pass\r\n");
    }
}
