//! rspamd over HTTP: `POST /checkv2` with the message and what is known of its client, and an answer in JSON.
//!
//! | action | answer |
//! |---|---|
//! | `no action` | taken |
//! | `add header` | taken with `X-Spam: Yes` |
//! | `rewrite subject` | taken with the subject that rspamd gives, and `X-Spam: Yes` |
//! | `soft reject`, `greylist` | 451 4.7.1 |
//! | `reject` | 550 5.7.1 |
//! | `quarantine` | taken, and held in the queue |
//! | `discard` | taken, and deleted |
//!
//! Fields that rspamd wants added (`milter_headers`) come on top, those it wants removed are.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mail_model::{EnhancedStatus, Reply};
use message::edit::{self, Edit};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::wire::Wire;
use crate::intake::inspection::exhibit::{Changes, Exhibit, Opinion};

const ANSWER_MAX: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Answer {
    action: String,
    #[serde(default)]
    score: f64,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    messages: Map<String, Value>,
    #[serde(default)]
    milter: Wishes,
}

#[derive(Debug, Default, Deserialize)]
struct Wishes {
    /// Name to a value, `{ value, order }`, or a list of those.
    #[serde(default)]
    add_headers: Map<String, Value>,
    /// Name to which of them: 0 all, n the nth, -n the nth from the end.
    #[serde(default)]
    remove_headers: Map<String, Value>,
}

/// Asks about a message.
pub(super) async fn ask(wire: Wire, exhibit: &Exhibit, hostname: &str) -> Result<Opinion, String> {
    let request = request(exhibit, hostname)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(wire)).await.map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers {}", response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
    };
    tokio::pin!(answered);
    let body = tokio::select! {
        body = &mut answered => body,
        // The connection may end before the answer is put together.
        _ = connection => answered.await,
    }?;
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|error| format!("its answer is not understood: {error}"))?;
    opinion(&answer, exhibit)
}

fn request(exhibit: &Exhibit, hostname: &str) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::post("/checkv2").header(HOST, hostname).header(USER_AGENT, "mailswitch");
    let mut tell = |name: &str, value: &str| {
        // What cannot stand in a header is not told; it is a hint only.
        if let (Ok(value), Some(headers)) = (HeaderValue::from_str(value), request.headers_mut())
            && let Ok(name) = hyper::header::HeaderName::from_bytes(name.as_bytes())
        {
            headers.append(name, value);
        }
    };
    tell("IP", &exhibit.client.to_canonical().to_string());
    tell("Helo", &exhibit.helo);
    if let Some(name) = &exhibit.client_name {
        tell("Hostname", name);
    }
    tell("From", &exhibit.envelope.reverse_path.to_string());
    for recipient in &exhibit.envelope.recipients {
        tell("Rcpt", &recipient.address.to_string());
    }
    if let Some(user) = &exhibit.user {
        tell("User", user);
    }
    tell("Queue-Id", &exhibit.id);
    tell("MTA-Name", hostname);
    request.body(Full::new(exhibit.content.clone())).map_err(|error| error.to_string())
}

fn opinion(answer: &Answer, exhibit: &Exhibit) -> Result<Opinion, String> {
    let said = answer.messages.get("smtp_message").and_then(Value::as_str);
    let refuse = |code, class, text: &str| {
        Opinion::Refuse(Reply::local(code, EnhancedStatus::new(class, 7, 1), said.unwrap_or(text)))
    };
    let reason = || format!("rspamd: {}, score {}", answer.action, answer.score);
    let mut changes = Changes::default();
    match answer.action.as_str() {
        "reject" => return Ok(refuse(550, 5, "the message looks like spam")),
        "soft reject" | "greylist" => return Ok(refuse(451, 4, "try again later")),
        "no action" => {}
        "add header" | "rewrite subject" => changes.top.push_str("X-Spam: Yes\r\n"),
        "quarantine" => changes.hold = Some(reason()),
        "discard" => changes.discard = Some(reason()),
        other => return Err(format!("it wants '{other}', which is not known here")),
    }
    for (name, value) in &answer.milter.add_headers {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let text = |value: &Value| value.get("value").unwrap_or(value).as_str().map(str::to_owned);
        let fields = values.iter().filter_map(text).filter_map(|value| edit::field(name, &value));
        changes.top.extend(fields);
    }
    let subject = answer.subject.as_deref().filter(|_| answer.action == "rewrite subject");
    if subject.is_some() || !answer.milter.remove_headers.is_empty() {
        let mut edit = Edit::of(&exhibit.content);
        for (name, which) in &answer.milter.remove_headers {
            match which.as_i64().unwrap_or(0) {
                0 => edit.remove_all(name),
                which => {
                    let number = usize::try_from(which.unsigned_abs()).unwrap_or(usize::MAX);
                    let from_end = (edit.count(name) + 1).saturating_sub(number);
                    edit.remove(name, if which > 0 { number } else { from_end });
                }
            }
        }
        if let Some(subject) = subject {
            edit.set("Subject", 1, subject);
        }
        if edit.is_changed() {
            changes.content = Some(edit.to_bytes().into());
        }
    }
    Ok(Opinion::Changes(Box::new(changes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: &str) -> Result<Opinion, String> {
        opinion(
            &serde_json::from_str(answer).unwrap(),
            &Exhibit::plain(b"Subject: a\r\nX-Old: 1\r\nX-Old: 2\r\n\r\nb"),
        )
    }

    fn changes(answer: &str) -> Changes {
        match judged(answer).unwrap() {
            Opinion::Changes(changes) => *changes,
            Opinion::Refuse(reply) => panic!("{reply}"),
        }
    }

    #[test]
    fn every_action_has_its_class_of_answer_and_an_unknown_one_is_an_error() {
        for (action, code) in [("reject", 550), ("soft reject", 451), ("greylist", 451)] {
            let Ok(Opinion::Refuse(reply)) = judged(&format!(r#"{{"action":"{action}"}}"#)) else { panic!() };
            assert_eq!(reply.code, code);
        }
        let own = judged(r#"{"action":"reject","messages":{"smtp_message":"no\r\nthanks"}}"#);
        assert!(matches!(own, Ok(Opinion::Refuse(reply)) if reply.text == "no  thanks"));
        assert!(changes(r#"{"action":"no action"}"#).top.is_empty());
        assert_eq!(
            changes(r#"{"action":"quarantine","score":9.5}"#).hold.unwrap(),
            "rspamd: quarantine, score 9.5"
        );
        assert!(changes(r#"{"action":"discard"}"#).discard.is_some());
        assert!(judged(r#"{"action":"dance"}"#).is_err());
    }

    #[test]
    fn fields_come_and_go_as_it_says() {
        let wanted = changes(
            r#"{"action":"rewrite subject","subject":"*** a","milter":{
                "add_headers":{"X-A":"1","X-B":{"value":"2","order":0},"X-C":[{"value":"3"},{"value":"4\r\nEvil: x"}]},
                "remove_headers":{"x-old":-1}}}"#,
        );
        assert_eq!(wanted.top, "X-Spam: Yes\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\nX-C: 4\r\n\tEvil: x\r\n");
        assert_eq!(wanted.content.unwrap(), &b"Subject: *** a\r\nX-Old: 1\r\n\r\nb"[..]);
        let none = changes(r#"{"action":"no action","milter":{"remove_headers":{"X-None":0}}}"#);
        assert!(none.content.is_none(), "nothing was there to remove");
    }
}
