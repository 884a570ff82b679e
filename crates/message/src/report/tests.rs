use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse_stored(text).unwrap()
}

fn report() -> Report {
    Report {
        host: Domain::new("mx.example.test").unwrap(),
        to: mailbox("sender@example.test"),
        id: "a-7-20".into(),
        about: "a-7-1f".into(),
        envid: Some("QQ314159".into()),
        smtputf8: false,
        arrived: WallTime(1_700_000_000_000),
        at: WallTime(1_700_000_060_000),
        recipients: vec![
            ReportedRecipient {
                address: mailbox("nobody@example.test"),
                original: Some(OriginalRecipient {
                    address_type: "rfc822".into(),
                    address: "alias@example.test".into(),
                }),
                reply: Some(Reply::from_peer(550, "5.1.1 no such user")),
                remote: Some("10.0.0.1:25".into()),
                action: Action::Failed,
            },
            ReportedRecipient {
                address: mailbox("slow@example.test"),
                original: None,
                reply: Some(Reply::from_peer(451, "4.3.0 later")),
                remote: None,
                action: Action::Expired,
            },
        ],
        returned: Returned::Headers(b"Subject: hello\r\nFrom: <sender@example.test>\r\n".to_vec()),
    }
}

#[test]
fn a_report_is_a_text_fields_and_the_header_of_the_message() {
    let text = String::from_utf8(report().to_bytes()).unwrap();
    expect![[r#"
        Date: Tue, 14 Nov 2023 22:14:20 +0000
        From: Mail Delivery System <MAILER-DAEMON@mx.example.test>
        To: <sender@example.test>
        Message-ID: <a-7-20@mx.example.test>
        Subject: Undelivered mail returned to sender
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="delivery-status";
         boundary="report-a-7-20"


        --report-a-7-20
        Content-Type: text/plain; charset="utf-8"
        Content-Transfer-Encoding: 7bit

        This is the mail system at mx.example.test.

        Your message a-7-1f of Tue, 14 Nov 2023 22:13:20 +0000
        could not be delivered to everybody. It will not be tried again for:

        <nobody@example.test>: was refused
          10.0.0.1:25 said: 550 5.1.1 no such user

        <slow@example.test>: could not be delivered in time
          said: 451 4.3.0 later


        --report-a-7-20
        Content-Type: message/delivery-status
        Content-Transfer-Encoding: 7bit

        Original-Envelope-Id: QQ314159
        Reporting-MTA: dns;mx.example.test
        Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000

        Original-Recipient: rfc822;alias@example.test
        Final-Recipient: rfc822;nobody@example.test
        Action: failed
        Status: 5.1.1
        Remote-MTA: dns;10.0.0.1:25
        Diagnostic-Code: smtp;550 5.1.1 no such user

        Final-Recipient: rfc822;slow@example.test
        Action: failed
        Status: 4.4.7
        Diagnostic-Code: smtp;451 4.3.0 later

        --report-a-7-20
        Content-Type: text/rfc822-headers
        Content-Transfer-Encoding: 7bit

        Subject: hello
        From: <sender@example.test>

        --report-a-7-20--
    "#]]
    .assert_eq(&text.replace("\r\n", "\n"));
}

#[test]
fn a_message_outside_ascii_is_returned_unchanged() {
    let original = "Subject: grüße\r\n\r\nhällo\r\n.\r\n";
    let report = Report { returned: Returned::Full(original.into()), ..report() };
    let bytes = report.to_bytes();
    let text = String::from_utf8(bytes).unwrap();
    let (_, part) = text.split_once("Content-Type: message/rfc822\r\n").unwrap();
    let part = part.strip_prefix("Content-Transfer-Encoding: 8bit\r\n\r\n").unwrap();
    assert!(part.starts_with(original), "{part}");
}

#[test]
fn an_international_address_is_reported_in_ascii() {
    let mut report = report();
    report.smtputf8 = true;
    report.recipients[1].address = mailbox("jürgen@example.test");
    let text = String::from_utf8(report.to_bytes()).unwrap();
    assert!(text.contains("Final-Recipient: utf-8;j\\x{FC}rgen@example.test\r\n"), "{text}");
    assert!(text.contains("Content-Type: message/global-headers\r\n"), "{text}");
}

fn line_ends_are_whole(bytes: &[u8]) -> bool {
    let mut before = 0;
    for byte in bytes {
        if (before == b'\r') != (*byte == b'\n') {
            return false;
        }
        before = *byte;
    }
    before == b'\n'
}

proptest! {
    #[test]
    fn whatever_a_host_says_only_crlf_ends_a_line(
        said in any::<String>(),
        host in any::<String>(),
        id in any::<String>(),
        code in 0..1000u16,
    ) {
        let mut report = report();
        report.recipients[0].reply = Some(Reply::from_peer(code, &said));
        report.recipients[0].remote = Some(host);
        report.envid = Some(id.into());
        let bytes = report.to_bytes();
        prop_assert!(line_ends_are_whole(&bytes));
        prop_assert!(bytes.split(|b| *b == b'\n').all(|line| line.len() <= 998));
        prop_assert!(bytes.is_ascii());
    }
}
