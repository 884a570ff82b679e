//! What goes into a receiving session and what comes out.

use bytes::Bytes;
use mail_model::{BodyType, Envelope, Recipient, Reply, ReversePath};

use crate::sasl::Mechanism;
use crate::xclient::ClientClaim;

/// What happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first event: greet the client. Bytes that are in the buffer now are early talk. Also the answer to
    /// [`Action::ClientIs`].
    Greet(Greeting),
    /// Bytes were added to the buffer.
    Input,
    /// The client will send nothing more. What is in the buffer is still read and answered.
    EndOfInput,
    /// The moment of [`deadline`](super::Session::deadline) has come.
    DeadlineReached,
    /// The answer to [`Action::CheckSender`].
    Sender(Verdict),
    /// The answer to [`Action::CheckRecipient`].
    Recipient(Verdict),
    /// The answer to [`Action::BeginMessage`].
    Message(Verdict),
    /// The answer to [`Action::EndOfMessage`].
    Stored(Storage),
    /// The answer to [`Action::StartTls`]: TLS is spoken from here on, and the buffer holds nothing that came before.
    Secured,
    /// Close with this reply (4yz or 5yz) as soon as no question is open.
    SendAway(Reply),
    /// The answer to [`Action::Authenticate`].
    Authentication(Authentication),
    /// Close as soon as no question is open: a message whose end was received is still answered, one that is being
    /// received is aborted.
    Shutdown,
}

/// How the client is greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// `220`.
    Ready,
    /// `421 4.3.2`, and the connection is closed.
    NotReady,
    /// This refusal, and the connection is closed.
    Refuse(Reply),
}

/// Yes, or no with the reply that says why (4yz or 5yz; anything else becomes `451 4.3.0`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Accept,
    /// Tell the client this.
    Refuse(Reply),
}

/// What became of a message that was received whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// It is durable under this id; `250 2.0.0 queued as ID` may be said.
    Stored(String),
    /// It was taken before, under this id, and this copy is dropped.
    Repeated(String),
    /// It is not kept. Tell the client this (4yz or 5yz).
    Refused(Reply),
}

/// A message of a mechanism on its way to who understands it.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthStep {
    /// The client begins.
    Begin {
        /// One of those offered.
        mechanism: Mechanism,
        /// What it sent at once.
        initial: Option<Bytes>,
    },
    /// The client's response to the last challenge.
    Response(Bytes),
}

// Such a message may hold a password.
impl std::fmt::Debug for AuthStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begin { mechanism, .. } => write!(f, "Begin({})", mechanism.name()),
            Self::Response(_) => f.write_str("Response"),
        }
    }
}

/// What the mechanism says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// More is to be said: `334` with this.
    Challenge(Bytes),
    /// The client is who it says.
    Accepted,
    /// It is not (535), or nobody can say now (454).
    Refused(Reply),
}

/// What the shell does, in this order. A step has at most one question ([`CheckSender`](Action::CheckSender),
/// [`CheckRecipient`](Action::CheckRecipient), [`BeginMessage`](Action::BeginMessage),
/// [`EndOfMessage`](Action::EndOfMessage), [`StartTls`](Action::StartTls), [`Authenticate`](Action::Authenticate),
/// [`ClientIs`](Action::ClientIs)), and it is the last action of its step. The answer is the next event the session needs;
/// until it comes no input is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write to the client.
    Send(Bytes),
    /// Question: may this sender begin a message?
    CheckSender(Box<SenderRequest>),
    /// Question: may this recipient have it? Relay control belongs here.
    CheckRecipient(Box<Recipient>),
    /// Question: may the content come (is there room)? Refused with 452 4.3.1 if not.
    BeginMessage(Box<MessageStart>),
    /// The next bytes of the content, dots taken out. They share the memory of the input buffer.
    Body(Bytes),
    /// Question: the content is whole; is it stored?
    EndOfMessage,
    /// Question: hand the connection to TLS. The input buffer is empty, and whatever comes in clear from now on belongs to
    /// the handshake or breaks it. If the handshake fails the shell closes, and the session is not asked again.
    StartTls,
    /// Question: a front says whose session this is. Greet that client.
    ClientIs(Box<ClientClaim>),
    /// Question: what does the mechanism say to this? A mechanism that begins makes an exchange before it forgotten.
    Authenticate(AuthStep),
    /// The client will not repeat the hand-overs of these names. No question.
    Release(Vec<Box<str>>),
    /// The message that was begun will not be completed. Forget it.
    AbortMessage(AbortReason),
    /// Close the connection, after what was sent before. Nothing follows.
    Close,
}

/// MAIL, as far as admission needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderRequest {
    /// Where failures are reported.
    pub reverse_path: ReversePath,
    /// The size the client declared; never above the limit.
    pub size: Option<u64>,
    /// BODY=.
    pub body: BodyType,
    /// SMTPUTF8 was said.
    pub smtputf8: bool,
}

/// What is known when the content begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageStart {
    /// Sender, recipients (at least one), parameters.
    pub envelope: Envelope,
    /// The name the client gave in EHLO or HELO: letters, digits and `.-_:[]`.
    pub client_name: Box<str>,
    /// For the Received field: `SMTP`, `ESMTP` or `UTF8SMTP`, the latter two with an `S` behind them under TLS, and an `A`
    /// for a client that authenticated. RFC 3848, RFC 6531 4.3.
    pub protocol: &'static str,
    /// The size the client declared, or that of its only chunk.
    pub size: Option<u64>,
    /// The name that the client gave this hand-over.
    pub once: Option<Box<str>>,
}

/// What protects the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    /// Nothing, and nothing is offered.
    #[default]
    None,
    /// Nothing yet; EHLO offers STARTTLS. RFC 3207.
    Offered,
    /// TLS is spoken.
    Tls,
}

/// Why a message that was begun is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// It exceeds the size limit.
    TooLarge,
    /// It has a bare LF or CR.
    BareLineEnd,
    /// The client is gone.
    ConnectionLost,
    /// The client fell silent, or was too slow.
    TimedOut,
    /// RSET or EHLO between chunks.
    Reset,
    /// We close: too many errors, a chunk nobody can measure, QUIT between chunks.
    Closed,
    /// We shut down.
    ShuttingDown,
}
