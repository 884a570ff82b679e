//! Arbitrary bytes into a session: it never panics, keeps its contract with the shell, and answers the same however the
//! bytes are cut.
#![cfg(test)]

use bytes::BytesMut;
use mail_model::{Domain, Moment};
use proptest::prelude::*;
use smtp::session::{Action, Event, Greeting, Session, SessionConfig, Storage, Verdict};

/// Replies, stored messages, and whether it closed.
type Outcome = (Vec<u8>, Vec<Vec<u8>>, bool);

/// Says yes to everything. Checks the contract on the way.
fn run(config: &SessionConfig, bytes: &[u8], size: usize) -> Outcome {
    let mut session = Session::new(config.clone(), Moment(0)).believing_xclient(true).knowing_repeats(true);
    let mut input = BytesMut::new();
    let mut outcome: Outcome = (Vec::new(), Vec::new(), false);
    let mut message: Option<Vec<u8>> = None;
    let mut out = Vec::new();
    let first = std::iter::once(Event::Greet(Greeting::Ready));
    let mut pieces = bytes.chunks(size);
    let mut events = first.collect::<Vec<_>>();
    loop {
        let event = match events.pop() {
            Some(event) => event,
            None => match pieces.next() {
                Some(piece) => {
                    input.extend_from_slice(piece);
                    Event::Input
                }
                None => break,
            },
        };
        session.step(Moment(0), event, &mut input, &mut out);
        for action in out.drain(..) {
            assert!(events.is_empty(), "a question is the last action");
            assert!(!outcome.2, "nothing follows Close");
            match action {
                Action::Send(reply) => outcome.0.extend_from_slice(&reply),
                Action::CheckSender(_) => events.push(Event::Sender(Verdict::Accept)),
                Action::CheckRecipient(_) => events.push(Event::Recipient(Verdict::Accept)),
                Action::BeginMessage(start) => {
                    assert!(message.is_none() && !start.envelope.recipients.is_empty());
                    message = Some(Vec::new());
                    events.push(Event::Message(Verdict::Accept));
                }
                Action::Body(piece) => message.as_mut().unwrap().extend_from_slice(&piece),
                Action::EndOfMessage => {
                    outcome.1.push(message.take().unwrap());
                    events.push(Event::Stored(Storage::Stored("id".to_owned())));
                }
                Action::ClientIs(_) => events.push(Event::Greet(Greeting::Ready)),
                Action::StartTls | Action::Authenticate(_) => unreachable!("it is not offered"),
                Action::Release(names) => assert!(!names.is_empty()),
                Action::AbortMessage(_) => assert!(message.take().is_some()),
                Action::Close => {
                    assert!(message.is_none(), "a begun message is aborted before Close");
                    outcome.2 = true;
                }
            }
        }
        assert_eq!(session.is_closed(), outcome.2);
        let kept = if session.wants_input() { input.len() } else { 0 };
        assert!(kept < config.limits.command_line, "what is not understood is not kept");
    }
    outcome
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"EHLO c\r\n",
        b"MAIL FROM:<a@b.test>\r\n",
        b"RCPT TO:<c@d.test>\r\n",
        b"BDAT 7\r\n",
        b"BDAT 3 LAST\r\n",
        b"RSET\r\n",
        b"XCLIENT ADDR=192.0.2.7 HELO=c\r\n",
        b"XDONE x y\r\n",
        b"STARTTLS\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b".\r\n",
        b".",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"text",
        b"a long text that exceeds the limit of a line and then some",
    ];
    prop_oneof![9 => prop::sample::select(words).prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 1..9)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_bytes_are_answered_the_same_however_they_are_cut(
        words in prop::collection::vec(word(), 0..30),
        begun: bool,
        size in 1_usize..20,
    ) {
        let mut config = SessionConfig::new(Domain::new("mx.test").unwrap());
        config.limits.command_line = 48;
        config.limits.message_size = 40;
        config.limits.errors = 5;
        // Without DATA among the words: a refused one that was not awaited closes, which depends on the cut by design.
        let front: &[u8] =
            if begun { b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n" } else { b"" };
        let bytes = [front, &words.concat()].concat();
        let whole = run(&config, &bytes, bytes.len().max(1));
        prop_assert_eq!(&run(&config, &bytes, 1), &whole);
        prop_assert_eq!(&run(&config, &bytes, size), &whole);
        let replies = String::from_utf8(whole.0).unwrap();
        for line in replies.split_terminator("\r\n") {
            prop_assert!(line.len() <= 510 && line.bytes().all(|b| matches!(b, b' '..=b'~')), "{}", line);
        }
        for message in whole.1 {
            let text = String::from_utf8_lossy(&message).replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n']) && message.len() <= 40);
        }
    }
}
