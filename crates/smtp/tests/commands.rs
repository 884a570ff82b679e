//! The parser by tables and by chance: what is taken and as what, what is refused and why.
#![cfg(test)]

use mail_model::{BodyType, DsnReturn, Notify, ReversePath};
use proptest::prelude::*;
use smtp::command::{ArgumentError, ChunkHeader, Command, RcptTo, SyntaxError, parse};
use smtp::parameter::ParameterError;
use smtp::path::{PathError, forward_path, is_sendable, reverse_path};

#[test]
fn verbs_are_known_in_any_case_and_take_only_their_arguments() {
    let table: &[(&[u8], Result<Command, SyntaxError>)] = &[
        (b"EHLO mx.example.test", Ok(Command::Ehlo("mx.example.test".into()))),
        (b"eHlO  a_b \t", Ok(Command::Ehlo("a_b".into()))),
        (b"HELO [192.0.2.1]", Ok(Command::Helo("[192.0.2.1]".into()))),
        (b"EHLO", Err(SyntaxError::Argument(ArgumentError::HostName))),
        (b"EHLO a b", Err(SyntaxError::Argument(ArgumentError::HostName))),
        (b"EHLO a;b", Err(SyntaxError::Argument(ArgumentError::HostName))),
        (b"EHLO \xc3\xa9", Err(SyntaxError::Character)),
        (b"data", Ok(Command::Data)),
        (b"DATA ", Ok(Command::Data)),
        (b"DATA x", Err(SyntaxError::Argument(ArgumentError::Unwanted))),
        (b"RSET", Ok(Command::Rset)),
        (b"QUIT", Ok(Command::Quit)),
        (b"QUIT x", Err(SyntaxError::Argument(ArgumentError::Unwanted))),
        (b"NOOP anything at all", Ok(Command::Noop)),
        (b"HELP", Ok(Command::Help)),
        (b"VRFY \xc3\xa9", Ok(Command::Vrfy)),
        (b"VRFY", Err(SyntaxError::Argument(ArgumentError::Address))),
        (b"EXPN", Ok(Command::NotImplemented)),
        (b"StartTLS ", Ok(Command::StartTls)),
        (b"STARTTLS x", Err(SyntaxError::Argument(ArgumentError::Unwanted))),
        (b"", Err(SyntaxError::Unknown)),
        (b" NOOP", Err(SyntaxError::Unknown)),
        (b"MAILFROM:<a@b>", Err(SyntaxError::Unknown)),
        (b"MAIL", Err(SyntaxError::Argument(ArgumentError::From))),
        (b"MAIL FROM", Err(SyntaxError::Argument(ArgumentError::From))),
        (b"MAIL FROM :<a@b>", Err(SyntaxError::Argument(ArgumentError::From))),
        (b"RCPT FROM:<a@b>", Err(SyntaxError::Argument(ArgumentError::To))),
        (b"NOOP\0", Err(SyntaxError::Character)),
        (b"NO\tOP", Err(SyntaxError::Character)),
        (b"NOOP \x7f", Err(SyntaxError::Character)),
        (b"RCPT TO:<a@b>\xff", Err(SyntaxError::Character)),
        (b"BDAT 0", Ok(Command::Bdat(ChunkHeader { octets: 0, last: false }))),
        (b"BDAT 00012 Last", Ok(Command::Bdat(ChunkHeader { octets: 12, last: true }))),
        (b"BDAT 18446744073709551615", Ok(Command::Bdat(ChunkHeader { octets: u64::MAX, last: false }))),
        (b"BDAT 18446744073709551616", Err(SyntaxError::ChunkSize)),
        (b"BDAT 99999999999999999999 LAST", Err(SyntaxError::ChunkSize)),
        (b"BDAT 000000000000000000001", Err(SyntaxError::ChunkSize)),
        (b"BDAT", Err(SyntaxError::Argument(ArgumentError::Chunk))),
        (b"BDAT +1", Err(SyntaxError::ChunkSize)),
        (b"BDAT -1", Err(SyntaxError::ChunkSize)),
        (b"BDAT 1x", Err(SyntaxError::ChunkSize)),
        (b"BDAT 1 LASTLY", Err(SyntaxError::ChunkSize)),
        (b"BDAT 1 LAST LAST", Err(SyntaxError::ChunkSize)),
        (b"BDAT 1\0", Err(SyntaxError::ChunkSize)),
        (b"BDAT\t1", Err(SyntaxError::ChunkSize)),
        (b"BDAT \xd9\xa1", Err(SyntaxError::ChunkSize)),
    ];
    for (line, wanted) in table {
        assert_eq!(parse(line), *wanted, "{}", line.escape_ascii());
    }
}

#[test]
fn recipients_are_kept_as_sent_and_routes_are_dropped() {
    let long_local = "l".repeat(64);
    let long_domain = [&*"d".repeat(63); 3].join(".");
    let table = [
        ("<a@b.test>", "a@b.test"),
        ("<A.B@B.Test>", "A.B@b.test"),
        ("<\"a b\"@b.test>", "\"a b\"@b.test"),
        ("<\"a\\\"b\\\\\"@b.test>", "\"a\\\"b\\\\\"@b.test"),
        ("<\"@\"@b.test>", "\"@\"@b.test"),
        ("<\">\"@b.test>", "\">\"@b.test"),
        ("<\"\"@b.test>", "\"\"@b.test"),
        ("<@x.test:a@b.test>", "a@b.test"),
        ("<@x.test,@[192.0.2.1]:a@b.test>", "a@b.test"),
        ("<a%c@b.test>", "a%c@b.test"),
        ("<c!a@b.test>", "c!a@b.test"),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<a@[IPv6:2001:db8::1]>", "a@[ipv6:2001:db8::1]"),
        ("<a@localhost>", "a@localhost"),
        ("<a@_b-c.test>", "a@_b-c.test"),
        ("<j\u{f6}rg@b\u{fc}cher.test>", "j\u{f6}rg@b\u{fc}cher.test"),
        ("<Postmaster>", "Postmaster"),
        (&format!("<{long_local}@b.test>"), &format!("{long_local}@b.test")),
        (&format!("<a@{long_domain}>"), &format!("a@{long_domain}")),
    ];
    for (text, wanted) in table {
        let (mailbox, rest) = forward_path(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((mailbox.to_string().as_str(), rest), (wanted, ""));
        assert!(is_sendable(&mailbox), "{text}");
    }
}

#[test]
fn malformed_paths_are_refused_for_what_is_wrong() {
    use PathError::{Brackets, Domain, Empty, LocalPart, Route, TooLong};
    let long_local = format!("<{}@b.test>", "l".repeat(65));
    let long_path = format!("<{}@{}>", "l".repeat(64), [&*"d".repeat(63); 3].join("."));
    let table = [
        ("", Brackets),
        ("a@b.test", Brackets),
        ("<a@b.test", Brackets),
        ("<a@b.test x>", Brackets),
        ("<a@b.test\\>", Brackets),
        ("<<a@b.test>>", LocalPart),
        ("<>", Empty),
        ("< a@b.test>", LocalPart),
        ("<a b@b.test>", LocalPart),
        ("<.a@b.test>", LocalPart),
        ("<a.@b.test>", LocalPart),
        ("<a..b@b.test>", LocalPart),
        ("<@b.test>", Route),
        ("<a,b@b.test>", LocalPart),
        ("<\"a@b.test>", LocalPart),
        ("<\"a\"b@b.test>", LocalPart),
        ("<\"a\\\u{e9}\"@b.test>", LocalPart),
        ("<a@>", Domain),
        ("<a>", Domain),
        ("<\"postmaster\">", Domain),
        ("<a@b..test>", Domain),
        ("<a@.test>", Domain),
        ("<a@b.test.>", Domain),
        ("<a@-b.test>", Domain),
        ("<a@b@c.test>", Brackets),
        ("<a@[192.0.2]>", Domain),
        ("<a@[192.0.2.256]>", Domain),
        ("<a@[IPv6:2001:db8::g]>", Domain),
        ("<a@[IPv6:192.0.2.1]>", Domain),
        ("<a@[2001:db8::1]>", Domain),
        ("<a@[tag:x]>", Domain),
        ("<a@[192.0.2.1>", Domain),
        ("<a@[192.0.2.1].test>", Brackets),
        ("<@x.test>", Route),
        ("<@x.test,a@b.test>", Route),
        ("<@x.test:>", LocalPart),
        ("<@x.test:postmaster>", Domain),
        ("<a@b\u{a0}c.test>", Brackets),
        (&*long_local, TooLong),
        (&*long_path, TooLong),
    ];
    for (text, wanted) in table {
        assert_eq!(forward_path(text).unwrap_err(), wanted, "{text}");
    }
    assert_eq!(reverse_path("<>").unwrap(), (ReversePath::Null, ""));
    assert_eq!(reverse_path("<postmaster>").unwrap_err(), Domain);
}

#[test]
fn parameters_are_understood() {
    let line = b"MAIL FROM:<a@b.test> size=42 BODY=8bitMIME SMTPUTF8 RET=hdrs ENVID=a+2Bb";
    let Ok(Command::Mail(mail)) = parse(line) else { panic!() };
    assert_eq!(mail.parameters.size, Some(42));
    assert_eq!(mail.parameters.body, Some(BodyType::EightBitMime));
    assert!(mail.parameters.smtputf8);
    assert_eq!(mail.parameters.ret, Some(DsnReturn::Headers));
    assert_eq!(mail.parameters.envid.as_deref(), Some("a+b"));
    let line = b"RCPT TO:<a@b.test>  NOTIFY=delay,FAILURE ORCPT=RFC822;x+3Dy@z.test";
    let Ok(Command::Rcpt(RcptTo { recipient, international: false })) = parse(line) else { panic!() };
    assert_eq!(recipient.notify, Some(Notify { success: false, failure: true, delay: true }));
    let original = recipient.original.unwrap();
    assert_eq!((&*original.address_type, &*original.address), ("RFC822", "x=y@z.test"));
}

#[test]
fn bad_parameters_are_refused_for_what_is_wrong() {
    use ParameterError::{BinaryMime, Duplicate, Malformed, Unknown, Value};
    let long_envid = format!("ENVID={}", "x".repeat(101));
    let long_original = format!("ORCPT=rfc822;{}", "x".repeat(500));
    let mail = [
        ("XYZZY", Unknown),
        ("XYZZY=1", Unknown),
        ("NOTIFY=NEVER", Unknown),
        ("=1", Malformed),
        ("SIZE=", Malformed),
        ("SIZE=1=2", Malformed),
        ("-SIZE=1", Malformed),
        ("S\u{ef}ZE=1", Malformed),
        ("SIZE=1 SIZE=1", Duplicate),
        ("SMTPUTF8 smtputf8", Duplicate),
        ("SIZE", Value("SIZE")),
        ("SIZE=-1", Value("SIZE")),
        ("SIZE=1k", Value("SIZE")),
        ("SIZE=000000000000000000001", Value("SIZE")),
        ("BODY", Value("BODY")),
        ("BODY=8BIT", Value("BODY")),
        ("BODY=BINARYMIME", BinaryMime),
        ("SMTPUTF8=1", Value("SMTPUTF8")),
        ("RET=ALL", Value("RET")),
        ("ENVID=+0D+0A", Value("ENVID")),
        (&*long_envid, Value("ENVID")),
    ];
    for (text, wanted) in mail {
        let line = format!("MAIL FROM:<a@b.test> {text}");
        assert_eq!(parse(line.as_bytes()), Err(SyntaxError::Parameter(wanted)), "{text}");
    }
    let rcpt = [
        ("SIZE=1", Unknown),
        ("NOTIFY=NEVER,SUCCESS", Value("NOTIFY")),
        ("NOTIFY=SUCCESS,", Value("NOTIFY")),
        ("NOTIFY=SOON", Value("NOTIFY")),
        ("ORCPT=x", Value("ORCPT")),
        ("ORCPT=;x", Value("ORCPT")),
        ("ORCPT=rfc822;", Value("ORCPT")),
        ("ORCPT=rfc822;a+0Ab", Value("ORCPT")),
        ("ORCPT=r\"c;x", Value("ORCPT")),
        (&*long_original, Value("ORCPT")),
    ];
    for (text, wanted) in rcpt {
        let line = format!("RCPT TO:<a@b.test> {text}");
        assert_eq!(parse(line.as_bytes()), Err(SyntaxError::Parameter(wanted)), "{text}");
    }
}

/// Local parts as RFC 5321 4.1.2 builds them, short enough to be taken.
fn local_part() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,10}(\\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,10}){0,3}",
        "\"([ !#-\\[\\]-~]|\\\\[ -~]){0,20}\"",
        "[\u{e0}-\u{ff}a-z]{1,10}",
    ]
}

fn domain() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z0-9]{1,8}){0,3}",
        "\\[(25[0-5]|1[0-9]{2}|[1-9])(\\.(25[0-5]|1[0-9]{2}|[0-9])){3}\\]",
        "\\[ipv6:2001:db8::[1-9a-f]\\]",
    ]
}

proptest! {
    #[test]
    fn a_well_formed_address_reads_back_as_it_is_shown(local in local_part(), domain in domain()) {
        let text = format!("<{local}@{domain}>");
        let (mailbox, rest) = forward_path(&text).unwrap();
        prop_assert_eq!(rest, "");
        prop_assert_eq!(format!("<{mailbox}>"), text);
        prop_assert!(is_sendable(&mailbox));
    }

    #[test]
    fn no_line_makes_the_parser_panic(
        front in prop_oneof![Just("MAIL FROM:<"), Just("RCPT TO:<"), Just("RCPT TO:<a@b> ORCPT="), Just("BDAT "), Just("")],
        tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let line = [front.as_bytes(), &tail].concat();
        let _ = parse(&line);
    }

    #[test]
    fn whatever_is_taken_as_an_address_can_be_sent_on_one_line(text in "<[\\PC\"\\\\@.:<> ]{0,40}>") {
        if let Ok((mailbox, _)) = forward_path(&text) {
            prop_assert!(is_sendable(&mailbox));
            prop_assert!(!mailbox.to_string().contains(['\r', '\n', '\0']));
        }
    }
}
