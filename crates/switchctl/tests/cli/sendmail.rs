//! The names `sendmail` and `mailq`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use control::maildrop;
use control::switch::Verb;
use mail_model::ReversePath;

use super::operate::serve;
use super::{Run, Site, fill};

/// Runs this program under another name, with something on its standard input.
fn called(site: &Site, name: &str, arguments: &[&str], input: &str) -> Run {
    let link = site.path(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_switchctl"), &link).ok();
    let mut command = Command::new(&link);
    command.arg("-C").arg(site.path("m.yaml")).args(arguments);
    Run::fed(&mut command, input)
}

#[test]
fn sendmail_leaves_a_whole_message_while_no_switch_runs() {
    let site = Site::new();
    let text = "To: a@x.test, b\nBcc: c@x.test\nSubject: s\n\nline\n.\nnot this\n";
    let early = called(&site, "sendmail", &["-t"], text);
    assert_eq!(early.code, 75, "{}", early.err);
    assert!(early.err.contains("was this node's switch ever started?"), "{}", early.err);
    let drop = maildrop::directory(&site.path("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let run = called(&site, "sendmail", &["-t", "-f", "me@a.test", "-F", "Me", "-odb", "d@x.test"], text);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{}", run.err);
    let slots = maildrop::slots(&drop).unwrap();
    let mut left = slots.first().unwrap().open().unwrap();
    let (from, to) = left.letter.addresses().unwrap();
    assert_eq!(from, ReversePath::Mailbox(mail_model::Mailbox::parse_stored("me@a.test").unwrap()));
    let to: Vec<String> = to.iter().map(ToString::to_string).collect();
    assert_eq!((to.len(), to.first().unwrap().as_str()), (4, "d@x.test"));
    assert!(to.iter().any(|address| address.starts_with("b@")), "{to:?}");
    let mut content = String::new();
    std::io::Read::read_to_string(&mut left.content, &mut content).unwrap();
    assert!(content.contains("From: \"Me\" <me@a.test>\r\n") && !content.contains("c@x.test"), "{content}");
    assert!(content.ends_with("\r\n\r\nline\r\n"), "{content}");
    let wishes = ["-N", "success,failure", "-Rhdrs", "-V", "id 1", "a@x.test"];
    let wishing = called(&site, "sendmail", &wishes, text);
    assert_eq!(wishing.code, 0, "{}", wishing.err);
    let slots = maildrop::slots(&drop).unwrap();
    let letter = slots.last().unwrap().open().unwrap().letter;
    let said = letter.wishes();
    assert_eq!(
        (said.notify.as_deref(), said.ret.as_deref(), said.envid.as_deref()),
        (Some("success,failure"), Some("hdrs"), Some("id 1"))
    );
    let null = called(&site, "sendmail", &["-i", "-f", "<>", "a@x.test"], text);
    assert_eq!(null.code, 0, "{}", null.err);
}

#[test]
fn sendmail_refuses_with_the_exit_codes_that_its_callers_know() {
    let site = Site::new();
    std::fs::create_dir_all(maildrop::directory(&site.path("state"))).unwrap();
    for (arguments, code) in [
        (&["-t"][..], 64),
        (&[], 64),
        (&["-bx", "a@x.test"], 64),
        (&["-Z", "a@x.test"], 64),
        (&["-N", "sometimes", "a@x.test"], 64),
        (&["-R", "half", "a@x.test"], 64),
        (&["no one@x.test@"], 65),
        (&["-bi"], 0),
    ] {
        let run = called(&site, "sendmail", arguments, "Subject: s\n\ntext\n");
        assert_eq!(run.code, code, "{arguments:?}: {}", run.err);
        assert!(code == 0 || !run.err.is_empty(), "{arguments:?}");
    }
    std::fs::write(site.path("m.yaml"), "nothing: right\n").unwrap();
    assert_eq!(called(&site, "sendmail", &["a@x.test"], "text\n").code, 78);
    assert!(maildrop::slots(&maildrop::directory(&site.path("state"))).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mailq_lists_what_waits_as_it_always_has() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let run = called(&site, "mailq", &[], "");
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("-Queue ID-") && run.out.contains("(450 4.2.0 not now)"), "{}", run.out);
    assert!(run.out.ends_with("-- 1 Kbytes in 2 Requests.\n"), "{}", run.out);
    assert_eq!(called(&site, "sendmail", &["-bp"], "").out, run.out);
}

/// Said all at once, as a program does that reads the answers later.
const DIALOGUE: &str = "EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<\u{e9}@x.test>\r\n\
    RCPT TO:<c@x.test>\r\nDATA\r\nSubject: one\r\n\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n\
    Subject: two\r\n\r\nhalf of it is not enou";

#[test]
fn smtp_is_spoken_while_no_switch_runs_and_what_is_taken_lies_in_the_maildrop() {
    let site = Site::new();
    let early = called(&site, "sendmail", &["-bs"], DIALOGUE);
    assert!(early.out.contains("\r\n451 4.3.0 cannot leave the message in"), "{}", early.out);
    let drop = maildrop::directory(&site.path("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let run = called(&site, "sendmail", &["-bs"], DIALOGUE);
    assert_eq!(run.code, 0, "{}", run.err);
    let codes: Vec<&str> = run.out.lines().filter(|l| l.as_bytes()[3] == b' ').map(|l| &l[..3]).collect();
    assert_eq!(
        codes,
        ["220", "250", "250", "250", "553", "250", "354", "250", "250", "250", "354"],
        "{}",
        run.out
    );
    assert!(!run.out.contains("DSN") && run.out.contains("SMTPUTF8"), "{}", run.out);
    let slots = maildrop::slots(&drop).unwrap();
    assert_eq!(slots.len(), 1, "half a message is none");
    let mut left = slots.first().unwrap().open().unwrap();
    let (from, to) = left.letter.addresses().unwrap();
    assert_eq!((from.to_string(), to.len()), ("a@client.test".to_owned(), 2));
    let mut content = String::new();
    std::io::Read::read_to_string(&mut left.content, &mut content).unwrap();
    assert_eq!(content, "Subject: one\r\n\r\n.dot\r\n");
    assert!(run.out.contains(&format!("queued as {}", slots.first().unwrap().name())), "{}", run.out);
    let quit = called(&site, "sendmail", &["-bs"], "QUIT\r\nNOOP\r\n");
    assert!(quit.code == 0 && quit.out.lines().count() == 2 && quit.out.contains("\r\n221 "), "{}", quit.out);
}

#[test]
fn smtp_is_spoken_with_the_switch_while_one_runs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let text = std::fs::read_to_string(site.path("m.yaml")).unwrap();
    let text = text.replace("127.0.0.1:2525", &listener.local_addr().unwrap().to_string());
    std::fs::write(site.path("m.yaml"), text).unwrap();
    let switch = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        stream.get_mut().write_all(b"220 here\r\n").unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(b"221 bye\r\n").unwrap();
        line
    });
    let run = called(&site, "sendmail", &["-bs"], "QUIT\r\n");
    assert_eq!((run.code, run.out.as_str()), (0, "220 here\r\n221 bye\r\n"), "{}", run.err);
    assert_eq!(switch.join().unwrap(), "QUIT\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_tries_again_what_waits() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let down = called(&site, "sendmail", &["-q"], "");
    assert_eq!(down.code, 75, "{}", down.err);
    let orders = serve(&site);
    assert_eq!(called(&site, "sendmail", &["-q"], "").code, 0);
    let (verb, ids, reason) = orders.lock().unwrap().pop().unwrap();
    assert_eq!((verb, ids), (Verb::Retry, vec!["a-1-2".to_owned(), "a-1-3".to_owned()]));
    assert!(reason.ends_with("sendmail -q"), "{reason}");
}
