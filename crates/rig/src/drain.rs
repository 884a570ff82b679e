//! The other sink: takes all mail, and only counts it, so that it takes little of the machine that it measures.
//!
//! It offers PIPELINING, answers everything that came with one read in one write, and keeps nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::listen::listener;

/// Bytes asked for with one read.
const READ_BYTES: usize = 64 * 1024;
/// The end of content.
const END: &[u8] = b"\r\n.\r\n";

/// A running one. It stops when dropped.
#[derive(Debug)]
pub struct Drain {
    address: SocketAddr,
    counts: Arc<Counts>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Counts {
    began: Instant,
    messages: AtomicU64,
    first_us: AtomicU64,
    last_us: AtomicU64,
    /// Somebody waits for this number of messages.
    awaited: AtomicU64,
    reached: Notify,
}

impl Counts {
    /// One more message was taken, just now.
    fn take(&self) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        self.first_us.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).ok();
        self.last_us.store(now, Ordering::Relaxed);
        if self.messages.fetch_add(1, Ordering::AcqRel) + 1 >= self.awaited.load(Ordering::Acquire) {
            self.reached.notify_waiters();
        }
    }
}

impl Drain {
    /// Listens and serves, on the runtime of the caller; port 0 takes any free one.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = listener(address)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts {
            began: Instant::now(),
            messages: AtomicU64::new(0),
            first_us: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
            awaited: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&counts)));
        Ok(Self { address, counts, listening })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages since the last [`Self::reset`].
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.counts.messages.load(Ordering::Acquire)
    }

    /// When the first and the last message came, as time since the start of this sink.
    #[must_use]
    pub fn span(&self) -> (Duration, Duration) {
        let read = |at: &AtomicU64| Duration::from_micros(at.load(Ordering::Relaxed));
        (read(&self.counts.first_us), read(&self.counts.last_us))
    }

    /// Time since the start of this sink.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.counts.began.elapsed()
    }

    /// Counts from 0 again.
    pub fn reset(&self) {
        self.counts.awaited.store(u64::MAX, Ordering::Release);
        self.counts.messages.store(0, Ordering::Release);
        self.counts.first_us.store(0, Ordering::Relaxed);
    }

    /// Waits until so many messages came; whether they did within `patience`.
    pub async fn wait_for(&self, messages: u64, patience: Duration) -> bool {
        let waiting = async {
            loop {
                let notified = self.counts.reached.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                self.counts.awaited.store(messages, Ordering::Release);
                if self.messages() >= messages {
                    return;
                }
                notified.await;
            }
        };
        timeout(patience, waiting).await.is_ok()
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, counts: Arc<Counts>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                if let Ok((stream, _)) = taken {
                    let counts = Arc::clone(&counts);
                    sessions.spawn(async move {
                        // An error of a connection concerns nobody else.
                        serve(stream, &counts).await.ok();
                    });
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, counts: &Counts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 drain.test ESMTP\r\n").await?;
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut output = Vec::new();
    let mut mode = Mode::Commands;
    loop {
        if input.capacity() - input.len() < READ_BYTES / 4 {
            input.reserve(READ_BYTES);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        mode = step(mode, &mut input, &mut output, counts);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if matches!(mode, Mode::Closed) {
            return stream.shutdown().await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Commands,
    /// Within content; `fresh` at its very beginning, where a lone dot ends it too.
    Content {
        fresh: bool,
    },
    Closed,
}

/// Takes all that is there.
fn step(mut mode: Mode, input: &mut BytesMut, output: &mut Vec<u8>, counts: &Counts) -> Mode {
    loop {
        match mode {
            Mode::Closed => return mode,
            Mode::Commands => {
                let Some(end) = memchr(b'\n', input) else { return mode };
                let verb = input.get(..4).unwrap_or_default().to_ascii_uppercase();
                input.advance(end + 1);
                let reply: &[u8] = match verb.as_slice() {
                    b"EHLO" => {
                        b"250-drain.test\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
                    }
                    b"DATA" => {
                        mode = Mode::Content { fresh: true };
                        b"354 go on\r\n"
                    }
                    b"QUIT" => {
                        mode = Mode::Closed;
                        b"221 2.0.0 bye\r\n"
                    }
                    _ => b"250 2.0.0 ok\r\n",
                };
                output.extend_from_slice(reply);
            }
            Mode::Content { fresh } => {
                let (end, dot_line) = if fresh && input.starts_with(b".\r\n") {
                    (Some(0), 3)
                } else {
                    (memmem::find(input, END), END.len())
                };
                let Some(end) = end else {
                    // The end may have begun with the last bytes.
                    let keep = input.len().min(END.len() - 1);
                    let whole = input.len() - keep;
                    input.advance(whole);
                    return Mode::Content { fresh: fresh && whole == 0 };
                };
                input.advance(end + dot_line);
                counts.take();
                output.extend_from_slice(b"250 2.0.0 taken\r\n");
                mode = Mode::Commands;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        Counts {
            began: Instant::now(),
            messages: AtomicU64::new(0),
            first_us: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
            awaited: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
        }
    }

    #[test]
    fn messages_are_counted_however_they_arrive() {
        let text = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nx: y\r\n\r\n..\r\n.\r\nDATA\r\n.\r\nQUIT\r\n";
        for size in 1..text.len() {
            let counts = counts();
            let (mut input, mut output, mut mode) = (BytesMut::new(), Vec::new(), Mode::Commands);
            for piece in text.chunks(size) {
                input.extend_from_slice(piece);
                mode = step(mode, &mut input, &mut output, &counts);
            }
            assert_eq!((counts.messages.into_inner(), mode), (2, Mode::Closed), "pieces of {size}");
            assert!(output.ends_with(b"221 2.0.0 bye\r\n"));
        }
    }
}
