//! Dialogues of the sink: what it answers, what it records, what it holds against its client.

use super::super::behaviour::Rule;
use super::*;

/// Plays `input` against a sink that behaves so; answers the codes said, the outcome, and how the session stands.
fn play(behaviour: &Behaviour, input: &str) -> (Vec<u16>, Outcome, Flow) {
    let rules = |stage: Stage, local_part: &str| {
        let rule = behaviour.rules.iter().find(|rule| rule.matches(stage, local_part))?;
        Some((rule.delay, rule.act.clone()))
    };
    let mut outcome = Outcome::default();
    let mut session = Session::new(0);
    let mut turn = Turn { now: Moment(5), behaviour, rules: &rules, outcome: &mut outcome };
    let mut flow = session.greet(&mut turn);
    if flow == Flow::Read {
        flow = session.step(&mut BytesMut::from(input.as_bytes()), &mut turn);
    }
    let text = String::from_utf8(outcome.output.clone()).unwrap();
    let codes = text.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| line[..3].parse().unwrap());
    (codes.collect(), outcome, flow)
}

const ONE_MESSAGE: &str = "EHLO c\r\nMAIL FROM:<a@b> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<c@d>\r\nRCPT TO:<\"e>\\\" f\"@g>\r\n\
                           BDAT 8\r\nS: 1\r\n\r\nBDAT 3 LAST\r\n..\nQUIT\r\n";

#[test]
fn a_message_is_recorded_with_its_envelope() {
    let (codes, outcome, flow) = play(&Behaviour::default(), ONE_MESSAGE);
    assert_eq!(codes, [220, 250, 250, 250, 250, 250, 250, 221]);
    assert_eq!(flow, Flow::Close);
    let [delivery] = outcome.deliveries.as_slice() else { panic!("one delivery") };
    assert_eq!(delivery.reverse_path, "a@b");
    assert_eq!(delivery.recipients, ["c@d", "\"e>\\\" f\"@g"]);
    assert_eq!(delivery.mail_parameters, "SIZE=9 BODY=8BITMIME");
    assert_eq!((delivery.size_bytes, delivery.checksum), (11, crc32c::crc32c(b"S: 1\r\n\r\n..\n")));
}

#[test]
fn each_rule_acts_at_its_stage() {
    let message = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<joe@d>\r\nDATA\r\nS: 1\r\n.\r\nQUIT\r\n";
    for (stage, wanted) in [
        (Stage::Connect, vec![451]),
        (Stage::Hello, vec![220, 451]),
        (Stage::Mail, vec![220, 250, 451, 503, 503]),
        (Stage::Recipient, vec![220, 250, 250, 451, 503]),
        (Stage::Data, vec![220, 250, 250, 250, 451]),
        (Stage::FinalDot, vec![220, 250, 250, 250, 354, 451, 221]),
    ] {
        let (codes, outcome, _) = play(&Behaviour::with(Rule::at(stage).reply(451, "4.3.0 no")), message);
        assert!(codes.starts_with(&wanted), "{stage:?} {codes:?}");
        assert!(outcome.deliveries.is_empty());

        let (codes, outcome, flow) = play(&Behaviour::with(Rule::at(stage).drop_connection()), message);
        assert_eq!(codes, wanted.split(|code| *code == 451).next().unwrap(), "{stage:?}");
        assert_eq!((outcome.deliveries.len(), flow), (0, Flow::Close));

        let delay = Duration::from_secs(9);
        let (_, outcome, flow) = play(&Behaviour::with(Rule::at(stage).after(delay)), message);
        assert_eq!((outcome.deliveries.len(), flow), (0, Flow::Wait(delay)));
    }
}

#[test]
fn a_message_can_be_taken_without_a_word() {
    let rule = Rule::at(Stage::FinalDot).take_then_drop();
    let (codes, outcome, flow) = play(&Behaviour::with(rule), ONE_MESSAGE);
    assert_eq!(codes, [220, 250, 250, 250, 250, 250]);
    assert_eq!((outcome.deliveries.len(), flow), (1, Flow::Close));
}

#[test]
fn what_ehlo_offers_is_as_told() {
    let few = Extensions {
        pipelining: false,
        chunking: false,
        size_max_bytes: Some(1000),
        ..Extensions::default()
    };
    let behaviour = Behaviour { extensions: few, ..Behaviour::default() };
    let (_, outcome, _) = play(&behaviour, "EHLO c\r\n");
    let text = String::from_utf8(outcome.output).unwrap();
    assert!(text.contains("SIZE 1000\r\n") && !text.contains("PIPELINING") && !text.contains("CHUNKING"));
    assert_eq!(play(&behaviour, "EHLO c\r\nMAIL FROM:<a@b> SIZE=1001\r\n").0, [220, 250, 552]);

    let old = Behaviour { helo_only: true, multi_line: true, ..Behaviour::default() };
    assert_eq!(play(&old, "EHLO c\r\n").0, [220, 502]);
    let (codes, outcome, _) = play(&old, "HELO c\r\n");
    assert_eq!(codes, [220, 250]);
    assert_eq!(memchr::memchr_iter(b'\n', &outcome.output).count(), 6);
}

#[test]
fn a_message_over_the_size_is_refused_though_it_was_not_announced() {
    let extensions = Extensions { size_max_bytes: Some(10), ..Extensions::default() };
    let behaviour = Behaviour { extensions, ..Behaviour::default() };
    let input = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n12345678901\r\n.\r\n";
    let (codes, outcome, _) = play(&behaviour, input);
    assert_eq!((codes.last(), outcome.deliveries.len()), (Some(&552), 0));
}

#[test]
fn breaches_of_the_protocol_are_held_against_the_client() {
    let plain = Extensions { pipelining: false, chunking: false, ..Extensions::default() };
    let plain = Behaviour { extensions: plain, ..Behaviour::default() };
    let full = Behaviour::default();
    for (behaviour, input, wanted) in [
        (&full, "MAIL FROM:<a@b>\r\n", "MAIL out of order"),
        (
            &full,
            "EHLO c\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n",
            "bytes sent ahead of a reply that had to be awaited",
        ),
        (&full, "EHLO c\n", "a command line that ends in a bare LF"),
        (&full, "EHLO\r\n", "a hello without a name"),
        (&full, "MIAL\r\n", "an unknown command"),
        (&full, "BDAT x\r\n", "a bad BDAT"),
        (&plain, "DATA\r\n", "DATA without MAIL"),
        (&plain, "BDAT 1\r\n", "BDAT that was not offered"),
        (&plain, "RCPT TO:<a@b>\r\n", "RCPT out of order"),
        (&plain, "RSET\r\nRSET\r\n", "bytes sent ahead of a reply that had to be awaited"),
    ] {
        let (_, outcome, _) = play(behaviour, input);
        assert_eq!(outcome.faults.first(), Some(&wanted), "{input:?}");
    }
}

#[test]
fn a_path_is_read_with_its_quotes() {
    for (text, wanted) in [
        ("FROM:<>", Some(("", ""))),
        ("from:<a@b> SIZE=1", Some(("a@b", "SIZE=1"))),
        ("FROM:<\"a>b\"@c>", Some(("\"a>b\"@c", ""))),
        ("FROM:<\"a\\\">b\"@c>", Some(("\"a\\\">b\"@c", ""))),
        ("FROM:a@b", None),
        ("FROM:<a@b", None),
        ("FROM:<a@b>x", None),
        ("TO:<a@b>", None),
    ] {
        assert_eq!(path(text, "FROM:"), wanted, "{text}");
    }
}
