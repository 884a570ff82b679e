//! What a client may do: which senders are its own, and to whom it may send.

use mail_model::{EnhancedStatus, Recipient, Reply};
use routing::DrillAddress;
use settings::{ClientCertificates, Settings};
use smtp::session::{SenderRequest, Verdict};

use super::Conversation;
use crate::intake::recipients;

impl Conversation {
    /// True for a client that may send anywhere: for its address, its certificate, or as a user.
    pub(super) fn is_trusted(&self, settings: &Settings) -> bool {
        let relay = &settings.relay;
        self.login.account().is_some()
            || relay.trusts(self.visitor.client)
            || self.certificate.as_ref().is_some_and(|shown| relay.trusts_certificate(shown))
    }

    /// Which client it is, for people.
    pub(super) fn origin(&self, helo: &str) -> String {
        let mut origin = format!("client {} helo {helo}", self.visitor.client);
        if let Some(account) = self.login.account() {
            origin.push_str(" user ");
            origin.push_str(&account.name);
        }
        if let Some(shown) = &self.certificate {
            origin.push_str(" certificate ");
            origin.push_str(&shown.to_string());
        }
        origin
    }

    /// A user writes as its own senders only. RFC 6409 6.1.
    pub(super) fn judge_sender(&self, request: &SenderRequest) -> Verdict {
        let sender = &request.reverse_path;
        if self.lacks_certificate() {
            let client = self.visitor.client;
            tracing::info!(event = "sender.without_certificate", %client, tls = self.stream.is_tls());
            // RFC 3207 4.
            let text = if self.stream.is_tls() {
                "a client certificate is required"
            } else {
                "must issue a STARTTLS command first, and show a client certificate"
            };
            return Verdict::Refuse(Reply::local(530, EnhancedStatus::new(5, 7, 0), text));
        }
        match self.login.account() {
            Some(account) if !account.may_send_as(sender) => {
                let (client, user) = (self.visitor.client, &account.name);
                tracing::info!(event = "sender.denied", %client, %user, from = %sender);
                let status = EnhancedStatus::new(5, 7, 1);
                Verdict::Refuse(Reply::local(553, status, "this sender is not yours"))
            }
            Some(_) | None => self.admit(request.size.unwrap_or(0)),
        }
    }

    /// True if this listener takes no mail without a certificate that somebody vouches for, and there is none.
    fn lacks_certificate(&self) -> bool {
        let settings = self.parts.settings.load();
        let listener = settings.listeners.get(self.door.index);
        let tls = listener.and_then(|listener| listener.tls.as_ref());
        let required = tls.is_some_and(|tls| tls.client_certificates == ClientCertificates::Require);
        required && self.certificate.as_ref().is_none_or(|shown| shown.subject.is_none())
    }

    pub(super) fn judge(&self, recipient: &Recipient) -> Verdict {
        let settings = self.parts.settings.load();
        let to = &recipient.address;
        let drill = routing::drill_address(settings.drill_key.as_ref(), to);
        let may = match &drill {
            // Its seal is the permission: only who has the cluster's key can make one.
            Some(DrillAddress::Sink { until, .. }) => self.parts.clock.wall() <= *until,
            Some(DrillAddress::Foreign) => false,
            // Users may send anywhere. RFC 6409 3.
            None => self.is_trusted(&settings) || settings.relay.judge(self.visitor.client, to).allows(),
        };
        if !may {
            self.parts.counters.refused.add(1);
            self.parts.counters.refusals.add(["recipient", "relay_denied"], 1);
            tracing::info!(event = "relay.denied", client = %self.visitor.client, %to);
            return Verdict::Refuse(Reply::local(550, EnhancedStatus::new(5, 7, 1), "relaying denied"));
        }
        if drill.is_some() {
            return Verdict::Accept;
        }
        // Refused here, so that nobody gets a bounce for mail that he never sent.
        if let Some(reply) = recipients::refusal(&settings, to) {
            self.parts.counters.refused.add(1);
            self.parts.counters.refusals.add(["recipient", "route"], 1);
            tracing::info!(event = "recipient.refused", client = %self.visitor.client, %to, %reply);
            return Verdict::Refuse(reply);
        }
        Verdict::Accept
    }
}
