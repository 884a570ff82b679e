//! The other load generator: as much mail as a server takes, for a measured time.
//!
//! Where [`crate::Load`] records the fate of every message, this one only counts, so that it takes little of the machine
//! that it measures. All its messages are the same. It never sends a message again that was answered or may have been.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::memchr;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::content::Content;

/// The pause of a session after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// How long a connection and its greeting may take: a crowded server lets clients wait in its backlog.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);

/// What is sent.
#[derive(Debug, Clone)]
pub struct Flood {
    /// The server.
    pub target: SocketAddr,
    /// Connections at one time.
    pub sessions: usize,
    /// A connection is closed with QUIT after so many.
    pub messages_per_connection: u32,
    /// Bytes of a message.
    pub message_size_bytes: usize,
    /// No new message is begun after so long.
    pub time: Duration,
    /// Nor after so many.
    pub total: Option<u64>,
    /// No more than so many are begun a second, evenly.
    pub rate: Option<u64>,
    /// Whom it is for.
    pub recipient: String,
}

impl Flood {
    /// Whom mail is for, if nothing else is said.
    pub const RECIPIENT: &str = "probe@example.test";
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Flooded {
    /// Messages with a 250.
    pub accepted: u64,
    /// Transactions that ended otherwise.
    pub failed: u64,
    /// The first thing that went wrong.
    pub first_failure: Option<String>,
    /// From the first connection to the last 250.
    pub took: Duration,
    /// From the final dot to its 250, each, in microseconds.
    pub answers_us: Vec<u32>,
}

impl Flood {
    /// Sends until the time or the total is over, and waits for the last replies. Within a tokio runtime.
    pub async fn run(self) -> Flooded {
        let content = Content::new("flood", "probe@client.test", 1, self.message_size_bytes);
        let message = content.message(1);
        let began = Instant::now();
        let course = Arc::new(Course {
            envelope: format!(
                "MAIL FROM:<probe@client.test> SIZE={}\r\nRCPT TO:<{}>\r\nDATA\r\n",
                message.size_bytes, self.recipient
            ),
            wire: message.wire,
            end: began + self.time,
            left: Mutex::new(self.total),
            begun: AtomicU64::new(0),
            plan: self,
        });
        let mut sessions = JoinSet::new();
        for _ in 0..course.plan.sessions.max(1) {
            let course = Arc::clone(&course);
            sessions.spawn(async move { course.session(began).await });
        }
        let mut all = Flooded::default();
        while let Some(done) = sessions.join_next().await {
            let Ok(done) = done else { continue };
            all.accepted += done.accepted;
            all.failed += done.failed;
            all.first_failure = all.first_failure.or(done.first_failure);
            all.took = all.took.max(done.took);
            all.answers_us.extend(done.answers_us);
        }
        all
    }
}

struct Course {
    plan: Flood,
    envelope: String,
    /// The content as it goes over the line, with the final dot.
    wire: Vec<u8>,
    end: Instant,
    left: Mutex<Option<u64>>,
    begun: AtomicU64,
}

impl Course {
    /// Whether one more message is begun.
    fn begin(&self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        match &mut *self.left.lock() {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Waits until the next message may be begun.
    async fn keep_pace(&self, began: Instant) {
        let Some(rate) = self.plan.rate else { return };
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let micros = number.saturating_mul(1_000_000) / rate.max(1);
        sleep_until(began + Duration::from_micros(micros)).await;
    }

    async fn session(&self, began: Instant) -> Flooded {
        let mut done = Flooded::default();
        let mut open: Option<Line> = None;
        while self.begin() {
            self.keep_pace(began).await;
            let result = self.transact(&mut open).await;
            match result {
                Ok(answer) => {
                    done.accepted += 1;
                    done.took = began.elapsed();
                    done.answers_us.push(u32::try_from(answer.as_micros()).unwrap_or(u32::MAX));
                }
                Err(why) => {
                    open = None;
                    done.failed += 1;
                    done.first_failure.get_or_insert(why);
                    sleep(FAILURE_PAUSE).await;
                }
            }
        }
        if let Some(open) = open {
            // Manners only.
            open.quit().await.ok();
        }
        done
    }

    /// One message; how long the final dot waited for its 250.
    async fn transact(&self, open: &mut Option<Line>) -> Result<Duration, String> {
        if let Some(line) = open.take_if(|line| line.served >= self.plan.messages_per_connection) {
            line.quit().await?;
        }
        let line = match open {
            Some(line) => line,
            None => open.insert(Line::open(self.plan.target).await?),
        };
        line.write(self.envelope.as_bytes()).await?;
        line.replies(3).await?;
        line.write(&self.wire).await?;
        let sent = Instant::now();
        line.replies(1).await?;
        line.served += 1;
        Ok(sent.elapsed())
    }
}

/// A connection after its EHLO.
struct Line {
    stream: TcpStream,
    input: BytesMut,
    served: u32,
}

impl Line {
    async fn open(target: SocketAddr) -> Result<Self, String> {
        let opening = async {
            let stream = TcpStream::connect(target).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let mut line = Self { stream, input: BytesMut::with_capacity(1024), served: 0 };
            line.replies(1).await?;
            line.write(b"EHLO client.test\r\n").await?;
            line.replies(1).await?;
            Ok(line)
        };
        timeout(REPLY_PATIENCE, opening).await.unwrap_or_else(|_| Err("no greeting in time".to_owned()))
    }

    async fn quit(mut self) -> Result<(), String> {
        self.write(b"QUIT\r\n").await?;
        self.replies(1).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(|error| error.to_string())
    }

    /// Reads so many whole replies, all of them positive.
    async fn replies(&mut self, mut wanted: usize) -> Result<(), String> {
        loop {
            while let Some(end) = memchr(b'\n', &self.input) {
                let line = self.input.get(..end).unwrap_or_default();
                if !matches!(line.first(), Some(b'2' | b'3')) {
                    return Err(String::from_utf8_lossy(line).trim().to_owned());
                }
                let last = line.get(3) != Some(&b'-');
                self.input.advance(end + 1);
                wanted -= usize::from(last);
                if wanted == 0 {
                    return Ok(());
                }
            }
            self.input.reserve(512);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
