//! What a sender is told (RFC 3461, RFC 3464), as dialogues: a client leaves a message with a `switch`, and a report comes to the
//! sender's mail host, or none. The marks are those of `tests/conformance/README.md`.
//!
//! Every case has a sender of its own. The recipients' hosts do as their names say: at `far.test`, which does not offer DSN,
//! `none` and `nobody` are refused and `slow` ones put off; `dsn.test` offers it; `refusing.test` refuses content.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use daemon_kit::SystemClock;
use rig::{Behaviour, Extensions, Rule, Sink, SinkOptions, Stage};
use tests::postfix::free_address;

use super::script::{self, Case, Part, Step};
use super::server::Server;
use super::{PATIENCE, Talk};

/// A report, taken apart.
#[derive(Debug)]
struct Report {
    header: String,
    /// The fields of each group, unfolded; those about the message first.
    groups: Vec<Vec<String>>,
    returned_kind: String,
    returned: String,
}

/// Lines with those that continue them.
fn unfolded(text: &str) -> String {
    text.replace("\r\n ", " ").replace("\r\n\t", " ")
}

fn values<'a>(group: &'a [String], name: &str) -> Vec<&'a str> {
    let front = format!("{name}: ");
    group.iter().filter_map(|line| line.strip_prefix(&front)).collect()
}

impl Report {
    /// Takes it apart, and looks for what must be in every report. RFC 3464 2, 2.1, 2.2.2, 2.3.2, 2.3.3, 2.3.4.
    fn read(content: &str) -> Result<Self, String> {
        let (header, body) = content.split_once("\r\n\r\n").ok_or("no body")?;
        let header = unfolded(header);
        let kind = header.lines().find_map(|line| line.strip_prefix("Content-Type: ")).ok_or("no type")?;
        if !kind.starts_with("multipart/report;") || !kind.contains("report-type=\"delivery-status\"") {
            return Err(format!("not a report of delivery: {kind}"));
        }
        let boundary = kind.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next());
        let front = format!("--{}\r\n", boundary.ok_or("no boundary")?);
        let end = format!("\r\n--{}--", boundary.unwrap());
        let (body, _) = body.split_once(&end).ok_or("no last boundary")?;
        let parts: Vec<&str> = body.split(&front).skip(1).collect();
        let [text, status, returned] = parts[..] else { return Err(format!("{} parts", parts.len())) };
        let taken = |part: &str| {
            let (header, body) = part.split_once("\r\n\r\n").ok_or_else(|| format!("no part: {part}"))?;
            let header = unfolded(header);
            let kind = header.lines().find_map(|line| line.strip_prefix("Content-Type: "));
            Ok::<_, String>((kind.unwrap_or_default().to_owned(), body.to_owned()))
        };
        let (kind, _) = taken(text)?;
        if !kind.starts_with("text/plain") {
            return Err(format!("nothing for people comes first: {kind}"));
        }
        let (kind, fields) = taken(status)?;
        if kind != "message/delivery-status" || !fields.is_ascii() {
            return Err(format!("the second part is {kind}: {fields}"));
        }
        let group = |text: &str| unfolded(text).lines().map(str::to_owned).collect::<Vec<_>>();
        let groups: Vec<_> = fields.trim_end().split("\r\n\r\n").map(group).collect();
        let (returned_kind, returned) = taken(returned)?;
        let report = Self { header, groups, returned_kind, returned };
        report.is_whole().map(|()| report)
    }

    fn is_whole(&self) -> Result<(), String> {
        let [message, recipients @ ..] = &self.groups[..] else { return Err("no fields".to_owned()) };
        if values(message, "Reporting-MTA").len() != 1 || recipients.is_empty() {
            return Err(format!("not whole: {:?}", self.groups));
        }
        for recipient in recipients {
            let one = |name: &str| match values(recipient, name)[..] {
                [value] => Ok(value),
                _ => Err(format!("not one {name}: {recipient:?}")),
            };
            one("Final-Recipient")?;
            let (action, status) = (one("Action")?, one("Status")?);
            let classes = match action {
                "failed" => "45",
                "delayed" => "4",
                "relayed" | "delivered" | "expanded" => "2",
                other => return Err(format!("no action: {other}")),
            };
            if !super::is_status(status) || !classes.contains(&status[..1]) {
                return Err(format!("{status} is no status of {action}"));
            }
        }
        Ok(())
    }

    fn has(&self, part: Part, wanted: &str) -> bool {
        let begins = |line: &str| line.starts_with(wanted);
        match part {
            Part::Header => self.header.lines().any(begins),
            Part::Message => self.groups[0].iter().any(|line| begins(line)),
            Part::Recipient => self.groups[1..].iter().flatten().any(|line| begins(line)),
            Part::Returned => self.returned.lines().any(begins),
        }
    }
}

struct Scene {
    server: Server,
    health: SocketAddr,
    senders: Sink,
    _hosts: [Sink; 3],
}

fn host(extensions: Extensions, rules: Vec<Rule>) -> Sink {
    let behaviour = Behaviour { extensions, rules, ..Behaviour::default() };
    let options = SinkOptions::new(Arc::new(SystemClock));
    Sink::start(SinkOptions { behaviour, keep_bytes_max: 1 << 20, ..options }).unwrap()
}

impl Scene {
    async fn new() -> Self {
        let refused =
            |name: &str, text: &str| Rule::at(Stage::Recipient).for_local_part(name).reply(550, text);
        let far = host(
            Extensions { dsn: false, ..Extensions::default() },
            vec![
                refused("none*", "5.1.1 no such user"),
                refused("nobody", "5.1.1 no such user"),
                refused("bare", "go away"),
                Rule::at(Stage::Recipient).for_local_part("slow*").reply(450, "4.2.1 later"),
            ],
        );
        let content = Rule::at(Stage::FinalDot).reply(554, "5.6.0 not this content");
        let refusing = host(Extensions::default(), vec![content]);
        let (dsn, senders) =
            (host(Extensions::default(), Vec::new()), host(Extensions::default(), Vec::new()));
        let health = free_address().unwrap();
        let routes = format!(
            "routes:\n  - {{ match: far.test, next_hop: \"{}\" }}\n  - {{ match: refusing.test, next_hop: \"{}\" }}\n  \
             - {{ match: dsn.test, next_hop: \"{}\" }}\n  - {{ match: sender.test, next_hop: \"{}\" }}\n\
             retry: {{ first: 500ms, max: 5s, lifetime: 1h, warn: 1s }}\nhealth: {{ address: \"{health}\" }}\n",
            far.address(),
            refusing.address(),
            dsn.address(),
            senders.address(),
        );
        let server = Server::switch_with(&routes).await;
        Self { server, health, senders, _hosts: [far, refusing, dsn] }
    }

    /// The reports that came to a sender.
    fn reports(&self, sender: &str) -> Result<Vec<Report>, String> {
        let mut reports = Vec::new();
        for delivery in self.senders.deliveries().iter().filter(|one| one.recipients == [sender]) {
            // RFC 3464 2: no report is ever about a report.
            if !delivery.reverse_path.is_empty() {
                return Err(format!("a report from {}", delivery.reverse_path));
            }
            let content = delivery.content.clone().unwrap_or_default();
            reports.push(Report::read(&String::from_utf8_lossy(&content))?);
        }
        Ok(reports)
    }

    /// True if nothing waits in the queue, reports included.
    fn is_empty(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(self.health)?;
            stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        ask().is_ok_and(|text| text.contains("\"queue\":0,"))
    }

    async fn until<T>(&self, what: &str, holds: impl Fn() -> Result<Option<T>, String>) -> Result<T, String> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(found) = holds()? {
                return Ok(found);
            }
            if begun.elapsed() > 4 * PATIENCE {
                return Err(format!("not within {:?}: {what}", 4 * PATIENCE));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn run(&self, case: &Case, sender: &str) -> Result<(), String> {
        let mut talk = Talk::begin(&self.server, case).await?;
        let mut report = None;
        for (place, step) in case.steps.iter().enumerate() {
            let done = self.act(&mut talk, step, sender, &mut report).await;
            done.map_err(|what| format!("step {}: {what}", place + 1))?;
        }
        Ok(())
    }

    async fn act(
        &self,
        talk: &mut Talk<'_>,
        step: &Step,
        sender: &str,
        report: &mut Option<Report>,
    ) -> Result<(), String> {
        let came = |report: &Option<Report>, holds: &dyn Fn(&Report) -> bool, what: &str| match report {
            Some(report) if holds(report) => Ok(()),
            _ => Err(format!("{what}: {report:?}")),
        };
        match step {
            Step::Send(bytes) => {
                // Nothing but the sender's name is replaced, so other octets pass as they are.
                let name = b"SENDER";
                match bytes.windows(name.len()).position(|part| part == name) {
                    Some(at) => {
                        let rest = &bytes[at + name.len()..];
                        talk.send(&[&bytes[..at], sender.as_bytes(), rest].concat()).await
                    }
                    None => talk.send(bytes).await,
                }
            }
            Step::Told(action) => {
                let line = format!("Action: {action}");
                let find = || {
                    let reports = self.reports(sender)?;
                    Ok(reports.into_iter().find(|report| report.has(Part::Recipient, &line)))
                };
                *report = Some(self.until(&format!("a report of what {action}"), find).await?);
                Ok(())
            }
            Step::Untold => {
                self.until("the queue is empty", || Ok(self.is_empty().then_some(()))).await?;
                let reports = self.reports(sender)?;
                if reports.is_empty() { Ok(()) } else { Err(format!("told: {reports:?}")) }
            }
            Step::Groups(count) => {
                came(report, &|one| one.groups.len() == count + 1, "not so many recipients")
            }
            Step::Returned(kind) => {
                came(report, &|one| one.returned_kind == *kind, "another kind is returned")
            }
            Step::Line(Part::Header, line) => {
                let line = line.replace("SENDER", sender);
                came(report, &|one| one.has(Part::Header, &line), "not there")
            }
            Step::Line(part, line) => came(report, &|one| one.has(*part, line), "not there"),
            Step::NoLine(part, line) => came(report, &|one| !one.has(*part, line), "there"),
            Step::Reply(_)
            | Step::Repeat(..)
            | Step::Has(_)
            | Step::HasNot(_)
            | Step::HandShake
            | Step::Closed
            | Step::Leave => talk.act(step).await,
        }
    }
}

async fn all(folder: &str, at_least: usize) {
    let cases = script::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    assert!(cases.len() >= at_least, "the dialogues are there");
    let scene = Scene::new().await;
    let mut wrong = Vec::new();
    for (number, case) in (1..).zip(&cases) {
        assert!(case.rule.starts_with("RFC ") && !case.steps.is_empty(), "{} cites a rule", case.name);
        let outcome = scene.run(case, &format!("s{number}@sender.test")).await;
        wrong.extend(outcome.err().map(|what| format!("{} ({}): {what}", case.name, case.rule)));
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n"),
        scene.server.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_is_told_what_he_asked_to_be_told_in_every_dialogue() {
    all("conformance/reports", 15).await;
}

/// Late mail is looked for every 20 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_is_told_of_a_delay() {
    all("conformance/reports/late", 1).await;
}
