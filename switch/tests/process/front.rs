//! A next hop with STARTTLS: it shakes hands, well or badly, and passes what is said to a sink behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How it does TLS.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// As it should.
    Works(Arc<ServerConfig>),
    /// From the first byte.
    Wrapped(Arc<ServerConfig>),
    /// It says 220 and closes.
    Breaks,
    /// It offers it and answers 454.
    Refuses,
    /// Not at all.
    None,
}

/// What was asked of it.
#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    secured: AtomicU64,
    clear: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

impl Front {
    /// In front of `sink`, until the runtime ends.
    pub(crate) async fn start(sink: SocketAddr, manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), sink, manner).await
    }

    /// The same at this address.
    pub(crate) async fn start_at(address: SocketAddr, sink: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let kept = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (manner, counts) = (manner.clone(), Arc::clone(&kept));
                tokio::spawn(async move { serve(stream, &manner, sink, &counts).await });
            }
        });
        Self { address, counts }
    }

    /// How often STARTTLS was said, a handshake succeeded, and mail began in clear.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let Counts { asked, secured, clear } = &*self.counts;
        [asked, secured, clear].map(|count| count.load(Ordering::Relaxed))
    }
}

async fn serve(stream: TcpStream, manner: &Manner, sink: SocketAddr, counts: &Counts) -> Option<()> {
    if let Manner::Wrapped(config) = manner {
        let mut client = TlsAcceptor::from(Arc::clone(config)).accept(stream).await.ok()?;
        counts.secured.fetch_add(1, Ordering::Relaxed);
        client.write_all(b"220 front.test ESMTP\r\n").await.ok()?;
        return pass(client, sink, None).await;
    }
    let mut client = BufReader::new(stream);
    client.write_all(b"220 front.test ESMTP\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await.ok()? == 0 || line.starts_with("QUIT") {
            return None;
        }
        if line.starts_with("EHLO") {
            let offer = if matches!(manner, Manner::None) { "250 SIZE" } else { "250 STARTTLS" };
            client.write_all(format!("250-front.test\r\n{offer}\r\n").as_bytes()).await.ok()?;
        } else if line.starts_with("STARTTLS") {
            counts.asked.fetch_add(1, Ordering::Relaxed);
            let reply: &[u8] = match manner {
                Manner::Works(_) | Manner::Wrapped(_) | Manner::Breaks => b"220 go ahead\r\n",
                Manner::Refuses | Manner::None => b"454 4.7.0 not now\r\n",
            };
            client.write_all(reply).await.ok()?;
            let Manner::Works(config) = manner else { return None };
            let client = TlsAcceptor::from(Arc::clone(config)).accept(client.into_inner()).await.ok()?;
            counts.secured.fetch_add(1, Ordering::Relaxed);
            return pass(client, sink, None).await;
        } else {
            counts.clear.fetch_add(1, Ordering::Relaxed);
            return pass(client, sink, Some(line)).await;
        }
    }
}

/// Passes everything on. `said` is what the client said already.
async fn pass(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    sink: SocketAddr,
    said: Option<String>,
) -> Option<()> {
    let mut server = BufReader::new(TcpStream::connect(sink).await.ok()?);
    let mut line = String::new();
    server.read_line(&mut line).await.ok()?;
    if let Some(said) = said {
        server.write_all(b"EHLO front.test\r\n").await.ok()?;
        while !line.starts_with("250 ") {
            line.clear();
            server.read_line(&mut line).await.ok()?;
        }
        server.write_all(said.as_bytes()).await.ok()?;
    }
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}
