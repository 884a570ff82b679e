//! Mail of every kind between a switch and programs that others wrote, both ways, unchanged: swaks, msmtp, Python's smtplib, Exim,
//! Postfix.
//! (Dovecot's LMTP: `switch/tests/process/lmtp.rs`.)

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it, in its helpers too"
)]

mod exim;
mod mail;
mod postfix;
mod site;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mail::{Mail, kinds};
use site::{Peer, Site, TO_PEER, TO_SWITCH};

/// What the sink has of `mail`, which came to it with every octet.
async fn arrived(site: &Site, mail: &Mail, recipient: &str, declared: bool) -> String {
    let header = site.header_above(recipient, &mail.content).await;
    let delivery = site.delivery(recipient);
    assert_eq!(delivery.reverse_path, mail.sender, "{header}");
    let parameters = delivery.mail_parameters;
    assert_eq!(parameters.contains("SMTPUTF8"), mail.international, "{parameters}");
    assert_eq!(parameters.contains("BODY=8BITMIME"), declared, "{parameters}");
    header
}

/// Every kind of mail through the switch to the peer, and through the peer to the switch, under TLS both ways.
async fn both_ways(site: &Site, peer: &dyn Peer) {
    for mail in kinds() {
        let recipient = mail.recipient(TO_PEER);
        mail.submit(site.address(), &recipient).await;
        let header = arrived(site, &mail, &recipient, peer.declares_eight_bits()).await;
        assert!(header.to_ascii_lowercase().replace("tlsv", "tls").contains("tls1.3"), "in clear: {header}");

        let recipient = mail.recipient(TO_SWITCH);
        mail.submit(peer.address(), &recipient).await;
        let header = arrived(site, &mail, &recipient, peer.declares_eight_bits()).await;
        let protocol = if mail.international { "with UTF8SMTPS id" } else { "with ESMTPS id" };
        assert!(header.contains(&format!("by {} {protocol}", site::NAME)), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_takes_every_kind_of_mail_from_a_switch_and_hands_it_every_kind() {
    let mut site = Site::new();
    let Some(exim) = exim::Exim::start(&site) else { return };
    site.start(exim.address()).await;
    both_ways(&site, &exim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_every_kind_of_mail_from_a_switch_and_hands_it_every_kind() {
    let mut site = Site::new();
    let Some(postfix) = postfix::Relay::start(&site) else { return };
    site.start(postfix.address()).await;
    both_ways(&site, &postfix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postfix_that_takes_mail_of_its_users_only_knows_the_switch_by_every_mechanism() {
    for mechanism in ["scram-sha-256", "plain", "login"] {
        let mut site = Site::new();
        let Some(postfix) = postfix::Submission::start(&site) else { return };
        let (user, to) = (site::USER, format!("{mechanism}@{TO_PEER}"));
        let auth =
            format!("tls: encrypt, auth: {{ user: {user}, password: secret, mechanism: {mechanism} }}");
        site.start_with(postfix.address, &auth).await;
        let mail = kinds().into_iter().next().unwrap();
        mail.submit(site.address(), &to).await;
        let header = site.header_above(&to, &mail.content).await;
        assert!(header.contains(&format!("Authenticated sender: {user}")), "{mechanism}: {header}");
    }
}

/// Runs a client with something on its standard input.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().ok();
    output
}

fn succeeds(program: &str, arguments: &[&str], input: &[u8]) {
    let output = run(program, arguments, input);
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.chars().rev().take(3_000).collect::<Vec<_>>().into_iter().rev().collect::<String>()
    };
    assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn swaks_sends_under_tls_and_as_a_user() {
    let has_tls = || Command::new("perl").args(["-MNet::SSLeay", "-e", "1"]).stderr(Stdio::null()).status();
    if !Path::new("/usr/bin/swaks").exists() || !has_tls().is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs the Debian packages swaks and libnet-ssleay-perl");
        return;
    }
    let mut site = Site::new();
    site.start(site.sink_address()).await;
    let file = site.path().join("message");
    for (number, mail) in kinds().into_iter().filter(|mail| !mail.international).enumerate() {
        // It ends the last line itself.
        std::fs::write(&file, mail.content.strip_suffix(b"\r\n").unwrap()).unwrap();
        let to = format!("swaks-{number}@{TO_PEER}");
        let (server, data) = (site.address().to_string(), format!("@{}", file.display()));
        let known = ["--server", &server, "--from", &mail.sender, "--to", &to, "--data", &data];
        let with = |more: &[&'static str]| [&known[..], more].concat();
        succeeds("swaks", &with(&["--tls", "--pipeline", "--suppress-data"]), b"");
        site.header_above(&to, &mail.content).await;
    }
    let (server, to) = (site.submission().to_string(), format!("as-a-user@{TO_SWITCH}"));
    for mechanism in ["PLAIN", "LOGIN"] {
        let from = format!("{}@{TO_SWITCH}", site::USER);
        let login = ["--auth", mechanism, "--auth-user", &from, "--auth-password", "secret"];
        let known = ["--server", &server, "--tls", "--from", &from, "--to", &to];
        succeeds("swaks", &[&known[..], &login].concat(), b"");
        let wrong = ["--auth", mechanism, "--auth-user", &from, "--auth-password", "wrong"];
        let refused = run("swaks", &[&known[..], &wrong].concat(), b"");
        assert_eq!(refused.status.code(), Some(28), "{}", String::from_utf8_lossy(&refused.stdout));
    }
    site.count(&to, 2).await;
}

/// A client of SCRAM-SHA-256 by GNU SASL.
#[tokio::test(flavor = "multi_thread")]
async fn msmtp_sends_as_a_user_by_every_mechanism_under_tls_it_verifies() {
    if !Path::new("/usr/bin/msmtp").exists() {
        eprintln!("skipped: needs the Debian package msmtp");
        return;
    }
    let mut site = Site::new();
    site.start(site.sink_address()).await;
    let (port, from) = (site.submission().port(), format!("{}@{TO_SWITCH}", site::USER));
    let (roots, content) = (site.path().join("cert.pem"), b"Subject: hi\n\nhello\n");
    for mechanism in ["scram-sha-256", "plain", "login"] {
        let to = format!("{mechanism}@{TO_SWITCH}");
        let arguments = |password: &str| {
            let known = format!(
                "--file=/dev/null --host=127.0.0.1 --port={port} --tls=on --tls-trust-file={} --tls-host-override={} --auth={mechanism} \
                 --user={from} --from={from}",
                roots.display(),
                site::NAME
            );
            let mut all: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
            all.extend([format!("--passwordeval=echo {password}"), to.clone()]);
            all
        };
        let with = |password: &str| {
            let arguments = arguments(password);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run("msmtp", &arguments, content)
        };
        let sent = with("secret");
        assert!(sent.status.success(), "{mechanism}: {}", String::from_utf8_lossy(&sent.stderr));
        site.count(&to, 1).await;
        let refused = String::from_utf8_lossy(&with("wrong").stderr).into_owned();
        assert!(refused.contains("535 5.7.8"), "{mechanism}: {refused}");
    }
}

const SMTPLIB: &str = "
import smtplib, ssl, sys
host, port, certificate, sender, recipient, options = sys.argv[1:7]
context = ssl.create_default_context(cafile=certificate)
with smtplib.SMTP(host, int(port), timeout=60) as client:
    client._host = 'mx.example.test'
    client.starttls(context=context)
    client.ehlo()
    for extension in ('size', 'pipelining', '8bitmime', 'smtputf8', 'dsn', 'chunking', 'enhancedstatuscodes'):
        assert client.has_extn(extension), extension
    client.sendmail(sender, [recipient], open(sys.argv[7], 'rb').read(), mail_options=options.split())
    try:
        client.sendmail(sender, ['somebody@elsewhere.invalid'], b'Subject: x\\r\\n', mail_options=options.split())
        raise SystemExit('an open relay')
    except smtplib.SMTPRecipientsRefused as refused:
        assert refused.recipients['somebody@elsewhere.invalid'][0] == 550, refused
    assert client.noop()[0] == 250
";

#[tokio::test(flavor = "multi_thread")]
async fn pythons_smtplib_sends_every_kind_under_tls_it_verifies() {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("skipped: needs the Debian package python3");
        return;
    }
    let mut site = Site::new();
    site.start(site.sink_address()).await;
    let (file, certificate) = (site.path().join("message"), site.path().join("cert.pem"));
    for mail in kinds() {
        std::fs::write(&file, &mail.content).unwrap();
        let recipient = mail.recipient(TO_PEER);
        let options = if mail.international { "BODY=8BITMIME SMTPUTF8" } else { "BODY=8BITMIME" };
        let (host, port) = (site.address().ip().to_string(), site.address().port().to_string());
        let known = ["-", &host, &port, certificate.to_str().unwrap(), &mail.sender, &recipient];
        let arguments = [&known[..], &[options, file.to_str().unwrap()]].concat();
        succeeds("/usr/bin/python3", &arguments, SMTPLIB.as_bytes());
        arrived(&site, &mail, &recipient, true).await;
    }
}

/// Where a peer of this machine is told to listen.
fn free() -> SocketAddr {
    tests::postfix::free_address().unwrap()
}
