//! Web servers that give domains their MTA-STS policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One that answers for every host.
pub(crate) struct Web {
    pub(crate) port: u16,
    /// How often it was asked.
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Web {
    /// `answer` is told the name of the host and says all of the answer.
    pub(crate) async fn start(
        config: Arc<ServerConfig>,
        answer: impl Fn(&str) -> String + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let Ok(stream) = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await else {
                    continue;
                };
                let mut stream = BufReader::new(stream);
                let (mut line, mut host) = (String::new(), String::new());
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                    assert!(!line.starts_with("GET") || line.contains("/.well-known/mta-sts.txt"));
                    if let Some(name) = line.to_ascii_lowercase().strip_prefix("host:") {
                        name.trim().clone_into(&mut host);
                    }
                    line.clear();
                }
                let said = answer(&host);
                stream.write_all(said.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self { port, asked, task }
    }
}

/// An answer with a policy.
pub(crate) fn page(policy: &str) -> String {
    let length = policy.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{policy}"
    )
}
