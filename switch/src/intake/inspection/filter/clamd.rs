//! clamd, the daemon of `ClamAV`: the message as a stream of pieces, and a line for an answer. See INSTREAM in clamd(8).

use mail_model::{EnhancedStatus, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::Wire;
use crate::intake::inspection::exhibit::{Exhibit, Opinion};

const PIECE: usize = 64 << 10;
/// An answer is a short line.
const ANSWER_MAX: u64 = 4 << 10;

/// Has a message scanned.
pub(super) async fn ask(mut wire: Wire, exhibit: &Exhibit) -> Result<Opinion, String> {
    // Past its own limit clamd answers and closes while we write: its answer says more than our error.
    let sent = send(&mut wire, &exhibit.content).await;
    let mut answer = Vec::new();
    let read = (&mut wire).take(ANSWER_MAX).read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let answer = answer.trim_end_matches(['\0', '\n']);
    if answer.is_empty() {
        sent.and(read.map(|_| ())).map_err(|error| error.to_string())?;
        return Err("it closed without an answer".to_owned());
    }
    opinion(answer)
}

async fn send(wire: &mut Wire, content: &[u8]) -> std::io::Result<()> {
    wire.write_all(b"zINSTREAM\0").await?;
    for piece in content.chunks(PIECE) {
        let length = u32::try_from(piece.len()).map_err(std::io::Error::other)?;
        wire.write_all(&length.to_be_bytes()).await?;
        wire.write_all(piece).await?;
    }
    wire.write_all(&0_u32.to_be_bytes()).await?;
    wire.flush().await
}

fn opinion(answer: &str) -> Result<Opinion, String> {
    let said = answer.strip_prefix("stream: ").unwrap_or(answer);
    if said == "OK" {
        return Ok(Opinion::fields(String::new()));
    }
    match said.strip_suffix(" FOUND") {
        // RFC 3463 3.8: the message violates a policy.
        Some(virus) => {
            let text = format!("the message contains {virus}");
            Ok(Opinion::Refuse(Reply::local(554, EnhancedStatus::new(5, 7, 1), text)))
        }
        None => Err(format!("it says '{said}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_passes_only_when_clamd_says_so() {
        assert!(matches!(opinion("stream: OK"), Ok(Opinion::Changes(_))));
        let Ok(Opinion::Refuse(reply)) = opinion("stream: Eicar-Test-Signature FOUND") else { panic!() };
        assert_eq!(reply.to_string(), "554 5.7.1 the message contains Eicar-Test-Signature");
        for answer in
            ["INSTREAM size limit exceeded. ERROR", "stream: ", "", "UNKNOWN COMMAND", "stream: OKAY"]
        {
            assert!(opinion(answer).is_err(), "{answer}");
        }
    }
}
