//! Whole sessions as text: `dialogues/receiving/*.txt`, each fed whole, byte by byte and in random pieces; what comes out must be
//! the same.
//!
//! ```text
//! # a comment
//! ! size 100                      a setting: size, recipients, errors, commands, line, early-talk, extensions none,
//!                                 tls offered, tls active, xclient, once, strict (pipelining), rate,
//!                                 age, auth MECHANISM…, failures
//! ! stepwise                      the dialogue depends on the client waiting: only fed line by line
//! ? recipient <a@b> 550 5.7.1 no  the shell's answer to a question: sender, recipient, begin, store
//! ? store * 250 ID                the message was taken before, under this id
//! ? auth MESSAGE 334 text         the same to a message of a mechanism, `-` for none; 235 accepts, and so does no answer
//! C: text                         the client sends text (with \xNN, \r, \n, \0, \\) and CRLF
//! C> text                         the same without CRLF
//! C! eof | wait MS | shutdown     the client ends, time passes, the shell shuts down
//! S: line                         a reply line; a `*` at its end stands for any text
//! S~ code                         one reply of several lines
//! M: <from> <to>… text            a message was stored, with that content
//! X: Reason                       a message was begun and aborted (a `*` stands for any reason)
//! P: protocol                     what Received will say, where TLS is a setting
//! I: claim                        a front told us whose session it is: ADDR
//! N: name                         the message that begins bears this name
//! K: names                        these will not be repeated
//! T:                              we spoke TLS from here on
//! Z:                              we closed the connection
//! ```
#![cfg(test)]

use std::fmt::Write as _;
use std::path::Path;

use bytes::BytesMut;
use mail_model::{Domain, Moment, Reply, ReversePath};
use smtp::sasl::Mechanism;
use smtp::session::{
    Action, AuthStep, Authentication, EarlyTalk, Event, Extensions, Greeting, Pipelining, Protection,
    Session, SessionConfig, Storage, Verdict,
};

enum Doing {
    Bytes(Vec<u8>),
    End,
    Wait(u64),
    Shutdown,
}

struct Dialogue {
    config: SessionConfig,
    protection: Protection,
    believes_xclient: bool,
    knows_repeats: bool,
    mechanisms: Vec<Mechanism>,
    answers: Vec<(String, String, Reply)>,
    stepwise: bool,
    doings: Vec<Doing>,
    /// What must have come out before the doing of the same place; the last after all.
    wanted: Vec<Vec<String>>,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = match (character, rest.as_bytes().get(1)) {
            ('\\', Some(b'r')) => (bytes.push(b'\r'), 2).1,
            ('\\', Some(b'n')) => (bytes.push(b'\n'), 2).1,
            ('\\', Some(b'0')) => (bytes.push(0), 2).1,
            ('\\', Some(b'\\')) => (bytes.push(b'\\'), 2).1,
            ('\\', Some(b'x')) => (bytes.push(u8::from_str_radix(&rest[2..4], 16).unwrap()), 4).1,
            // `\*N` repeats the next character: `\*2000x`.
            ('\\', Some(b'*')) => {
                let digits: String = rest[2..].chars().take_while(char::is_ascii_digit).collect();
                let byte = rest.as_bytes()[2 + digits.len()];
                bytes.extend(std::iter::repeat_n(byte, digits.parse().unwrap()));
                3 + digits.len()
            }
            _ => (bytes.extend_from_slice(&rest.as_bytes()[..character.len_utf8()]), character.len_utf8()).1,
        };
        rest = &rest[length..];
    }
    bytes
}

fn reply(text: &str) -> Reply {
    let (code, text) = text.split_once(' ').unwrap();
    Reply::from_peer(code.parse().unwrap(), text)
}

fn setting(dialogue: &mut Dialogue, text: &str) {
    let (name, value) = text.split_once(' ').unwrap_or((text, ""));
    let limits = &mut dialogue.config.limits;
    match name {
        "size" => limits.message_size = value.parse().unwrap(),
        "recipients" => limits.recipients = value.parse().unwrap(),
        "errors" => limits.errors = value.parse().unwrap(),
        "commands" => limits.commands_without_mail = value.parse().unwrap(),
        "line" => limits.command_line = value.parse().unwrap(),
        "failures" => limits.failed_authentications = value.parse().unwrap(),
        "auth" => {
            dialogue.mechanisms = value.split(' ').map(|name| Mechanism::named(name).unwrap()).collect();
        }
        "early-talk" => dialogue.config.early_talk = EarlyTalk::Tolerate,
        "tls" => {
            dialogue.protection = if value == "active" { Protection::Tls } else { Protection::Offered };
        }
        "rate" => limits.data_rate = value.parse().unwrap(),
        "age" => limits.session_ms = value.parse().unwrap(),
        "strict" => dialogue.config.pipelining = Pipelining::Strict,
        "xclient" => dialogue.believes_xclient = true,
        "once" => dialogue.knows_repeats = true,
        "stepwise" => dialogue.stepwise = true,
        "extensions" => {
            dialogue.config.extensions = Extensions {
                pipelining: false,
                eight_bit_mime: false,
                smtputf8: false,
                chunking: false,
                dsn: false,
                require_tls: false,
            };
        }
        other => panic!("no setting {other}"),
    }
}

fn parse(text: &str) -> Dialogue {
    let mut dialogue = Dialogue {
        config: SessionConfig::new(Domain::new("mx.example.test").unwrap()),
        protection: Protection::None,
        believes_xclient: false,
        knows_repeats: false,
        mechanisms: Vec::new(),
        answers: Vec::new(),
        stepwise: false,
        doings: Vec::new(),
        wanted: vec![Vec::new()],
    };
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_at(2);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let doing = match mark {
            "! " => {
                setting(&mut dialogue, rest);
                continue;
            }
            "? " => {
                let (question, rest) = rest.split_once(' ').unwrap();
                let (about, text) = rest.split_once(' ').unwrap();
                dialogue.answers.push((question.to_owned(), about.to_owned(), reply(text)));
                continue;
            }
            "C:" => Doing::Bytes([unescape(rest).as_slice(), b"\r\n"].concat()),
            "C>" => Doing::Bytes(unescape(rest)),
            "C!" => match rest.split_once(' ').unwrap_or((rest, "")) {
                ("eof", _) => Doing::End,
                ("wait", span) => Doing::Wait(span.parse().unwrap()),
                ("shutdown", _) => Doing::Shutdown,
                other => panic!("no doing {other:?}"),
            },
            "S:" | "S~" | "M:" | "X:" | "P:" | "I:" | "N:" | "K:" | "T:" | "Z:" => {
                dialogue.wanted.last_mut().unwrap().push(line.trim_end().to_owned());
                continue;
            }
            other => panic!("no mark {other:?}"),
        };
        dialogue.stepwise |= matches!(doing, Doing::Wait(_) | Doing::Shutdown);
        dialogue.doings.push(doing);
        dialogue.wanted.push(Vec::new());
    }
    dialogue
}

/// A shell of the plainest kind.
struct Shell<'a> {
    dialogue: &'a Dialogue,
    session: Session,
    now: Moment,
    input: BytesMut,
    replies: Vec<u8>,
    seen: Vec<String>,
    message: Option<(String, Vec<u8>)>,
    stored: usize,
    sends: usize,
}

impl<'a> Shell<'a> {
    fn new(dialogue: &'a Dialogue) -> Self {
        let now = Moment(1_000);
        Self {
            dialogue,
            session: Session::new(dialogue.config.clone(), now)
                .protected(dialogue.protection)
                .believing_xclient(dialogue.believes_xclient)
                .knowing_repeats(dialogue.knows_repeats)
                .authenticating(dialogue.mechanisms.as_slice()),
            now,
            input: BytesMut::new(),
            replies: Vec::new(),
            seen: Vec::new(),
            message: None,
            stored: 0,
            sends: 0,
        }
    }

    fn verdict(&self, question: &str, about: &str) -> Option<Reply> {
        let found = self.dialogue.answers.iter().find(|(q, a, _)| q == question && (a == about || a == "*"));
        found.map(|(_, _, reply)| reply.clone())
    }

    fn event(&mut self, event: Event) {
        let mut next = Some(event);
        let mut actions = Vec::new();
        while let Some(event) = next.take() {
            self.session.step(self.now, event, &mut self.input, &mut actions);
            for action in actions.drain(..) {
                assert!(next.is_none(), "a question is the last action of its step");
                next = self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        let verdict = |refusal: Option<Reply>| refusal.map_or(Verdict::Accept, Verdict::Refuse);
        match action {
            Action::Send(bytes) => {
                self.sends += 1;
                self.replies.extend_from_slice(&bytes);
                None
            }
            Action::CheckSender(request) => {
                let about = path(&request.reverse_path);
                Some(Event::Sender(verdict(self.verdict("sender", &about))))
            }
            Action::CheckRecipient(recipient) => {
                let about = format!("<{}>", recipient.address);
                Some(Event::Recipient(verdict(self.verdict("recipient", &about))))
            }
            Action::BeginMessage(start) => {
                assert!(self.message.is_none(), "one message at a time");
                let mut envelope = path(&start.envelope.reverse_path);
                for recipient in &start.envelope.recipients {
                    let _ = write!(envelope, " <{}>", recipient.address);
                }
                if self.dialogue.protection != Protection::None {
                    self.seen.push(format!("P: {}", start.protocol));
                }
                if let Some(name) = &start.once {
                    self.seen.push(format!("N: {name}"));
                }
                let refusal = self.verdict("begin", "*");
                if refusal.is_none() {
                    self.message = Some((envelope, Vec::new()));
                }
                Some(Event::Message(verdict(refusal)))
            }
            Action::Body(bytes) => {
                assert!(!bytes.is_empty());
                self.message.as_mut().unwrap().1.extend_from_slice(&bytes);
                None
            }
            Action::EndOfMessage => {
                let (envelope, body) = self.message.take().unwrap();
                if let Some(refusal) = self.verdict("store", "*") {
                    if refusal.code == 250 {
                        return Some(Event::Stored(Storage::Repeated(refusal.text)));
                    }
                    return Some(Event::Stored(Storage::Refused(refusal)));
                }
                self.stored += 1;
                self.seen.push(format!("M: {envelope} {}", body.escape_ascii()).trim_end().to_owned());
                Some(Event::Stored(Storage::Stored(format!("id-{}", self.stored))))
            }
            Action::ClientIs(claim) => {
                self.seen.push(format!("I: {:?}", claim.address));
                Some(Event::Greet(self.verdict("client", "*").map_or(Greeting::Ready, Greeting::Refuse)))
            }
            Action::Release(names) => {
                self.seen.push(format!("K: {}", names.join(" ")));
                None
            }
            Action::StartTls => {
                assert!(self.input.is_empty(), "nothing in clear is left");
                self.seen.push("T:".to_owned());
                Some(Event::Secured)
            }
            Action::Authenticate(step) => Some(Event::Authentication(self.authenticate(step))),
            Action::AbortMessage(reason) => {
                assert!(self.message.take().is_some(), "only a begun message is aborted");
                self.seen.push(format!("X: {reason:?}"));
                None
            }
            Action::Close => {
                self.seen.push("Z:".to_owned());
                None
            }
        }
    }

    fn authenticate(&self, step: AuthStep) -> Authentication {
        let message = match step {
            AuthStep::Begin { initial, .. } => initial,
            AuthStep::Response(message) => Some(message),
        };
        let about = message.map_or("-".to_owned(), |message| message.escape_ascii().to_string());
        match self.verdict("auth", &about) {
            Some(reply) if reply.code == 334 => Authentication::Challenge(reply.text.into()),
            Some(reply) if reply.code >= 400 => Authentication::Refused(reply),
            Some(_) | None => Authentication::Accepted,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.event(Event::Input);
    }

    fn act_out(&mut self, doing: &Doing, size: &mut impl FnMut() -> usize) {
        match doing {
            Doing::Bytes(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(size().clamp(1, rest.len()));
                    self.feed(piece);
                    rest = after;
                }
            }
            Doing::End => self.event(Event::EndOfInput),
            Doing::Wait(span) => {
                self.now = Moment(self.now.0 + span);
                self.event(Event::DeadlineReached);
            }
            Doing::Shutdown => self.event(Event::Shutdown),
        }
    }
}

fn path(path: &ReversePath) -> String {
    format!("<{path}>")
}

/// Compares replies (as lines, in order) and the rest (in order).
fn check(name: &str, wanted: &[String], shell: &Shell<'_>) {
    let text = String::from_utf8(shell.replies.clone()).unwrap();
    let mut lines = text.split_terminator("\r\n");
    let fail = |what: &str| -> ! { panic!("{name}: {what}\nreplies:\n{text}\nseen: {:#?}", shell.seen) };
    for line in wanted.iter().filter(|line| line.starts_with('S')) {
        let (mark, want) = line.split_at(3);
        if mark == "S~ " {
            loop {
                match lines.next() {
                    Some(got) if got.starts_with(&format!("{want}-")) => {}
                    Some(got) if got.starts_with(&format!("{want} ")) => break,
                    other => fail(&format!("wanted {line}, got {other:?}")),
                }
            }
            continue;
        }
        let Some(got) = lines.next() else { fail(&format!("wanted {line}, got nothing")) };
        let same = want.strip_suffix('*').map_or(want == got, |start| got.starts_with(start));
        if !same {
            fail(&format!("wanted {line}, got {got}"));
        }
    }
    if let Some(more) = lines.next() {
        fail(&format!("unwanted reply {more}"));
    }
    let events: Vec<&String> = wanted.iter().filter(|line| !line.starts_with('S')).collect();
    let same = |(want, got): (&&String, &String)| {
        want.strip_suffix('*').map_or(*want == got, |s| got.starts_with(s))
    };
    if events.len() != shell.seen.len() || !events.iter().zip(&shell.seen).all(same) {
        fail(&format!("wanted {events:#?}"));
    }
}

/// All that is sent as one write, byte by byte, and in pieces of an endless sequence.
fn run_cut(name: &str, dialogue: &Dialogue, how: &str, mut size: impl FnMut() -> usize) {
    let mut shell = Shell::new(dialogue);
    shell.event(Event::Greet(Greeting::Ready));
    let mut whole = Vec::new();
    let mut others = Vec::new();
    for doing in &dialogue.doings {
        match doing {
            Doing::Bytes(bytes) => whole.extend_from_slice(bytes),
            Doing::End | Doing::Wait(_) | Doing::Shutdown => others.push(doing),
        }
    }
    shell.act_out(&Doing::Bytes(whole), &mut size);
    for doing in others {
        shell.act_out(doing, &mut size);
    }
    check(&format!("{name} ({how})"), &dialogue.wanted.concat(), &shell);
}

fn run(name: &str, text: &str) {
    let dialogue = parse(text);
    let mut shell = Shell::new(&dialogue);
    shell.event(Event::Greet(Greeting::Ready));
    for (place, doing) in dialogue.doings.iter().enumerate() {
        check(&format!("{name} before step {place}"), &dialogue.wanted[..=place].concat(), &shell);
        shell.act_out(doing, &mut || usize::MAX);
    }
    check(&format!("{name} (step by step)"), &dialogue.wanted.concat(), &shell);
    if dialogue.stepwise {
        return;
    }
    run_cut(name, &dialogue, "whole", || usize::MAX);
    run_cut(name, &dialogue, "byte by byte", || 1);
    for seed in 1..=40_u64 {
        let mut state = seed;
        run_cut(name, &dialogue, &format!("random pieces, seed {seed}"), || {
            // xorshift: any spread of sizes will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % 23).unwrap() + 1
        });
    }
}

#[test]
fn each_dialogue_is_answered_the_same_however_it_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogues/receiving");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        run(&path.file_name().unwrap().to_string_lossy(), &std::fs::read_to_string(&path).unwrap());
        count += 1;
    }
    assert!(count >= 15, "the dialogues are there");
}

#[test]
fn replies_to_a_pipelined_group_leave_in_one_write() {
    let dialogue = parse("");
    let mut shell = Shell::new(&dialogue);
    shell.event(Event::Greet(Greeting::Ready));
    shell.feed(b"EHLO c\r\n");
    let before = shell.sends;
    shell.feed(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@f.test>\r\nDATA\r\n");
    assert_eq!(shell.sends, before + 1);
    shell.feed(b"hi\r\n.\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n");
    assert_eq!(shell.sends, before + 2);
    assert_eq!(shell.seen, ["M: <a@b.test> <c@d.test> <e@f.test> hi\\r\\n"]);
}

#[test]
fn a_client_that_talks_before_the_greeting_is_refused_unless_tolerated() {
    let mut dialogue = parse("S: 554 5.5.1 you talked before the greeting\nZ:");
    let mut shell = Shell::new(&dialogue);
    shell.input.extend_from_slice(b"EHLO c\r\n");
    shell.event(Event::Greet(Greeting::Ready));
    check("early talk", &dialogue.wanted.concat(), &shell);
    dialogue = parse("! early-talk\nS: 220 mx.example.test ESMTP\nS: 250 2.0.0 ok");
    let mut shell = Shell::new(&dialogue);
    shell.input.extend_from_slice(b"NOOP\r\n");
    shell.event(Event::Greet(Greeting::Ready));
    check("tolerated", &dialogue.wanted.concat(), &shell);
}

#[test]
fn a_node_that_is_not_ready_greets_with_421_and_closes() {
    for (greeting, wanted) in [
        (Greeting::NotReady, "S: 421 4.3.2 service not ready, try again later\nZ:"),
        (Greeting::Refuse(reply("554 5.7.1 not you")), "S: 554 5.7.1 not you\nZ:"),
    ] {
        let dialogue = parse(wanted);
        let mut shell = Shell::new(&dialogue);
        shell.event(Event::Greet(greeting));
        check("greeting", &dialogue.wanted.concat(), &shell);
        assert!(shell.session.is_closed() && shell.session.deadline().is_none());
    }
}

#[test]
fn a_message_whose_end_was_received_is_answered_even_if_the_client_has_gone_and_we_shut_down() {
    let dialogue = parse("");
    let mut shell = Shell::new(&dialogue);
    shell.event(Event::Greet(Greeting::Ready));
    shell.feed(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n");
    let (session, input) = (&mut shell.session, &mut shell.input);
    let mut out = Vec::new();
    input.extend_from_slice(b"hi\r\n.\r\n");
    session.step(Moment(2_000), Event::Input, input, &mut out);
    assert_eq!(out.last(), Some(&Action::EndOfMessage));
    assert_eq!(session.deadline(), None, "we are to act, not the client");
    out.clear();
    session.step(Moment(2_000), Event::EndOfInput, input, &mut out);
    session.step(Moment(2_000), Event::Shutdown, input, &mut out);
    assert_eq!(out, [], "nothing is said before the shell has answered");
    session.step(Moment(2_000), Event::Stored(Storage::Stored("id".into())), input, &mut out);
    let wanted = "250 2.0.0 queued as id\r\n421 4.3.2 shutting down, try again later\r\n";
    assert_eq!(out, [Action::Send(wanted.into()), Action::Close]);
}

#[test]
fn an_answer_nobody_asked_for_closes_the_session() {
    let dialogue = parse("");
    for event in [Event::Sender(Verdict::Accept), Event::Stored(Storage::Stored("id".into()))] {
        let mut shell = Shell::new(&dialogue);
        shell.event(Event::Greet(Greeting::Ready));
        shell.event(event);
        assert!(shell.session.is_closed());
        assert!(
            String::from_utf8(shell.replies).unwrap().ends_with("421 4.3.0 local error, try again later\r\n")
        );
    }
}
