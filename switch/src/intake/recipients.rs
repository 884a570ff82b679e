//! Recipients and senders through the tables, and what a client is told about them. Decides only.

use mail_model::{EnhancedStatus, Envelope, Mailbox, Reply};
use routing::recipient::{self, AliasError, Judgement};
use settings::Settings;

/// Why a recipient is not taken from a client that may send to his domain; `None` if he is.
pub(crate) fn refusal(settings: &Settings, to: &Mailbox) -> Option<Reply> {
    match recipient::judge(&settings.relay, &settings.tables, &settings.routes, to) {
        Judgement::Taken => None,
        Judgement::Unknown => Some(Reply::local(550, EnhancedStatus::new(5, 1, 1), "no such recipient here")),
        Judgement::Unavailable => Some(unavailable(450)),
        Judgement::Alias(error) => Some(mistaken(&error)),
        Judgement::Refused(refusal) => Some(refusal.reply()),
    }
}

/// The envelope as it is queued: its sender masked, its recipients' aliases replaced. The reply says why not.
pub(crate) fn rewritten(settings: &Settings, envelope: &Envelope) -> Result<Envelope, Reply> {
    // Probe mail of a drill is no affair of tables.
    if envelope.recipients.iter().all(|to| routing::is_drill(&to.address)) {
        return Ok(envelope.clone());
    }
    let tables = &settings.tables;
    let reverse_path = tables.sender(&envelope.reverse_path).map_err(|_| unavailable(451))?;
    // The tables may have changed since RCPT.
    let recipients =
        recipient::expand(tables, envelope.recipients.clone()).map_err(|error| mistaken(&error))?;
    Ok(Envelope { reverse_path, recipients, ..envelope.clone() })
}

/// Nothing of our inside: the log names the table.
fn unavailable(code: u16) -> Reply {
    Reply::local(code, EnhancedStatus::new(4, 3, 0), "addresses cannot be looked up now, try again later")
}

fn mistaken(error: &AliasError) -> Reply {
    match error {
        AliasError::Unavailable => unavailable(451),
        AliasError::Loop(_) | AliasError::Deep(_) => {
            // RFC 3463 3.4: system incorrectly configured.
            Reply::local(451, EnhancedStatus::new(4, 3, 5), "the aliases of this recipient lead nowhere")
        }
        AliasError::Many => {
            Reply::local(452, EnhancedStatus::new(4, 5, 3), "the aliases of these recipients are too many")
        }
    }
}
