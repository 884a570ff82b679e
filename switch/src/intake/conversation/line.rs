//! The line to a client: its handshake, whose certificate it shows, and who else may hear what is said.

use std::io;

use bytes::BytesMut;
use control::switch::TraceWay;
use tokio::time::timeout;

use super::Conversation;
use crate::intake::parts::Phase;
use crate::tracers::Subject;

impl Conversation {
    /// Lets an operator watch who wants to, from here on.
    pub(super) fn let_watch(&mut self) {
        let tracers = &self.parts.tracers;
        if tracers.is_idle() || !self.session.is_idle() || !self.input.is_empty() {
            return;
        }
        let visitor = &self.visitor;
        let subject = || Subject {
            address: Some(visitor.client),
            names: visitor.name.iter().map(ToString::to_string).collect(),
        };
        self.stream.listen_with(|| tracers.tap(TraceWay::In, subject));
    }

    /// Hands the connection to TLS. A client that is slow about it holds a connection for a while, and nothing else.
    pub(super) async fn shake_hands(&mut self) -> io::Result<()> {
        // The session has read everything in clear; nothing of it may ever be taken for what came under TLS.
        self.input = BytesMut::new();
        let inward = self.parts.tls.load().listener(self.door.index);
        let inward = inward.ok_or_else(|| io::Error::other("this listener has no certificate"))?;
        let limit = self.parts.settings.load().limits.tls_handshake;
        let mut phase = self.phase.clone();
        let done = tokio::select! {
            biased;
            // No message is begun, so nothing is lost.
            _ = phase.wait_for(|phase| *phase != Phase::Open) => Err(io::ErrorKind::ConnectionAborted.into()),
            done = timeout(limit, self.stream.accept_tls(inward.config())) => {
                done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        let result = if done.is_ok() { "done" } else { "failed" };
        self.parts.counters.handshakes.add(["in", result], 1);
        let client = self.visitor.client;
        done.inspect_err(|error| tracing::info!(event = "tls.client_failed", %client, %error))?;
        self.certificate = inward.known(self.stream.certificates(), self.parts.clock.wall());
        if let Some(shown) = &self.certificate {
            let fingerprint = routing::CertificatePattern::Fingerprint(shown.fingerprint);
            let subject = shown.subject.as_deref();
            tracing::info!(event = "tls.client_certificate", %client, subject, %fingerprint);
        }
        Ok(())
    }
}
