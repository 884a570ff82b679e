//! SMTP without sockets: the strict command parser, the receiving session and the sending transaction as pure machines.
//! Touches no world.
//!
//! | module | noun |
//! |---|---|
//! | [`session`] | the receiving side of one connection |
//! | [`transaction`] | the sending side of one message on an established connection |
//! | [`command`], [`path`], [`parameter`], [`xtext`] | what a command line means |
//! | [`dot`] | where a message ends, and the dots in it |
//! | [`reply`] | writing replies |
//! | [`sasl`] | names of mechanisms, and their messages in lines |
//! | [`hello`] | EHLO, RSET, QUIT as lines |
//! | [`xclient`] | what a trusted front says about its client |
//! | [`once`] | names of hand-overs, so that a repeat makes no second copy |
//! | [`limits`] | every bound and timeout |
//!
//! Only CRLF ends a line, only CRLF `.` CRLF ends a message, and a message with any other line end is refused.
//!
//! # A receiving shell
//!
//! A real one waits for bytes, for `session.deadline()` and for its orders at once; here the client has sent all it will.
//! ```
//! use bytes::BytesMut;
//! use mail_model::{Domain, Moment};
//! use smtp::session::{Action, Event, Greeting, Session, SessionConfig, Storage, Verdict};
//!
//! let config = SessionConfig::new(Domain::new("mx.example.test").unwrap());
//! let mut session = Session::new(config, Moment(0));
//! let (mut buffer, mut actions) = (BytesMut::new(), Vec::new());
//! let (mut sent, mut content) = (Vec::new(), Vec::new());
//! let mut from_client = vec![&b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n"[..]];
//! let mut event = Event::Greet(Greeting::Ready);
//! while !session.is_closed() {
//!     session.step(Moment(0), event, &mut buffer, &mut actions);
//!     let mut answer = None; // at most one question a step, and it is the last action
//!     for action in actions.drain(..) {
//!         match action {
//!             Action::Send(bytes) => sent.extend_from_slice(&bytes),
//!             Action::CheckSender(_) => answer = Some(Event::Sender(Verdict::Accept)),
//!             Action::CheckRecipient(_) => answer = Some(Event::Recipient(Verdict::Accept)),
//!             Action::BeginMessage(_) => answer = Some(Event::Message(Verdict::Accept)),
//!             Action::Body(bytes) => content.extend_from_slice(&bytes),
//!             Action::EndOfMessage => answer = Some(Event::Stored(Storage::Stored("a-1-1".into()))),
//!             Action::AbortMessage(_) => content.clear(),
//!             Action::Release(_) => {}
//!             // Only a session that was told to offer or believe them asks.
//!             Action::StartTls | Action::Authenticate(_) | Action::ClientIs(_) => {}
//!             Action::Close => {}
//!         }
//!     }
//!     event = answer.unwrap_or_else(|| match from_client.pop() {
//!         Some(bytes) => {
//!             buffer.extend_from_slice(bytes);
//!             Event::Input
//!         }
//!         None => Event::EndOfInput,
//!     });
//! }
//! assert_eq!(content, b"hi\r\n");
//! assert!(String::from_utf8(sent).unwrap().contains("250 2.0.0 queued as a-1-1\r\n"));
//! ```
//!
//! # A sending shell
//!
//! ```
//! use bytes::Bytes;
//! use mail_model::{Envelope, Recipient, Reply, ReversePath};
//! use smtp::transaction::{Action, ConnectionState, Event, PeerExtensions, Transaction};
//!
//! let mut envelope = Envelope::from_sender(ReversePath::Null);
//! envelope.recipients.push(Recipient::plain(smtp::path::forward_path("<a@b.test>").unwrap().0));
//! let peer = PeerExtensions { pipelining: true, ..PeerExtensions::default() };
//! let mut transaction = Transaction::new(peer, &envelope, &[0], 4);
//! let mut replies = [250, 250, 354, 250].into_iter().map(|code| Reply::from_peer(code, "ok"));
//! let (mut written, mut actions, mut completion) = (Vec::new(), Vec::new(), None);
//! transaction.step(Event::Begin, &mut actions);
//! while completion.is_none() {
//!     let mut events = Vec::new();
//!     for action in actions.drain(..) {
//!         match action {
//!             Action::Write(bytes) => written.extend_from_slice(&bytes),
//!             Action::StreamBody => events = vec![Event::Body(Bytes::from("hi\r\n")), Event::BodyEnd],
//!             // The attempt is on disk and the lease is ours: only then.
//!             Action::ConfirmFinalDot => events = vec![Event::FinalDotConfirmed],
//!             Action::Done(done) => completion = Some(done),
//!         }
//!     }
//!     if events.is_empty() && transaction.awaited_replies() > 0 {
//!         // Read one reply within `transaction.timeout(..)`; `Event::Abandoned` if none comes.
//!         events.extend(replies.next().map(Event::Reply));
//!     }
//!     for event in events {
//!         transaction.step(event, &mut actions);
//!     }
//! }
//! assert!(written.ends_with(b"DATA\r\nhi\r\n.\r\n"));
//! assert_eq!(completion.unwrap().connection, ConnectionState::Ready);
//! ```

mod chunk;
pub mod command;
pub mod dot;
pub mod hello;
pub mod limits;
mod line;
pub mod once;
pub mod parameter;
pub mod path;
pub mod reply;
pub mod sasl;
pub mod session;
pub mod transaction;
pub mod transcript;
pub mod xclient;
pub mod xtext;

pub use line::LineFault;
