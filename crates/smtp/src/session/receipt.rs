//! A message on its way in: how many octets came, what is wrong with it, whether the shell holds an open copy.
//!
//! Once something is wrong the shell is told to forget it at once, and the rest is swallowed up to the true end, so that
//! the stream stays in step and a refused message takes no room.

use bytes::Bytes;
use mail_model::Moment;

use super::answer::{self, Answer};
use super::event::{AbortReason, Action};
use crate::chunk::LineEndWatch;
use crate::dot::BareLineEnd;

#[derive(Debug)]
pub(crate) struct Receipt {
    received_octets: u64,
    /// Why it was refused before it began.
    refusal: Option<Answer>,
    fault: Option<BareLineEnd>,
    too_large: bool,
    /// The shell accepted `BeginMessage` and was told neither its end nor to forget it.
    open: bool,
    line_ends: LineEndWatch,
    /// When it began.
    pub(crate) began: Moment,
}

impl Receipt {
    /// A message the shell said yes to.
    pub(crate) fn open(now: Moment) -> Self {
        Self {
            received_octets: 0,
            refusal: None,
            fault: None,
            too_large: false,
            open: true,
            line_ends: LineEndWatch::default(),
            began: now,
        }
    }

    /// A message that is refused before it began: its bytes are only swallowed.
    pub(crate) fn refused(refusal: Answer, now: Moment) -> Self {
        Self { refusal: Some(refusal), open: false, ..Self::open(now) }
    }

    /// The next piece of the content.
    pub(crate) fn take(&mut self, piece: Bytes, octets_max: u64, out: &mut Vec<Action>) {
        self.received_octets = self.received_octets.saturating_add(piece.len() as u64);
        if self.received_octets > octets_max {
            self.too_large(out);
        }
        if self.open {
            out.push(Action::Body(piece));
        }
    }

    /// Looks at the line ends of a piece of a chunk, before it is taken.
    pub(crate) fn watch_line_ends(&mut self, piece: &[u8], out: &mut Vec<Action>) {
        self.line_ends.look(piece);
        self.fault(self.line_ends.fault(), out);
    }

    /// The last chunk is in: a CR at its end is bare.
    pub(crate) fn end_line_ends(&mut self, out: &mut Vec<Action>) {
        self.fault(self.line_ends.fault_at_end(), out);
    }

    /// Refuses the message if there is a fault.
    pub(crate) fn fault(&mut self, fault: Option<BareLineEnd>, out: &mut Vec<Action>) {
        if fault.is_some() {
            self.fault = fault;
            self.abort(AbortReason::BareLineEnd, out);
        }
    }

    /// Refuses the message for its size.
    pub(crate) fn too_large(&mut self, out: &mut Vec<Action>) {
        self.too_large = true;
        self.abort(AbortReason::TooLarge, out);
    }

    /// Tells the shell to forget the message if it holds one.
    pub(crate) fn abort(&mut self, reason: AbortReason, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.open) {
            out.push(Action::AbortMessage(reason));
        }
    }

    /// Why it will be refused, if it will. The order here is fixed, so that the reply does not depend on which fault was
    /// seen first in however cut input.
    pub(crate) fn failure(&self) -> Option<Answer> {
        let fault = || self.fault.map(|fault| Answer::Ours(answer::bare_line_end(fault)));
        let size = || self.too_large.then_some(Answer::Ours(answer::TOO_LARGE));
        self.refusal.clone().or_else(fault).or_else(size)
    }

    /// Octets that came so far.
    pub(crate) fn received_octets(&self) -> u64 {
        self.received_octets
    }
}
