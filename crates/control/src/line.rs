//! The lines of a connection: their frame, their limit, how one is read.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::fault::Fault;
use crate::program::Program;

/// The version of the lines. Another one is refused.
pub const VERSION: u32 = 1;

/// The longest line, its end included. A longer request is refused, a longer answer becomes a fault.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What one program can be asked. Its answer belongs to it.
pub trait Request: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What comes back.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// A request line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call<R> {
    pub(crate) version: u32,
    /// How long the caller waits, from the arrival of the line. Absent: as long as the server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) request: R,
}

/// The first line of a connection between nodes: who is asked there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) version: u32,
    pub(crate) program: Program,
}

/// The part of a request line that every version has.
#[derive(Debug, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) version: u32,
}

/// An answer line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply<A> {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) outcome: Outcome<A>,
}

/// What an answer line bears.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome<A> {
    Answer(A),
    Fault(Fault),
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A whole line, without its end.
    Line(Vec<u8>),
    /// The other side closed between two lines.
    End,
    /// More than the limit without a line end.
    TooLong,
    /// The other side closed within a line.
    Cut,
}

/// Reads one line. Memory grows with what has arrived, up to the limit.
pub(crate) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Read> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(limit).read_until(b'\n', &mut line).await?;
    Ok(match line.pop() {
        None => Read::End,
        Some(b'\n') => Read::Line(line),
        Some(_) if line.len() + 1 >= LINE_BYTES_MAX => Read::TooLong,
        Some(_) => Read::Cut,
    })
}

/// A value as one line with its end; `None` if it is too long or not JSON.
pub(crate) fn written(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(value).ok()?;
    line.push(b'\n');
    (line.len() <= LINE_BYTES_MAX).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first(bytes: &[u8]) -> Read {
        read(&mut tokio::io::BufReader::new(bytes)).await.unwrap()
    }

    #[tokio::test]
    async fn a_line_ends_at_its_line_end_and_nowhere_else() {
        assert_eq!(first(b"a\nb\n").await, Read::Line(b"a".to_vec()));
        assert_eq!(first(b"").await, Read::End);
        assert_eq!(first(b"a").await, Read::Cut);
    }

    #[tokio::test]
    async fn the_limit_is_the_longest_line_and_not_one_byte_more() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(first(&bytes).await, Read::TooLong);
        bytes[LINE_BYTES_MAX - 1] = b'\n';
        assert_eq!(first(&bytes).await, Read::Line(vec![b'x'; LINE_BYTES_MAX - 1]));
    }
}
