//! Whole sending transactions as text: `dialogues/sending/*.txt`.
//!
//! ```text
//! # a comment
//! ! offers pipelining size=100 8bitmime smtputf8 chunking dsn lmtp once
//! ! done x y             names that the peer may forget
//! ! from <a@b.test>      ! to <c@d.test>…      ! body text (escapes)      ! wants dsn, 8bit, smtputf8
//! C: line                what must be written now, in order, with CRLF
//! C> text                the same without CRLF
//! S: reply               the peer answers
//! ! confirm | ! refuse | ! lost | ! truncated      what the shell says next, or does with the body
//! D: index Result code   the results, in order, and `R: connection` at the end
//! ```
#![cfg(test)]

use bytes::Bytes;
use mail_model::{
    BodyType, Domain, DsnReturn, EnhancedStatus, Envelope, Mailbox, Notify, OriginalRecipient, Recipient,
    RecipientIndex, Reply, ReversePath,
};
use smtp::limits::SendTimeouts;
use smtp::transaction::{Action, Completion, Event, PeerExtensions, RecipientResult, Transaction};

fn unescape(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n")
}

fn offers(text: &str) -> PeerExtensions {
    let mut peer = PeerExtensions::default();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("pipelining", _) => peer.pipelining = true,
            ("size", limit) => peer.size = Some(limit.parse().unwrap()),
            ("8bitmime", _) => peer.eight_bit_mime = true,
            ("smtputf8", _) => peer.smtputf8 = true,
            ("chunking", _) => peer.chunking = true,
            ("dsn", _) => peer.dsn = true,
            ("requiretls", _) => peer.require_tls = true,
            ("takes-8bit", _) => peer.takes_eight_bit = true,
            ("lmtp", _) => peer.lmtp = true,
            ("once", _) => peer.once = true,
            other => panic!("no extension {other:?}"),
        }
    }
    peer
}

fn wants(envelope: &mut Envelope, text: &str) {
    for word in text.split(' ') {
        match word {
            "8bit" => envelope.body = BodyType::EightBitMime,
            "smtputf8" => envelope.smtputf8 = true,
            "requiretls" => envelope.require_tls = true,
            "dsn" => {
                envelope.ret = Some(DsnReturn::Headers);
                envelope.envid = Some("id=1 +x".into());
                envelope.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
                envelope.recipients[0].original =
                    Some(OriginalRecipient { address_type: "rfc822".into(), address: "o+x@p.test".into() });
            }
            other => panic!("no wish {other}"),
        }
    }
}

struct Story {
    peer: PeerExtensions,
    envelope: Envelope,
    body: String,
    done: Vec<Box<str>>,
}

impl Story {
    fn begin(&self) -> Transaction {
        let indices: Vec<RecipientIndex> =
            (0..).zip(&self.envelope.recipients).map(|(index, _)| index).collect();
        let transaction = Transaction::new(self.peer, &self.envelope, &indices, self.body.len() as u64);
        transaction.named("a-1-2@de+mo", &self.done)
    }
}

struct Run<'a> {
    name: &'a str,
    transaction: Transaction,
    body: String,
    body_cut: usize,
    written: Vec<u8>,
    asked: bool,
    done: Option<Completion>,
}

impl Run<'_> {
    fn event(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut out = Vec::new();
            self.transaction.step(event, &mut out);
            for action in out {
                assert!(self.done.is_none(), "{}: nothing follows Done", self.name);
                match action {
                    Action::Write(bytes) => self.written.extend_from_slice(&bytes),
                    Action::StreamBody => {
                        let body = Bytes::from(self.body.clone());
                        for piece in body.chunks(self.body_cut) {
                            events.push_back(Event::Body(body.slice_ref(piece)));
                        }
                        events.push_back(Event::BodyEnd);
                    }
                    Action::ConfirmFinalDot => {
                        assert!(!self.transaction.final_dot_sent());
                        self.asked = true;
                    }
                    Action::Done(completion) => self.done = Some(completion),
                }
            }
        }
    }

    fn wrote(&mut self, wanted: &str) {
        let got = String::from_utf8_lossy(&self.written).into_owned();
        assert!(got.starts_with(wanted), "{}: wanted {wanted:?}, got {got:?}", self.name);
        self.written.drain(..wanted.len());
    }
}

fn local(text: &str) -> Reply {
    Reply::local(451, EnhancedStatus::new(4, 4, 2), text)
}

fn tell(result: &RecipientResult) -> String {
    match result {
        RecipientResult::Delivered(reply) => format!("Delivered {}", reply.code),
        RecipientResult::Deferred(reply) => format!("Deferred {}", reply.code),
        RecipientResult::Failed(reply) => format!("Failed {}", reply.code),
        RecipientResult::InDoubt(reply) => format!("InDoubt {}", reply.code),
    }
}

fn run(name: &str, text: &str, body_cut: usize) {
    let mut story = Story {
        peer: PeerExtensions::default(),
        envelope: Envelope::from_sender(ReversePath::Null),
        body: "hi\r\n".to_owned(),
        done: Vec::new(),
    };
    let mut current: Option<Run<'_>> = None;
    let mut results = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_at(2);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if mark == "! " && current.is_none() {
            let (word, value) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "offers" => story.peer = offers(value),
                "from" => story.envelope.reverse_path = smtp::path::reverse_path(value).unwrap().0,
                "to" => {
                    let mailboxes = value.split(' ').map(|to| smtp::path::forward_path(to).unwrap().0);
                    story.envelope.recipients = mailboxes.map(Recipient::plain).collect();
                }
                "body" => story.body = unescape(value),
                "done" => story.done = value.split(' ').map(Box::from).collect(),
                "wants" => wants(&mut story.envelope, value),
                "begin" | "truncated" => {
                    let transaction = story.begin();
                    let mut body = story.body.clone();
                    if word == "truncated" {
                        body.pop();
                    }
                    let mut run = Run {
                        name,
                        transaction,
                        body,
                        body_cut,
                        written: Vec::new(),
                        asked: false,
                        done: None,
                    };
                    run.event(Event::Begin);
                    current = Some(run);
                }
                other => panic!("{name}: no setting {other}"),
            }
            continue;
        }
        let run = current.as_mut().expect("! begin comes first");
        match (mark, rest) {
            ("C:", line) => run.wrote(&format!("{}\r\n", unescape(line))),
            ("C>", text) => run.wrote(&unescape(text)),
            ("S:", text) => {
                assert!(run.written.is_empty(), "{name}: unwanted: {}", run.written.escape_ascii());
                let (code, text) = text.split_once(' ').unwrap_or((text, ""));
                run.event(Event::Reply(Reply::from_peer(code.parse().unwrap(), text)));
            }
            ("! ", "confirm") => {
                assert!(std::mem::take(&mut run.asked), "{name}: it asks before the final dot");
                assert!(run.written.is_empty(), "{name}: unwanted: {}", run.written.escape_ascii());
                run.event(Event::FinalDotConfirmed);
                assert!(run.transaction.final_dot_sent());
            }
            ("! ", "refuse") => {
                assert!(std::mem::take(&mut run.asked), "{name}: it asks before the final dot");
                run.event(Event::Abandoned(local("the lease is gone")));
            }
            ("! ", "lost") => run.event(Event::Abandoned(local("connection lost"))),
            ("D:", result) => results.push(result.to_owned()),
            ("R:", connection) => {
                assert!(run.written.is_empty(), "{name}: unwanted: {}", run.written.escape_ascii());
                let done = run.done.as_ref().unwrap_or_else(|| panic!("{name}: not done"));
                let got: Vec<String> =
                    done.results.iter().map(|(index, result)| format!("{index} {}", tell(result))).collect();
                assert_eq!(got, results, "{name}");
                assert_eq!(format!("{:?}", done.connection), connection, "{name}");
                assert_eq!(run.transaction.awaited_replies(), 0, "{name}");
                return;
            }
            other => panic!("{name}: no mark {other:?}"),
        }
    }
    panic!("{name}: a story ends with R:");
}

#[test]
fn each_transaction_ends_as_its_story_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogues/sending");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for body_cut in [1, 2, 3, 1000] {
            run(&path.file_name().unwrap().to_string_lossy(), &text, body_cut);
        }
        count += 1;
    }
    assert!(count >= 20, "the stories are there");
}

#[test]
fn a_thousand_recipients_leave_in_groups_whose_replies_fit_a_window() {
    let mut envelope = Envelope::from_sender(ReversePath::Null);
    let domain = Domain::new("d.test").unwrap();
    envelope.recipients = (0..1000)
        .map(|n| Recipient::plain(Mailbox::new(&format!("r{n}"), domain.clone()).unwrap()))
        .collect();
    let story = Story { peer: offers("pipelining"), envelope, body: "hi\r\n".to_owned(), done: Vec::new() };
    let mut transaction = story.begin();
    let mut out = Vec::new();
    transaction.step(Event::Begin, &mut out);
    let mut most = 0;
    while transaction.awaited_replies() > 0 && !out.contains(&Action::StreamBody) {
        most = most.max(transaction.awaited_replies());
        let data = transaction.awaited_replies() == 1 && most > 1;
        let code = if data && out.iter().any(|a| matches!(a, Action::Write(b) if b.ends_with(b"DATA\r\n"))) {
            354
        } else {
            250
        };
        transaction.step(Event::Reply(Reply::from_peer(code, "ok")), &mut out);
    }
    assert!(out.contains(&Action::StreamBody), "{:?}", out.last());
    assert_eq!(most, smtp::transaction::GROUP_COMMANDS_MAX);
}

#[test]
fn an_address_that_could_break_its_line_or_brackets_is_failed_and_never_written() {
    let domain = Domain::new("d.test").unwrap();
    let mut envelope = Envelope::from_sender(ReversePath::Null);
    // The model takes these as stored; no parser of ours lets them in.
    for local in ["\"a>b", "a..b", "a@b", "\"a\" b\"", "a,b"] {
        envelope.recipients.push(Recipient::plain(Mailbox::new(local, domain.clone()).unwrap()));
    }
    let story = Story { peer: offers("pipelining"), envelope, body: String::new(), done: Vec::new() };
    let mut out = Vec::new();
    story.begin().step(Event::Begin, &mut out);
    let [Action::Done(completion)] = out.as_slice() else { panic!("{out:?}") };
    let all: Vec<String> = completion.results.iter().map(|(_, result)| tell(result)).collect();
    assert_eq!(all, ["Failed 553"; 5]);
}

#[test]
fn each_phase_waits_as_long_as_rfc_5321_says() {
    let mut envelope = Envelope::from_sender(ReversePath::Null);
    let domain = Domain::new("d.test").unwrap();
    envelope.recipients = vec![Recipient::plain(Mailbox::new("a", domain).unwrap())];
    let mut transaction = Story { peer: offers(""), envelope, body: String::new(), done: Vec::new() }.begin();
    let timeouts = SendTimeouts::default();
    let mut out = Vec::new();
    let mut waits = Vec::new();
    for event in [
        Event::Begin,
        Event::Reply(Reply::from_peer(250, "")),
        Event::Reply(Reply::from_peer(250, "")),
        Event::Reply(Reply::from_peer(354, "")),
    ] {
        transaction.step(event, &mut out);
        waits.push(transaction.timeout(&timeouts).as_secs());
    }
    transaction.step(Event::BodyEnd, &mut out);
    transaction.step(Event::FinalDotConfirmed, &mut out);
    waits.push(transaction.timeout(&timeouts).as_secs());
    assert_eq!(waits, [300, 300, 120, 180, 600]);
}
