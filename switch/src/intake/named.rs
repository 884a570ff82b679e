//! A message that another switch hands over under a name, while it arrives, and who may do so: `docs/ONCE.md`.

use std::net::IpAddr;

use mail_model::Envelope;
use queue_format::books::Books;
use queue_format::record::{Handover, Incoming};
use queue_store::Queue;
use settings::Settings;

use super::parts::{Door, Parts};
use super::visitor;

/// Names are no longer offered when so many bytes of them are remembered: a client that never says which are over gets plain SMTP.
const REMEMBERED_MAX: usize = 64 << 20;

/// True if `client` is offered it at this door.
pub(crate) fn is_offered(parts: &Parts, settings: &Settings, door: Door, client: IpAddr) -> bool {
    if !visitor::is_known_switch(settings, door, client) {
        return false;
    }
    let remembered = parts.queue.books(Books::handovers_weight).unwrap_or(0);
    if remembered > REMEMBERED_MAX {
        tracing::warn!(event = "handover.full", %client, bytes = remembered);
    }
    remembered <= REMEMBERED_MAX
}

/// These will not be repeated.
pub(crate) fn release(queue: &Queue, names: &[Box<str>]) {
    let known = queue.books(|books| {
        let keys = names.iter().flat_map(|name| books.handed_over(name)).map(|(key, _)| key);
        keys.collect::<Vec<_>>()
    });
    for key in known.unwrap_or_default() {
        queue.forget(key);
    }
}

/// The message that comes, under its name.
#[derive(Debug)]
pub(crate) struct Named {
    incoming: Incoming,
    envelope: Envelope,
}

impl Named {
    /// One of this name begins.
    pub(crate) fn begin(name: Box<str>, envelope: &Envelope) -> Self {
        Self { incoming: Incoming::begin(name, envelope), envelope: envelope.clone() }
    }

    /// The next bytes of its content.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.incoming.take(bytes);
    }

    /// It is whole: by what a repeat is recognised, and the envelope that its client said.
    pub(crate) fn whole(self) -> (Handover, Envelope) {
        (self.incoming.whole(), self.envelope)
    }
}
