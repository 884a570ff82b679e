//! What a client does is counted here, and one that overdoes it is slowed down, put off or sent away. Clients that are
//! exempt, and a balancer's own checks, are let alone.

use std::io;
use std::time::Duration;

use mail_model::{EnhancedStatus, Mailbox, Reply};
use policy::limits::Kind;
use settings::CheckSettings;
use smtp::session::Verdict;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use super::{Conversation, READ_COMMANDS};
use crate::intake::parts::Phase;

impl Conversation {
    fn is_exempt(&self) -> bool {
        self.visitor.unnamed || self.parts.settings.load().limits.clients.is_exempt(self.visitor.client)
    }

    /// How long this client is to wait for its greeting. None waits to be told that nothing works here.
    pub(super) fn greet_delay(&self) -> Duration {
        if self.is_exempt() || !self.parts.gate.is_open() {
            return Duration::ZERO;
        }
        self.parts.settings.load().limits.clients.greet_delay
    }

    /// Waits, and listens meanwhile.
    pub(super) async fn listen(&mut self, delay: Duration) -> io::Result<()> {
        let mut phase = self.phase.clone();
        self.input.reserve(READ_COMMANDS);
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Open) => Ok(()),
            heard = timeout(delay, self.stream.read_buf(&mut self.input)) => match heard {
                Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Err(error)) => Err(error),
                Ok(Ok(_)) | Err(_) => Ok(()),
            }
        }
    }

    /// Counts what the client did in the last step. The answer to an error waits, if there were many.
    pub(super) async fn watch(&mut self) {
        let usage = self.session.usage();
        let (commands, errors) = (usage.commands - self.counted.commands, usage.errors - self.counted.errors);
        self.counted = usage;
        let settings = self.parts.settings.load_full();
        let limits = &settings.limits;
        if errors > 0 && self.session.errors_in_a_row() > limits.clients.tarpit_after && !self.is_exempt() {
            let mut phase = self.phase.clone();
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase != Phase::Open) => {}
                () = sleep(limits.clients.tarpit) => {}
            }
        }
        let now = self.parts.clock.now();
        for (kind, count, text) in [
            (Kind::Command, commands, "too many commands in a short time, try again later"),
            (Kind::Error, errors, "too many errors in a short time, try again later"),
        ] {
            if !self.place.take(now, kind, count, limits) {
                self.note_excess(kind);
                self.overdone = Some(Reply::local(421, EnhancedStatus::new(4, 7, 0), text));
            }
        }
    }

    /// Counts one more of this kind, or says why not.
    pub(super) fn bounded(&self, kind: Kind) -> Option<Verdict> {
        let now = self.parts.clock.now();
        if self.place.take(now, kind, 1, &self.parts.settings.load().limits) {
            return None;
        }
        self.note_excess(kind);
        let text = format!("too many {} from you in a short time, try again later", kind.name());
        Some(Verdict::Refuse(Reply::local(450, EnhancedStatus::new(4, 7, 1), text)))
    }

    /// A stranger's recipient that would be taken is not, if DNS speaks against him.
    pub(super) async fn checked(&mut self, verdict: Verdict, to: &Mailbox) -> Verdict {
        let settings = self.parts.settings.load_full();
        let client = self.visitor.client;
        let known = self.visitor.unnamed || self.is_trusted(&settings);
        let is_off = settings.checks == CheckSettings::default();
        // RFC 5321 4.5.1: whoever is refused by mistake must be able to say so.
        let postmaster = to.local_part().eq_ignore_ascii_case("postmaster");
        if is_off || known || postmaster || routing::is_drill(to) || matches!(verdict, Verdict::Refuse(_)) {
            return verdict;
        }
        let helo = self.session.client_name().unwrap_or_default();
        let names = self.parts.names.load_full();
        let Some((what, reply)) = self.checked.refusal(&settings.checks, &names.resolver, client, helo).await
        else {
            return verdict;
        };
        self.parts.counters.refused.add(1);
        self.parts.counters.refusals.add(["recipient", what], 1);
        tracing::info!(event = "checks.refused", %client, helo, %to, what, %reply);
        Verdict::Refuse(reply)
    }

    fn note_excess(&self, kind: Kind) {
        let stage = match kind {
            Kind::Connection => "connection",
            Kind::Message => "sender",
            Kind::Recipient => "recipient",
            Kind::Command | Kind::Error => "session",
        };
        self.parts.counters.refusals.add([stage, "limit_rate"], 1);
        tracing::info!(event = "limits.exceeded", client = %self.visitor.client, kind = kind.name());
    }
}
