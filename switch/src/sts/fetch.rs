//! A policy as the domain's web server gives it. RFC 8461 3.3.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use mail_model::Domain;
use routing::sts::StsPolicy;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::asking::Asking;
use crate::tls::Trust;

/// For everything.
const PATIENCE: Duration = Duration::from_mins(1);
/// For one address.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
const SIZE_MAX: usize = 64 << 10;

/// The policy of `domain`, and its text. The error says what is wrong.
pub(super) async fn policy(domain: &Domain, asking: Asking<'_>) -> Result<(StsPolicy, String), String> {
    let text = timeout(PATIENCE, text(domain, asking)).await.map_err(|_| "it took too long".to_owned())??;
    let policy = StsPolicy::read(&text).map_err(|error| error.to_string())?;
    Ok((policy, text))
}

async fn text(domain: &Domain, asking: Asking<'_>) -> Result<String, String> {
    let host = format!("mta-sts.{domain}");
    let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
    let config =
        asking.tls.outward().config(Trust::Roots(asking.roots), None).ok_or("the roots are not loaded")?;
    let stream = connect(&host, asking).await?;
    let connector = TlsConnector::from(config);
    let stream = connector.connect(name, stream).await.map_err(|error| format!("{host}: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::get("/.well-known/mta-sts.txt")
        .header(header::HOST, &host)
        .header(header::USER_AGENT, "mailswitch")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        // A redirect is an error too.
        if response.status() != StatusCode::OK {
            return Err(format!("{host} answers {}", response.status()));
        }
        let kind =
            response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("text/plain") {
            return Err(format!("{host} sends '{kind}', not text/plain"));
        }
        let body = Limited::new(response.into_body(), SIZE_MAX).collect().await;
        let body = body.map_err(|error| format!("{host}: {error}"))?.to_bytes();
        String::from_utf8(body.to_vec()).map_err(|_| format!("{host} sends no text"))
    };
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection may end before the answer is put together.
        _ = connection => answered.await,
    }
}

async fn connect(host: &str, asking: Asking<'_>) -> Result<TcpStream, String> {
    let name = Domain::new(host).map_err(|error| error.to_string())?;
    let found = asking.names.resolver.addresses(&name).await.map_err(|error| error.to_string())?.value;
    let mut failure = format!("{host} has no address");
    for address in asking.names.order.arrange(&found) {
        let address = SocketAddr::new(address, asking.names.sts_port);
        match timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = format!("{host} ({address}): {error}"),
            Err(_) => failure = format!("{host} ({address}): no answer"),
        }
    }
    Err(failure)
}
