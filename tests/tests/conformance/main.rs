//! What a client can see of the rules of SMTP: the same dialogues over the wire against a `switch` and against a Postfix.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it, in its helpers too"
)]

mod reports;
mod script;
mod server;

use std::path::Path;
use std::time::Duration;

use rig::{Answer, Dialogue};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use script::{Case, Start, Step, Wanted};
use server::Server;

const PATIENCE: Duration = Duration::from_secs(10);

/// A socket, or TLS over one.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

fn over(stream: impl Stream + 'static) -> Dialogue<Box<dyn Stream>> {
    Dialogue::over(Box::new(stream), PATIENCE)
}

/// The dialogue of one case.
struct Talk<'a> {
    server: &'a Server,
    client: Dialogue<Box<dyn Stream>>,
    last: Option<Answer>,
    /// The last thing said was EHLO or HELO, whose reply bears no enhanced status.
    hello: bool,
}

impl<'a> Talk<'a> {
    async fn begin(server: &'a Server, case: &Case) -> Result<Self, String> {
        let address = match case.start {
            Start::Bare | Start::Hello => server.address,
            Start::SubmissionInClear | Start::Submission => server.submission,
        };
        let client = Dialogue::connect(address, PATIENCE).await.map_err(|e| e.to_string())?;
        let mut talk = Self { server, client: over(client.into_stream()), last: None, hello: true };
        talk.reply(&Wanted::from("220")).await?;
        if case.start != Start::Bare {
            talk.hello().await?;
        }
        if case.start == Start::Submission {
            talk.send(b"STARTTLS\r\n").await?;
            talk.reply(&Wanted::from("220")).await?;
            talk.shake_hands().await?;
            talk.hello().await?;
        }
        Ok(talk)
    }

    async fn hello(&mut self) -> Result<(), String> {
        self.send(b"EHLO client.test\r\n").await?;
        self.reply(&Wanted::from("250")).await
    }

    async fn shake_hands(&mut self) -> Result<(), String> {
        let clear = std::mem::replace(&mut self.client, over(tokio::io::empty())).into_stream();
        let name = ServerName::try_from(server::NAME).unwrap();
        let secured = TlsConnector::from(self.server.trusted()).connect(name, clear).await;
        self.client = over(secured.map_err(|error| format!("no TLS: {error}"))?);
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let front = bytes.get(..4).unwrap_or_default().to_ascii_uppercase();
        self.hello = matches!(&*front, b"EHLO" | b"HELO");
        self.client.send(bytes).await.map_err(|e| e.to_string())
    }

    async fn reply(&mut self, wanted: &Wanted) -> Result<(), String> {
        let got = self.client.reply().await.map_err(|e| format!("wanted {wanted}, got: {e}"))?;
        let shown = format!("{} {}", got.code, got.lines.join(" / "));
        if !wanted.fits(got.code, got.text()) {
            return Err(format!("wanted {wanted}, got {shown}"));
        }
        // RFC 2034 4: every 2yz, 4yz and 5yz but those to EHLO and HELO, and its class is that of the code.
        let class = got.code.to_string().chars().next().unwrap_or_default();
        let enhanced = |line: &String| {
            line.starts_with(&format!("{class}.")) && line.split(' ').next().is_some_and(is_status)
        };
        if !self.hello && class != '3' && !got.lines.iter().all(enhanced) {
            return Err(format!("no enhanced status of its class: {shown}"));
        }
        self.last = Some(got);
        Ok(())
    }

    async fn act(&mut self, step: &Step) -> Result<(), String> {
        let lines = self.last.as_ref().map(|last| last.lines.join("\n")).unwrap_or_default();
        let has = |keyword: &str| lines.lines().any(|line| line.starts_with(keyword));
        match step {
            Step::Send(bytes) => self.send(bytes).await,
            Step::Reply(wanted) => self.reply(wanted).await,
            Step::Repeat(count, bytes, wanted) => {
                for _ in 0..*count {
                    self.send(bytes).await?;
                    self.reply(wanted).await?;
                }
                Ok(())
            }
            Step::Has(keyword) if !has(keyword) => Err(format!("no {keyword} in {lines}")),
            Step::HasNot(keyword) if has(keyword) => Err(format!("{keyword} in {lines}")),
            Step::Has(_) | Step::HasNot(_) | Step::Leave => Ok(()),
            Step::HandShake => self.shake_hands().await,
            Step::Closed => self.client.closed().await.map_err(|e| e.to_string()),
            Step::Told(_)
            | Step::Untold
            | Step::Groups(_)
            | Step::Returned(_)
            | Step::Line(..)
            | Step::NoLine(..) => Err("only cases of reports/ have a sender who is told".to_owned()),
        }
    }
}

/// `2.1.5`: three numbers.
fn is_status(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

async fn run(server: &Server, case: &Case) -> Result<(), String> {
    let mut talk = Talk::begin(server, case).await?;
    for (place, step) in case.steps.iter().enumerate() {
        talk.act(step).await.map_err(|what| format!("step {}: {what}", place + 1))?;
    }
    Ok(())
}

/// What went otherwise than wanted, by case.
async fn all(server: &mut Server, cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let outcome = run(server, case).await;
        let differs = case.difference.as_deref().filter(|_| server.is_postfix());
        match (outcome, differs) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(reason)) => wrong.push(format!("{}: no difference any more: {reason}", case.name)),
            (Err(what), None) => wrong.push(format!("{} ({}): {what}", case.name, case.rule)),
        }
        assert!(server.lives(), "dead after {}", case.name);
    }
    wrong
}

fn cases() -> Vec<Case> {
    let cases = script::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
    assert!(cases.len() >= 80, "the dialogues are there");
    for case in &cases {
        assert!(case.rule.starts_with("RFC ") && !case.steps.is_empty(), "{} cites a rule", case.name);
        assert_eq!(cases.iter().filter(|other| other.name == case.name).count(), 1, "{}", case.name);
    }
    cases
}

#[tokio::test]
async fn a_switch_keeps_every_rule_of_every_dialogue() {
    let cases = cases();
    let mut server = Server::switch().await;
    let wrong = all(&mut server, &cases).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}\n{}", wrong.len(), cases.len(), wrong.join("\n"), server.log());
    let log = server.log();
    assert!(!log.contains(" ERROR ") && !log.contains(" WARN "), "{log}");
}

#[tokio::test]
async fn postfix_keeps_them_too_but_for_the_differences_named() {
    let cases = cases();
    let Some(mut server) = Server::postfix().await else {
        eprintln!("skipped: needs root, postfix and dovecot");
        return;
    };
    let wrong = all(&mut server, &cases).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
