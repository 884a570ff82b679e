//! etcd 3.4 or later, by its JSON gateway over HTTP. The register of a queue is the key `mailswitch/CLUSTER/QUEUE`; its
//! version is the key's `mod_revision`, which is 0 for a key that is not there.
//!
//! Reads are etcd's default, linearizable ones: a member that lost its quorum answers none.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster::register::{Entry, Register, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use mail_model::QueueId;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// An answer has at most so many bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Connections that are kept: one for each thread that asks.
const IDLE_MAX: usize = 4;

/// The members, and the connections that are open.
#[derive(Debug)]
pub(super) struct Etcd {
    cluster: String,
    members: Vec<Member>,
    /// As with a witness: taken out for each question.
    idle: Mutex<Vec<Open>>,
}

struct Member {
    authority: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.authority)
    }
}

#[derive(Debug)]
struct Open {
    member: usize,
    sender: SendRequest<Full<Bytes>>,
    serving: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Etcd {
    pub(super) fn new(cluster: &str, urls: &[String]) -> Result<Self, String> {
        let members = urls.iter().map(|url| Member::new(url)).collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err("no URL; write those of all members".to_owned());
        }
        Ok(Self { cluster: cluster.to_owned(), members, idle: Mutex::default() })
    }

    fn key(&self, queue: &QueueId) -> String {
        STANDARD.encode(format!("mailswitch/{}/{queue}", self.cluster))
    }

    pub(super) async fn read(&self, queue: &QueueId, within: Duration) -> Result<Entry, String> {
        let body = json!({ "key": self.key(queue) }).to_string();
        let idle = self.idle.lock().pop();
        let mut first = 0;
        let share = within / u32::try_from(self.members.len() + 1).unwrap_or(u32::MAX);
        if let Some(open) = idle {
            first = open.member;
            let answer = timeout(share, self.post(open, "/v3/kv/range", &body)).await;
            if let Ok(Ok(answer)) = answer {
                return entry(&answer);
            }
        }
        let mut why = String::new();
        for turn in 0..self.members.len() {
            // The one that just failed comes last.
            let member = (first + 1 + turn) % self.members.len();
            let asked = async { self.post(self.open(member).await?, "/v3/kv/range", &body).await };
            match timeout(share, asked).await {
                Ok(Ok(answer)) => return entry(&answer),
                Ok(Err(error)) => why = error,
                Err(_) => why = format!("{:?} did not answer", self.members.get(member)),
            }
        }
        Err(why)
    }

    pub(super) async fn swap(
        &self,
        queue: &QueueId,
        expected: Version,
        register: &Register,
    ) -> Result<Option<Version>, String> {
        let key = self.key(queue);
        let value = serde_json::to_vec(register).map_err(|error| error.to_string())?;
        let compare = json!({
            "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": expected.0.to_string(),
        });
        let put = json!({ "request_put": { "key": key, "value": STANDARD.encode(value) } });
        let body = json!({ "compare": [compare], "success": [put] }).to_string();
        let mut why = String::new();
        // Only who cannot be reached is passed over: what was sent may have been done.
        for member in 0..self.members.len() {
            let open = match timeout(Duration::from_secs(2), self.open(member)).await {
                Ok(Ok(open)) => open,
                Ok(Err(error)) => {
                    why = error;
                    continue;
                }
                Err(_) => continue,
            };
            let answer = self.post(open, "/v3/kv/txn", &body).await?;
            if !answer.get("succeeded").and_then(Value::as_bool).unwrap_or(false) {
                return Ok(None);
            }
            let revision = answer.get("header").and_then(|header| number(header, "revision"));
            return revision.map(|revision| Some(Version(revision))).ok_or_else(|| odd(&answer));
        }
        Err(why)
    }

    async fn open(&self, member: usize) -> Result<Open, String> {
        let at = self.members.get(member).ok_or_else(|| "there is no such member".to_owned())?;
        let (sender, serving) = at.connect().await.map_err(|error| format!("{}: {error}", at.authority))?;
        Ok(Open { member, sender, serving })
    }

    async fn post(&self, mut open: Open, path: &str, body: &str) -> Result<Value, String> {
        let member = self.members.get(open.member).map_or("", |member| member.authority.as_str());
        let failed = |error: &dyn std::fmt::Display| format!("{member}: {error}");
        let request = Request::post(path)
            .header(HOST, member)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|error| failed(&error))?;
        open.sender.ready().await.map_err(|error| failed(&error))?;
        let answer = open.sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| failed(&error))?.to_bytes();
        if !status.is_success() {
            let told: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(failed(&format_args!("it answered {status}: {told}")));
        }
        let value = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(open);
        }
        drop(idle);
        Ok(value)
    }
}

impl Member {
    fn new(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let authority = uri.authority().ok_or_else(|| format!("{url} names no host"))?;
        let secure = uri.scheme_str() == Some("https");
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(2379),
            authority: authority.to_string(),
            tls: secure.then(connector).transpose()?,
        })
    }

    async fn connect(&self) -> std::io::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => speak(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
                speak(tls.connect(name, stream).await?).await
            }
        }
    }
}

async fn speak<S>(stream: S) -> std::io::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // How it ended is told to who waits for an answer.
    let serving = tokio::spawn(async move { drop(connection.await) });
    Ok((sender, serving))
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// A number, which the gateway writes as text.
fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_str()?.parse().ok()
}

fn odd(answer: &Value) -> String {
    let told: String = answer.to_string().chars().take(200).collect();
    format!("its answer is not one of etcd 3.4: {told}")
}

/// The answer to a range of one key.
fn entry(answer: &Value) -> Result<Entry, String> {
    // Without a header it is no answer of etcd, and the key may well be there.
    if answer.get("header").and_then(|header| number(header, "revision")).is_none() {
        return Err(odd(answer));
    }
    let Some(found) = answer.get("kvs").and_then(|kvs| kvs.get(0)) else {
        return Ok(Entry::default());
    };
    let version = number(found, "mod_revision").ok_or_else(|| odd(answer))?;
    let value = found.get("value").and_then(Value::as_str).unwrap_or_default();
    let value = STANDARD.decode(value).map_err(|_| odd(answer))?;
    let register = serde_json::from_slice(&value)
        .map_err(|error| format!("the key holds something else than a register: {error}"))?;
    Ok(Entry { version: Version(version), register: Some(register) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_is_told_from_an_answer_that_is_none() {
        let none = json!({"header": {"revision": "7"}});
        assert_eq!(entry(&none).unwrap(), Entry::default());
        for bad in
            [json!({}), json!({"header": {"revision": "7"}, "kvs": [{"mod_revision": "3", "value": "AAAA"}]})]
        {
            assert!(entry(&bad).is_err(), "{bad}");
        }
    }
}
