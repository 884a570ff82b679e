//! What domains publish about their mail, as dialogues (`tests/conformance/domains`), with a real name server, a real web server
//! and three mail hosts: one with TLS and a certificate for its name, one without TLS, one with a certificate of somebody else.
//!
//! Every case has a domain of its own in one zone, so that one switch serves them all.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use rig::{Sink, SinkOptions};

use crate::certificates;
use crate::front::{Front, Manner};
use crate::name_server::NameServer;
use crate::site::{Config, Running, Site, clock, say, until};
use crate::web::{Web, page};

/// A line of a case; the marks are those of `tests/conformance/README.md`.
#[derive(Debug)]
enum Step {
    /// `C:`, by a stranger.
    Said(String),
    /// `S:`
    Answered(String),
    /// `M:`, by a client that is trusted.
    Mail(String),
    /// `W:`, of the last recipient.
    Became(String),
}

#[derive(Debug, Default)]
struct Case {
    name: String,
    rule: String,
    /// Records below `test.`
    records: String,
    /// What the web server says instead of 200.
    status: Option<String>,
    policy: String,
    steps: Vec<Step>,
}

impl Case {
    /// What its web server answers.
    fn answer(&self) -> String {
        match &self.status {
            _ if self.policy.is_empty() => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Some(status) => {
                page(&self.policy).replacen("200 OK", &format!("{status}\r\nLocation: /other"), 1)
            }
            None => page(&self.policy),
        }
    }
}

/// Every case of a file, each with a domain of its own below `test.`.
fn read(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/domains").join(file);
    let mut cases: Vec<Case> = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name: name.to_owned(), ..Case::default() });
            continue;
        }
        let domain = format!("case{}", cases.len());
        let case = cases.last_mut().unwrap();
        let (mark, rest) = line.split_once(' ').unwrap();
        let rest = rest.replace("DOMAIN", &domain);
        match mark {
            "RFC" => line.clone_into(&mut case.rule),
            "D:" => writeln!(case.records, "{rest}").unwrap(),
            "H:" => case.status = Some(rest),
            "P:" => write!(case.policy, "{rest}\r\n").unwrap(),
            "C:" => case.steps.push(Step::Said(rest)),
            "S:" => case.steps.push(Step::Answered(rest)),
            "M:" => case.steps.push(Step::Mail(rest)),
            other => {
                assert_eq!(other, "W:", "{}: no such mark", case.name);
                case.steps.push(Step::Became(rest));
            }
        }
    }
    for case in &cases {
        assert!(case.rule.starts_with("RFC ") && !case.steps.is_empty(), "{} cites a rule", case.name);
    }
    cases
}

struct Scene {
    // First, since it shows its log when a test fails, which lies in the site.
    switch: Running,
    site: Site,
    _hosts: (Sink, [Front; 3]),
    _server: NameServer,
    _web: Web,
}

impl Scene {
    async fn new(cases: &[Case]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::start(SinkOptions::new(clock())).unwrap();
        certificates::write(folder.path(), "own", "mx.test");
        certificates::write(folder.path(), "foreign", "somebody.else.test");
        let domains = 1..=cases.len();
        let names: Vec<String> = domains.map(|number| format!("mta-sts.case{number}.test")).collect();
        certificates::write_for(folder.path(), "web", names.clone());
        let shows = |name: &str| Manner::Works(certificates::showing(folder.path(), name));
        let own = Front::start(sink.address(), shows("own")).await;
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), own.address.port());
        let clear = Front::start_at(at("127.0.0.2"), sink.address(), Manner::None).await;
        let foreign = Front::start_at(at("127.0.0.3"), sink.address(), shows("foreign")).await;
        let answers: HashMap<String, String> =
            names.into_iter().zip(cases.iter().map(Case::answer)).collect();
        let web = Web::start(certificates::showing(folder.path(), "web"), move |host| {
            answers.get(host).cloned().unwrap_or_default()
        })
        .await;
        let mut zone =
            "mx A 127.0.0.1\nclear A 127.0.0.2\nforeign A 127.0.0.3\nmx.deep A 127.0.0.1\n".to_owned();
        for (number, case) in (1..).zip(cases) {
            zone.push_str(&case.records);
            writeln!(zone, "mta-sts.case{number} A 127.0.0.1").unwrap();
        }
        let server = NameServer::start(&zone).await?;
        let top = format!(
            "dns: {{ servers: [\"{}\"], timeout: 1s, mx_port: {}, sts_port: {} }}\nchecks: {{ sender_domain: true }}\n",
            server.address,
            own.address.port(),
            web.port
        );
        let route = "tls: mta-sts\n    tls_roots: roots.pem";
        let listener = "xclient_from: [127.0.0.1/32]";
        let site =
            Site::new(&Config { hop: Some("mx".to_owned()), route, listener, top, ..Config::default() });
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        std::fs::write(site.path().join("roots.pem"), read("own.pem") + &read("web.pem")).unwrap();
        let switch = site.start_ready().await;
        Some(Self { switch, site, _hosts: (sink, [own, clear, foreign]), _server: server, _web: web })
    }

    async fn send(&self, to: &str) {
        let mut client = self.site.client().await;
        for (line, code) in [("MAIL FROM:<>", 250), (&*format!("RCPT TO:<{to}>"), 250), ("DATA", 354)] {
            assert_eq!(say(&mut client, line).await.code, code, "{line}");
        }
        assert_eq!(say(&mut client, "Subject: x\r\n\r\nbody\r\n.").await.code, 250);
    }

    /// What became of the mail, in the words of the cases.
    async fn became(&self, to: &str) -> String {
        let to = format!(" to={to} ");
        let find = || {
            let log = self.switch.log();
            let line = log.lines().find(|line| line.contains("delivery.attempt") && line.contains(&to));
            line.map(str::to_owned)
        };
        until("the attempt is told", || find().is_some()).await;
        let line = find().unwrap();
        let reply = line.split("reply=\"").nth(1).unwrap_or_default();
        let status = reply.split(' ').nth(1).unwrap_or_default();
        match (line.contains(" delivered=1 "), line.contains(" deferred=1 "), line.contains(" tls=true ")) {
            (true, _, true) => "delivered under TLS".to_owned(),
            (true, _, false) => "delivered in clear".to_owned(),
            (false, true, _) => format!("waits {status}"),
            (false, false, _) => format!("comes back {status}"),
        }
    }

    async fn run(&self, case: &Case) -> Result<(), String> {
        let (mut client, _) = self.site.connect().await;
        assert_eq!(say(&mut client, "XCLIENT ADDR=192.0.2.1").await.code, 220);
        assert_eq!(say(&mut client, "EHLO client.test").await.code, 250);
        let (mut said, mut to) = (String::new(), String::new());
        for step in &case.steps {
            let (wanted, got) = match step {
                Step::Said(line) => {
                    let reply = say(&mut client, line).await;
                    said = format!("{} {}", reply.code, reply.text());
                    continue;
                }
                Step::Mail(recipient) => {
                    self.send(recipient).await;
                    recipient.clone_into(&mut to);
                    continue;
                }
                Step::Answered(wanted) => (wanted, said.clone()),
                Step::Became(wanted) => (wanted, self.became(&to).await),
            };
            if !got.starts_with(wanted.as_str()) {
                return Err(format!("{} ({}): wanted {wanted}, got {got}", case.name, case.rule));
            }
        }
        Ok(())
    }
}

async fn all(file: &str) {
    let cases = read(file);
    let Some(scene) = Scene::new(&cases).await else { return };
    let mut wrong = Vec::new();
    for case in &cases {
        wrong.extend(scene.run(case).await.err());
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_takes_no_mail_gets_none_and_sends_none() {
    all("null_mx.txt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_domain_publishes_about_its_tls_is_met_in_every_dialogue() {
    all("mta_sts.txt").await;
}
