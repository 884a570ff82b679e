//! One SMTP connection spoken by hand: send bytes, read replies, each read with a deadline.
//!
//! The load generator speaks through it, and so do tests that want to send what no client would.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most bytes one reply may have, all its lines together.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Why a dialogue ends.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// The peer closed the connection, between replies or within one.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing came, or the connection was not made, within the time allowed.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// What came is no SMTP reply.
    #[error("not an SMTP reply: {0}")]
    Malformed(String),
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A reply as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The code of the last line.
    pub code: u16,
    /// The text of each line, without code and separator.
    pub lines: Vec<String>,
}

impl Answer {
    /// The last line's text, which is all of it in a reply of one line.
    #[must_use]
    pub fn text(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }

    /// Whether the reply is 2yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether the reply is 5yz.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }

    /// The line of an EHLO reply that begins with this keyword.
    #[must_use]
    pub fn extension(&self, keyword: &str) -> Option<&str> {
        let is =
            |line: &&String| line.split(' ').next().is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        self.lines.iter().skip(1).find(is).map(String::as_str)
    }
}

/// A connection to a server: a socket, or what is spoken over one.
#[derive(Debug)]
pub struct Dialogue<S = TcpStream> {
    stream: S,
    input: BytesMut,
    patience: Duration,
}

impl Dialogue {
    /// Connects. `patience` is the longest wait for the connection and for each later reply.
    pub async fn connect(address: SocketAddr, patience: Duration) -> Result<Self, DialogueError> {
        let connected = timeout(patience, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| DialogueError::Timeout(patience))??;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream, patience))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    /// A dialogue over an open connection.
    pub fn over(stream: S, patience: Duration) -> Self {
        Self { stream, input: BytesMut::with_capacity(4096), patience }
    }

    /// The connection below, to speak something else over it. Bytes that were read and not asked for are lost.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Writes all of `bytes` as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), DialogueError> {
        let writing = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let written = timeout(self.patience, writing).await;
        Ok(written.map_err(|_| DialogueError::Timeout(self.patience))??)
    }

    /// Reads one whole reply.
    pub async fn reply(&mut self) -> Result<Answer, DialogueError> {
        // A reply that is there already needs no timer.
        if let Some(answer) = take_answer(&mut self.input)? {
            return Ok(answer);
        }
        let patience = self.patience;
        let reading = async {
            loop {
                if self.stream.read_buf(&mut self.input).await? == 0 {
                    return Err(DialogueError::Closed);
                }
                if let Some(answer) = take_answer(&mut self.input)? {
                    return Ok(answer);
                }
            }
        };
        timeout(patience, reading).await.map_err(|_| DialogueError::Timeout(patience))?
    }

    /// Sends a line and reads the reply to it. The CRLF is added.
    pub async fn command(&mut self, line: &str) -> Result<Answer, DialogueError> {
        self.send(format!("{line}\r\n")).await?;
        self.reply().await
    }

    /// Says that nothing more will be sent; replies can still be read.
    pub async fn half_close(&mut self) -> Result<(), DialogueError> {
        Ok(self.stream.shutdown().await?)
    }

    /// Waits until the peer closes, dropping what it says until then. A reset counts as closed.
    pub async fn closed(&mut self) -> Result<(), DialogueError> {
        let patience = self.patience;
        let draining = async {
            loop {
                self.input.clear();
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        timeout(patience, draining).await.map_err(|_| DialogueError::Timeout(patience))
    }
}

/// Takes a whole reply off the front of `input`, if one is there.
fn take_answer(input: &mut BytesMut) -> Result<Option<Answer>, DialogueError> {
    let mut lines = Vec::new();
    let mut rest: &[u8] = input;
    let mut used = 0;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        used += line.len();
        rest = after;
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\r', '\n']);
        let malformed = || DialogueError::Malformed(text.chars().take(100).collect());
        let code: u16 = text.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
        if !(200..600).contains(&code) {
            return Err(malformed());
        }
        lines.push(text.get(4..).unwrap_or_default().to_owned());
        match text.as_bytes().get(3) {
            Some(b'-') => {}
            Some(b' ') | None => {
                input.advance(used);
                return Ok(Some(Answer { code, lines }));
            }
            Some(_) => return Err(malformed()),
        }
    }
    if input.len() > REPLY_BYTES_MAX {
        return Err(DialogueError::Malformed(format!("more than {REPLY_BYTES_MAX} bytes without an end")));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> Result<Option<(u16, Vec<String>, usize)>, DialogueError> {
        let mut input = BytesMut::from(bytes.as_bytes());
        Ok(take_answer(&mut input)?.map(|answer| (answer.code, answer.lines, input.len())))
    }

    #[test]
    fn a_reply_is_read_when_its_last_line_is_there() {
        assert_eq!(read("250-a\r\n250-b\r\n").unwrap(), None);
        assert_eq!(read("25").unwrap(), None);
        let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(read("250-a\r\n250 b c\r\n354 go").unwrap(), Some((250, lines(&["a", "b c"]), 6)));
        assert_eq!(read("250\r\n").unwrap(), Some((250, lines(&[""]), 0)));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for wrong in ["hello\r\n", "25x ok\r\n", "250+ok\r\n", "099 ok\r\n", "\r\n"] {
            assert!(matches!(read(wrong), Err(DialogueError::Malformed(_))), "{wrong:?}");
        }
    }

    #[test]
    fn an_extension_is_found_by_its_keyword() {
        let answer =
            Answer { code: 250, lines: vec!["SIZE.test".into(), "SIZE 1000".into(), "PIPELINING".into()] };
        assert_eq!(answer.extension("size"), Some("SIZE 1000"));
        assert_eq!(answer.extension("PIPELINING"), Some("PIPELINING"));
        assert_eq!(answer.extension("DSN"), None);
    }
}
