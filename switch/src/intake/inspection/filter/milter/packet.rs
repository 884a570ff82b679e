//! Packets: four octets of length, a command, its data.

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

use super::super::wire::Wire;

/// The longest that is read. A milter's largest is a piece of a new body, or a long field.
const PACKET_MAX: u32 = 2 << 20;

/// A connection that speaks packets.
pub(super) struct Packets(BufWriter<Wire>);

impl Packets {
    pub(super) fn new(wire: Wire) -> Self {
        Self(BufWriter::new(wire))
    }

    /// Sends one, or keeps it until more has come together.
    pub(super) async fn send(&mut self, command: u8, data: &[u8]) -> Result<(), String> {
        let length = u32::try_from(data.len() + 1).map_err(|error| error.to_string())?;
        let sent = async {
            self.0.write_all(&length.to_be_bytes()).await?;
            self.0.write_all(&[command]).await?;
            self.0.write_all(data).await
        };
        sent.await.map_err(|error: std::io::Error| error.to_string())
    }

    pub(super) async fn flush(&mut self) -> Result<(), String> {
        self.0.flush().await.map_err(|error| error.to_string())
    }

    /// The next from the milter: its command and data.
    pub(super) async fn receive(&mut self) -> Result<(u8, Vec<u8>), String> {
        self.flush().await?;
        let wire = self.0.get_mut();
        let length = wire.read_u32().await.map_err(|error| error.to_string())?;
        if !(1..=PACKET_MAX).contains(&length) {
            return Err(format!("a packet of {length} octets is no packet of a milter"));
        }
        let command = wire.read_u8().await.map_err(|error| error.to_string())?;
        let mut data = Vec::new();
        let read = wire.take(u64::from(length - 1)).read_to_end(&mut data).await;
        let read = read.map_err(|error| error.to_string())?;
        if u32::try_from(read) != Ok(length - 1) {
            return Err("it closed within a packet".to_owned());
        }
        Ok((command, data))
    }
}

/// Words, each ended by a zero octet. What is within one would end it early and is left out.
pub(super) fn joined(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| word.bytes().filter(|byte| *byte != 0).chain([0])).collect()
}
