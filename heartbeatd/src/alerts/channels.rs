//! Who is told: a webhook, people by mail, a command. Each has a task of its own that tells one thing after the other, so
//! that what is over is never told before what began, and a dead channel holds up no other.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mail_model::{Clock, WallTime};
use serde_json::json;
use settings::{AlertSettings, Settings};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::mail::Mail;
use super::notice::{Alert, Condition, Notice, Status};
use super::webhook::Webhook;

/// Things that may wait for one channel; more are dropped, and the log says so.
const WAITING_MAX: usize = 64;
/// How often one thing is tried, and how long is waited after each failure: it doubles.
const TRIES: u32 = 6;
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(20);

/// A way to tell.
#[derive(Debug)]
enum Way {
    Webhook(Box<Webhook>),
    Mail(Mail),
    Command(Vec<String>),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Mail(_) => "mail",
            Self::Command(_) => "command",
        }
    }

    async fn tell(&self, alert: &Alert) -> Result<(), String> {
        let telling = async {
            match self {
                Self::Webhook(webhook) => webhook.post(alert).await,
                Self::Mail(mail) => mail.send(alert).await,
                Self::Command(words) => run(words, alert).await,
            }
        };
        timeout(TRY_LIMIT, telling).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
    }
}

/// All of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Channels {
    node: String,
    cluster: String,
    clock: Arc<dyn Clock>,
    ways: Arc<Vec<(Arc<Way>, mpsc::Sender<Alert>)>>,
}

impl Channels {
    /// Starts the tasks. Within a tokio runtime. The error says what cannot be used and what to do.
    pub(crate) fn start(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, anyhow::Error> {
        let AlertSettings { webhook, mail, command, .. } = &settings.alerts;
        let mut ways = Vec::new();
        if let Some(webhook) = webhook {
            ways.push(Way::Webhook(Box::new(Webhook::new(webhook)?)));
        }
        if let Some(mail) = mail {
            ways.push(Way::Mail(Mail::new(mail, settings)));
        }
        if !command.is_empty() {
            ways.push(Way::Command(command.clone()));
        }
        let ways = ways.into_iter().map(|way| {
            let (alerts, inbox) = mpsc::channel(WAITING_MAX);
            let way = Arc::new(way);
            tokio::spawn(work(Arc::clone(&way), inbox));
            (way, alerts)
        });
        Ok(Self {
            node: settings.node.id.to_string(),
            cluster: settings.cluster.id.clone(),
            clock,
            ways: Arc::new(ways.collect()),
        })
    }

    /// Tells everybody, soon. Never waits.
    pub(crate) fn tell(&self, notice: &Notice) {
        let alert = self.alert(notice);
        let (status, name) = (alert.status.as_str(), &alert.name);
        tracing::info!(event = "alert.told", status, name, text = %notice.condition.text);
        for (way, alerts) in self.ways.iter() {
            if alerts.try_send(alert.clone()).is_err() {
                let error = "too many wait for it";
                tracing::warn!(event = "alert.failed", channel = way.name(), name, error);
            }
        }
    }

    /// Tries every channel once, now. What came of each; an error if one failed or there is none.
    pub(crate) async fn test(&self) -> Result<String, String> {
        if self.ways.is_empty() {
            return Err("nobody would be told: set alerts.webhook, alerts.mail or alerts.command".to_owned());
        }
        let text = format!("this is a test, ordered on node {}; nothing is wrong", self.node);
        let condition = Condition { name: "test".to_owned(), severity: "warning", text, at_once: true };
        let alert = self.alert(&Notice { status: Status::Test, condition, lasted: Duration::ZERO });
        let mut lines = Vec::new();
        let mut failed = false;
        for (way, _) in self.ways.iter() {
            match way.tell(&alert).await {
                Ok(()) => lines.push(format!("{}: told", way.name())),
                Err(why) => {
                    failed = true;
                    lines.push(format!("{}: {why}", way.name()));
                }
            }
        }
        let lines = lines.join("\n");
        if failed { Err(lines) } else { Ok(lines) }
    }

    fn alert(&self, notice: &Notice) -> Alert {
        let Notice { status, condition, lasted } = notice;
        let at = self.clock.wall();
        let since = WallTime(at.0.saturating_sub(u64::try_from(lasted.as_millis()).unwrap_or(0)));
        let (at_text, since_text) = (crate::records::rfc3339(at), crate::records::rfc3339(since));
        let body = json!({
            "schema": "mailswitch.alert/1",
            "status": status.as_str(),
            "name": condition.name,
            "severity": condition.severity,
            "text": condition.text,
            "cluster": self.cluster,
            "node": self.node,
            "since": since_text,
            "at": at_text,
        });
        let word = status.as_str();
        Alert {
            subject: format!("[{word}] {}: {} on {}", self.cluster, condition.name, self.node),
            text: format!(
                "{}\n\nStatus: {word}\nSeverity: {}\nCluster: {}\nSeen by node: {}\nSince: {since_text}\nAt: {at_text}\n",
                condition.text, condition.severity, self.cluster, self.node
            ),
            body: body.to_string(),
            status: *status,
            name: condition.name.clone(),
            at,
        }
    }
}

async fn work(way: Arc<Way>, mut inbox: mpsc::Receiver<Alert>) {
    while let Some(alert) = inbox.recv().await {
        let mut wait = RETRY_FIRST;
        for left in (0..TRIES).rev() {
            let Err(error) = way.tell(&alert).await else { break };
            if left == 0 {
                tracing::warn!(event = "alert.failed", channel = way.name(), name = alert.name, error);
                break;
            }
            sleep(wait).await;
            wait *= 2;
        }
    }
}

/// The JSON goes to its standard input, the most important words to its environment.
async fn run(words: &[String], alert: &Alert) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("alerts.command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("MAILSWITCH_ALERT_STATUS", alert.status.as_str())
        .env("MAILSWITCH_ALERT_NAME", &alert.name)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A command that reads nothing is no fault.
        input.write_all(alert.body.as_bytes()).await.ok();
    }
    let status = child.wait().await.map_err(|error| format!("{program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
}
