//! What is done with bytes from outside, one function for each of their readers. Each panics if a promise is broken. The fuzzer
//! calls them with what it makes up, a plain test (`tests/corpus.rs`) with what is kept in `corpus/`.

#![expect(clippy::missing_panics_doc, reason = "to panic is how a target tells what it found")]

use bytes::{Bytes, BytesMut};
use mail_model::{Domain, Epoch, Moment};
use message::edit::Edit;
use message::{Excess, HopCount, ResultsFilter, Shape, ShapeLimits};
use queue_format::digest::Digest;
use queue_format::frame::{self, Chain};
use queue_format::lease::{Claim, Fence, Renewal};
use queue_format::record::{Record, decode_envelope, encode_envelope};
use queue_format::scan::{self, Bodies, Range};
use routing::sts::StsPolicy;
use settings::{Environment, Source};
use smtp::dot::{Decoded, DotDecoder, DotEncoder};
use smtp::sasl::Mechanism;
use smtp::session::{
    Action, AuthStep, Authentication, Event, Greeting, Protection, Session, SessionConfig, Storage, Verdict,
};

// The reader of replies belongs to a program, which no crate imports; it wants `thiserror`.
use thiserror as _;
#[path = "../../switch/src/delivery/wire.rs"]
mod wire;

/// A target by its name, which is that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("command", command),
    ("body", body),
    ("reply", reply),
    ("proxy", proxy),
    ("configuration", configuration),
    ("frame", frame),
    ("segment", segment),
    ("message", message),
];

/// A client's whole side of a session: what is answered is the same however its bytes are cut. The first octet says how they are
/// cut, and whether the session is one for submission under TLS.
pub fn command(data: &[u8]) {
    smtp::command::parse(data).ok();
    let Some((how, data)) = data.split_first() else { return };
    let submission = how & 0x80 != 0;
    let whole = session(data, data.len().max(1), submission);
    // DATA is the last command of a group (RFC 2920 3.1): a group that goes on behind a refused one is cut off, and whether it
    // does is told by what has come.
    if !whole.0.windows(9).any(|reply| reply == b"421 4.5.0") {
        let pieces = session(data, usize::from(how & 0x7f).max(1), submission);
        assert_eq!(pieces, whole, "the pieces change the answers");
    }
}

/// What is sent to the client, and the content of its messages that ended.
fn session(data: &[u8], piece: usize, submission: bool) -> (Vec<u8>, Vec<u8>) {
    let (mut sent, mut content, mut message) = (Vec::new(), Vec::new(), Vec::new());
    let Ok(hostname) = Domain::new("mx.test") else { return (sent, content) };
    let session = Session::new(SessionConfig::new(hostname), Moment(0)).believing_xclient(!submission);
    let mut session = session.knowing_repeats(!submission);
    if submission {
        session = session.protected(Protection::Tls).authenticating([Mechanism::Plain, Mechanism::Login]);
    }
    let (mut input, mut actions) = (BytesMut::new(), Vec::new());
    let mut events = vec![Event::Greet(Greeting::Ready)];
    let mut pieces = data.chunks(piece);
    loop {
        let event = match events.pop() {
            Some(event) => event,
            None if session.is_closed() => return (sent, content),
            None => match pieces.next() {
                Some(piece) => {
                    input.extend_from_slice(piece);
                    Event::Input
                }
                None => return (sent, content),
            },
        };
        session.step(Moment(0), event, &mut input, &mut actions);
        for action in actions.drain(..) {
            events.extend(match action {
                Action::Send(bytes) => {
                    sent.extend_from_slice(&bytes);
                    None
                }
                Action::Body(bytes) => {
                    message.extend_from_slice(&bytes);
                    None
                }
                Action::CheckSender(_) => Some(Event::Sender(Verdict::Accept)),
                Action::CheckRecipient(_) => Some(Event::Recipient(Verdict::Accept)),
                Action::BeginMessage(start) => {
                    let encoded = encode_envelope(&start.envelope);
                    assert_eq!(
                        decode_envelope(&encoded).as_ref(),
                        Ok(&start.envelope),
                        "an envelope is not kept"
                    );
                    Some(Event::Message(Verdict::Accept))
                }
                Action::EndOfMessage => {
                    content.append(&mut message);
                    Some(Event::Stored(Storage::Stored("id".to_owned())))
                }
                Action::StartTls => Some(Event::Secured),
                Action::ClientIs(_) => Some(Event::Greet(Greeting::Ready)),
                Action::Authenticate(AuthStep::Begin { initial: None, .. }) => {
                    Some(Event::Authentication(Authentication::Challenge(Bytes::from_static(b"name"))))
                }
                Action::Authenticate(_) => Some(Event::Authentication(Authentication::Accepted)),
                // What was refused in its middle is nobody's message, and how much of it came through nobody's question.
                Action::AbortMessage(_) => {
                    message.clear();
                    None
                }
                Action::Release(_) | Action::Close => None,
            });
        }
    }
}

/// Content with dots: decoded alike however it is cut, and what has no bare line end comes back from its encoding.
pub fn body(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let whole = decoded(data, data.len().max(1));
    assert_eq!(decoded(data, usize::from(*size).max(1)), whole, "the pieces change the content");
    let (text, ended, fault) = whole;
    if !ended || fault || !(text.is_empty() || text.ends_with(b"\r\n")) {
        return;
    }
    let mut encoder = DotEncoder::default();
    let mut out = Vec::new();
    encoder.encode(Bytes::from(text.clone()), &mut out);
    out.push(encoder.finish());
    assert_eq!(decoded(&out.concat(), 7), (text, true, false), "what is sent is not what was received");
}

fn decoded(data: &[u8], piece: usize) -> (Vec<u8>, bool, bool) {
    let mut decoder = DotDecoder::default();
    let mut input = BytesMut::new();
    let mut text = Vec::new();
    for piece in data.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Decoded::Body(bytes) => text.extend_from_slice(&bytes),
                Decoded::More => break,
                Decoded::End => return (text, true, decoder.fault().is_some()),
            }
        }
    }
    (text, false, decoder.fault().is_some())
}

/// Replies of a next hop: the same however they are cut, and none outside 200 to 599.
pub fn reply(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let whole = replies(data, data.len().max(1));
    for reply in whole.iter().flatten() {
        assert!((200..600).contains(&reply.code), "{reply}");
    }
    // A line too long is refused sooner or later, by how it comes.
    if let (Some(pieces), Some(whole)) = (replies(data, usize::from(*size).max(1)), whole) {
        assert_eq!(pieces, whole, "the pieces change the replies");
    }
}

fn replies(data: &[u8], piece: usize) -> Option<Vec<mail_model::Reply>> {
    let mut reader = wire::ReplyReader::default();
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for piece in data.chunks(piece) {
        input.extend_from_slice(piece);
        while let Some(reply) = reader.read(&mut input).ok()? {
            found.push(reply);
        }
    }
    Some(found)
}

/// A balancer's header.
pub fn proxy(data: &[u8]) {
    if let Ok(policy::proxy::Frame::Whole(length)) = policy::proxy::frame(data) {
        let header = data.get(..length);
        assert!(header.is_some(), "a header is longer than what there is");
        policy::proxy::origin(header.unwrap_or_default()).ok();
    }
}

/// A configuration file: each fault has a place and says something. And the policy that a domain publishes.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    StsPolicy::read(text).ok();
    let source = Source { path: "/etc/mailswitch.yaml".into(), text: text.to_owned() };
    if let Err(faults) = settings::parse(&[source], &Environment::default()) {
        assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.what.is_empty()), "{faults:?}");
    }
}

/// A frame of a queue: what is understood is written back as it was read.
pub fn frame(data: &[u8]) {
    frame::peek(data).ok();
    let Some((kind, meta)) = data.split_first() else { return };
    let Ok(record) = Record::decode(*kind, meta) else { return };
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(Record::decode(record.kind() as u8, &again), Ok(record), "a record is not what it was");
}

/// The files of a queue: what is read never panics, and frames with any content read back as they were written, with a bad tail
/// behind them or not.
pub fn segment(data: &[u8]) {
    Claim::decode(data).ok();
    Renewal::decode(data).ok();
    Fence::decode(data).ok();
    if let Ok(digest) = Digest::open(data) {
        digest.frames().for_each(drop);
    }
    scanned(data, None);
    let Some((size, rest)) = data.split_first() else { return };
    let (content, tail) = rest.split_at_checked(rest.len() / 2).unwrap_or_default();
    let mut chain = Chain::begin(Epoch(7), 0x5eed);
    let (start, mut bytes, mut written) = (chain, Vec::new(), Vec::new());
    let mut frame = |kind: u8, meta: &[u8], body: &[u8]| {
        if let Ok(record) = Record::decode(kind, meta) {
            let durable = chain.number;
            chain.encode(kind, meta, body, durable, &mut bytes);
            bytes.extend_from_slice(body);
            written.push(record);
        }
    };
    for piece in content.chunks(usize::from(*size).max(16)) {
        let (kind, meta) = piece.split_first().map_or((0, piece), |(kind, meta)| (*kind, meta));
        frame(kind, meta, content);
    }
    assert_eq!(scanned(&bytes, Some(start)), written, "what was written is not what is read");
    bytes.extend_from_slice(tail);
    assert!(scanned(&bytes, Some(start)).starts_with(&written), "what stands behind frames changes them");
}

fn scanned(bytes: &[u8], chain: Option<Chain>) -> Vec<Record> {
    let segment = Chain::start(Epoch(7)).segment;
    let mut found = Vec::new();
    scan::scan(&bytes.to_vec(), segment, Range::whole(chain), Bodies::All, |_, _, record| found.push(record))
        .ok();
    found
}

/// What looks into a message while it streams by, and what takes it apart.
pub fn message(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let piece = usize::from(*size).max(1);
    assert_eq!(looked(data, piece), looked(data, data.len().max(1)), "the pieces change what is seen");
    let mut edit = Edit::of(data);
    let same = edit.to_bytes();
    // A header that ends without a line end is given one.
    assert!(
        same == data || same.strip_suffix(b"\r\n".as_slice()) == Some(data),
        "what nobody changed is changed"
    );
    edit.set("Subject", 1, &String::from_utf8_lossy(data));
    let bytes = edit.to_bytes();
    let body = Edit::of(data).body().to_vec();
    assert_eq!(Edit::of(&bytes).body(), body, "a field ends the header");
}

fn looked(data: &[u8], piece: usize) -> (Vec<u8>, u32, Option<Excess>) {
    let mut filter = ResultsFilter::new("mx.test");
    let mut hops = HopCount::default();
    let mut shape = Shape::new(ShapeLimits { header_size: 4_096, header_fields: 20, mime_depth: 4 });
    let (mut kept, mut excess) = (Vec::new(), None);
    for piece in data.chunks(piece) {
        filter.push(piece, &mut kept);
        hops.look(piece);
        excess = excess.or(shape.look(piece));
    }
    filter.finish(&mut kept);
    (kept, hops.count(), excess)
}
