//! What goes into a sending transaction and what comes out.

use bytes::Bytes;
use mail_model::{RecipientIndex, Reply};

/// What the peer's EHLO offered. Default: nothing, as after HELO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one line of the EHLO reply, independent of the others"
)]
pub struct PeerExtensions {
    /// RFC 2920: several commands in one write.
    pub pipelining: bool,
    /// RFC 1870: `Some(0)` if SIZE was offered without a limit, otherwise the limit in octets.
    pub size: Option<u64>,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3030. Set it to false to send by DATA all the same.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 8689, on a connection whose TLS was verified, or that does not leave this machine.
    pub require_tls: bool,
    /// It knows repeats of what is handed over under a name. See [`crate::once`].
    pub once: bool,
    /// Take 8-bit content without 8BITMIME being offered.
    pub takes_eight_bit: bool,
    /// RFC 2033: it speaks LMTP, and answers for each recipient it took when it has the message.
    pub lmtp: bool,
}

/// What happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first event.
    Begin,
    /// The next reply of the peer, in order.
    Reply(Reply),
    /// The next piece of the body, after [`Action::StreamBody`].
    Body(Bytes),
    /// The body is complete.
    BodyEnd,
    /// The answer to [`Action::ConfirmFinalDot`]: send it.
    FinalDotConfirmed,
    /// There is nothing more to be had: the connection broke, a timeout passed, the body cannot be read, or the final
    /// dot must not be sent. The reply says why (`Reply::local`). Before the final dot recipients are deferred, after it
    /// they are in doubt.
    Abandoned(Reply),
}

/// What the shell does, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write to the peer; flush after the last write of a step. Then read replies while
    /// [`awaited_replies`](super::Transaction::awaited_replies) is not 0.
    Write(Bytes),
    /// Question: give the body by [`Event::Body`] and [`Event::BodyEnd`].
    StreamBody,
    /// Question: all but the last octets were written. Once they are, the peer may deliver. Write down the attempt, check
    /// the lease, then say [`Event::FinalDotConfirmed`] or [`Event::Abandoned`].
    ConfirmFinalDot,
    /// The transaction is over; nothing follows.
    Done(Completion),
}

/// What became of each recipient, and of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// One for each recipient that was asked for, in that order.
    pub results: Vec<(RecipientIndex, RecipientResult)>,
    /// What may be done with the connection.
    pub connection: ConnectionState,
}

/// What became of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientResult {
    /// The peer took the message.
    Delivered(Reply),
    /// Not now; try again.
    Deferred(Reply),
    /// Never.
    Failed(Reply),
    /// The last octets were sent and no answer came: it may be delivered, or not.
    InDoubt(Reply),
}

/// What may be done with the connection after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// The next transaction may begin.
    Ready,
    /// RSET first: a transaction was begun and not finished.
    NeedsReset,
    /// Close it: the peer said so, or is out of step.
    MustClose,
}
