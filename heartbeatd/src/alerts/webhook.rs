//! A POST with the alert as JSON, over HTTP or HTTPS. With a secret it is signed, so that the other side knows who speaks and
//! that nobody sends an old one again: `X-Mailswitch-Signature: sha256=HEX` is the HMAC-SHA256 of `TIMESTAMP.BODY`, and
//! `X-Mailswitch-Timestamp` the seconds since 1970.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::hmac;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use settings::WebhookSettings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::notice::Alert;

/// Where to post, and how.
pub(crate) struct Webhook {
    authority: String,
    host: String,
    port: u16,
    path: String,
    tls: Option<TlsConnector>,
    key: Option<hmac::Key>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Reads the secret and, for HTTPS, the machine's root certificates.
    pub(crate) fn new(settings: &WebhookSettings) -> Result<Self> {
        let uri: Uri =
            settings.url.parse().with_context(|| format!("alerts.webhook.url {}", settings.url))?;
        let authority = uri.authority().ok_or_else(|| anyhow!("alerts.webhook.url names no host"))?;
        let secure = uri.scheme_str() == Some("https");
        let key = match &settings.secret_file {
            Some(file) => {
                let secret = std::fs::read_to_string(file)
                    .with_context(|| format!("alerts.webhook.secret_file {}: read it", file.display()))?;
                Some(hmac::Key::new(hmac::HMAC_SHA256, secret.trim().as_bytes()))
            }
            None => None,
        };
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls: secure.then(connector).transpose()?,
            key,
        })
    }

    /// Posts once. Any answer but 2xx is a failure.
    pub(crate) async fn post(&self, alert: &Alert) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.authority);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| failed(&e))?;
        match &self.tls {
            None => self.speak(stream, alert).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|e| failed(&e))?;
                self.speak(tls.connect(name, stream).await.map_err(|e| failed(&e))?, alert).await
            }
        }
    }

    async fn speak<S>(&self, stream: S, alert: &Alert) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.authority);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        let serving = tokio::spawn(connection);
        let seconds = (alert.at.0 / 1_000).to_string();
        let mut request = Request::post(self.path.as_str())
            .header(HOST, self.authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("mailswitch/", env!("CARGO_PKG_VERSION")))
            .header("X-Mailswitch-Timestamp", seconds.as_str());
        if let Some(key) = &self.key {
            request = request.header("X-Mailswitch-Signature", signature(key, &seconds, &alert.body));
        }
        let request = request.body(Full::new(Bytes::from(alert.body.clone()))).map_err(|e| failed(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(&e));
        serving.abort();
        let status = answer?.status();
        if status.is_success() { Ok(()) } else { Err(failed(&format_args!("it answered {status}"))) }
    }
}

fn signature(key: &hmac::Key, seconds: &str, body: &str) -> String {
    let tag = hmac::sign(key, format!("{seconds}.{body}").as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in tag.as_ref() {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn connector() -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_every_other_program() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let wanted = "sha256=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        assert_eq!(signature(&key, "1700000000", "{}"), wanted);
    }
}
