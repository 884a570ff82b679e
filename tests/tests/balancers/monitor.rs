//! What a monitor of a BIG-IP does with the strings that are printed for it: there is none here, but what it sends and waits for
//! is only text.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// `create ltm monitor http NAME destination *:PORT send "…" recv "…"`, as it was printed.
pub(crate) struct Monitor {
    port: u16,
    send: String,
    receive: String,
}

impl Monitor {
    pub(crate) fn of(snippet: &str) -> Result<Self> {
        let line =
            snippet.lines().find(|line| line.starts_with("create ltm monitor http ")).context("a monitor")?;
        let text = |key: &str| {
            let (_, rest) = line.split_once(&format!(" {key} \""))?;
            rest.split_once('"').map(|(text, _)| text.to_owned())
        };
        let (_, port) = line.split_once(" destination *:").context("a destination")?;
        let port = port.split(' ').next().unwrap_or_default().parse()?;
        let send = text("send").context("send")?.replace("\\r", "\r").replace("\\n", "\n");
        ensure!(send.ends_with("\r\n\r\n"), "{send:?} is no whole request");
        Ok(Self { port, send, receive: text("recv").context("recv")? })
    }

    /// Asks a node. True if what is waited for is in the answer.
    pub(crate) fn likes(&self, node: IpAddr) -> Result<bool> {
        let mut stream = TcpStream::connect(SocketAddr::new(node, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(self.send.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1."), "{answer:?}");
        Ok(contains(answer.as_bytes(), self.receive.as_bytes()))
    }
}

/// A regular expression without anything but dots.
fn contains(text: &[u8], pattern: &[u8]) -> bool {
    text.windows(pattern.len())
        .any(|part| part.iter().zip(pattern).all(|(is, want)| *want == b'.' || is == want))
}
