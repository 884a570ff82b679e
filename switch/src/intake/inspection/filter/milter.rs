//! A milter, over the protocol of sendmail, version 6. The whole message is shown in one go once it is there, so what a milter says
//! of the client, of the sender or of one recipient counts for the message.
//!
//! What it may do at the end: fields added and inserted (both come on top), changed and removed, another body, recipients added and
//! removed, quarantine. A new connection for each message. Packets are in `packet`, what is asked of the message in `wishes`.

mod packet;
mod wishes;

use std::net::IpAddr;

use mail_model::{EnhancedStatus, Reply};
use message::edit::Edit;

use self::packet::{Packets, joined};
use self::wishes::Wishes;
use super::wire::Wire;
use crate::intake::inspection::exhibit::{Changes, Exhibit, Opinion};

/// Version, and what a milter may do: add, change body, add and remove recipients, change fields, quarantine.
const VERSION: u32 = 6;
const ACTIONS: u32 = 0x3f;
/// A milter may skip any step (1 to 0x200), cut the body short (0x400), and say nothing to any step (0x80 to 0x80000).
const STEPS: u32 = 0x000f_f7ff;
const BODY_PIECE: usize = 65_535;

/// A step of the talk: its command, and by which bits a milter does without it or does not answer it.
#[derive(Debug, Clone, Copy)]
struct Step {
    command: u8,
    without: u32,
    silent: u32,
}

const CONNECT: Step = Step { command: b'C', without: 0x1, silent: 0x1000 };
const HELO: Step = Step { command: b'H', without: 0x2, silent: 0x2000 };
const MAIL: Step = Step { command: b'M', without: 0x4, silent: 0x4000 };
const RCPT: Step = Step { command: b'R', without: 0x8, silent: 0x8000 };
const DATA: Step = Step { command: b'T', without: 0x200, silent: 0x1_0000 };
const HEADER: Step = Step { command: b'L', without: 0x20, silent: 0x80 };
const END_OF_HEADER: Step = Step { command: b'N', without: 0x40, silent: 0x4_0000 };
const BODY: Step = Step { command: b'B', without: 0x10, silent: 0x8_0000 };
const END: Step = Step { command: b'E', without: 0, silent: 0 };

/// What a milter said to a step.
#[derive(Debug)]
enum Said {
    Continue,
    /// It has seen enough of the body.
    Skip,
    Accept,
    Discard,
    Refuse(Reply),
}

struct Talk<'a> {
    packets: Packets,
    /// Bits of what the milter does without.
    steps: u32,
    wishes: Wishes<'a>,
}

/// Shows a message.
pub(super) async fn ask(wire: Wire, exhibit: &Exhibit, hostname: &str) -> Result<Opinion, String> {
    let mut talk = Talk { packets: Packets::new(wire), steps: 0, wishes: Wishes::new(exhibit) };
    talk.negotiate().await?;
    let said = talk.show(exhibit, hostname).await?;
    // It may have gone already: what it said counts.
    talk.packets.send(b'Q', &[]).await.ok();
    talk.packets.flush().await.ok();
    Ok(match said {
        Said::Continue | Said::Accept | Said::Skip => Opinion::Changes(Box::new(talk.wishes.changes())),
        Said::Discard => {
            let changes = Changes { discard: Some("a milter says discard".to_owned()), ..Changes::default() };
            Opinion::Changes(Box::new(changes))
        }
        Said::Refuse(reply) => Opinion::Refuse(reply),
    })
}

impl Talk<'_> {
    async fn negotiate(&mut self) -> Result<(), String> {
        let offer = [VERSION, ACTIONS, STEPS].map(u32::to_be_bytes).concat();
        self.packets.send(b'O', &offer).await?;
        let (kind, answer) = self.packets.receive().await?;
        let number = |place: usize| -> Option<u32> {
            Some(u32::from_be_bytes(answer.get(place..place + 4)?.try_into().ok()?))
        };
        let (Some(version), Some(actions), Some(steps), b'O') = (number(0), number(4), number(8), kind)
        else {
            return Err("it does not negotiate as a milter does".to_owned());
        };
        if !(2..=VERSION).contains(&version) || steps & !STEPS != 0 {
            return Err(format!(
                "it speaks version {version} and wants steps {steps:#x}, which are not known here"
            ));
        }
        self.wishes.allowed = actions & ACTIONS;
        // Versions before 4 know no DATA.
        self.steps = if version < 4 { steps | DATA.without } else { steps };
        Ok(())
    }

    async fn show(&mut self, exhibit: &Exhibit, hostname: &str) -> Result<Said, String> {
        let client = exhibit.client.to_canonical();
        let address = client.to_string();
        let family = match client {
            IpAddr::V4(_) => b'4',
            IpAddr::V6(_) => b'6',
        };
        let bracketed = format!("[{address}]");
        let name = exhibit.client_name.as_deref().unwrap_or(&bracketed);
        let connect = [name.as_bytes(), &[0, family, 0, 0], address.as_bytes(), &[0]].concat();
        let sender = format!("<{}>", exhibit.envelope.reverse_path);
        let plain = exhibit.envelope.reverse_path.to_string();
        let mut macros = vec!["i", exhibit.id.as_str(), "{mail_addr}", &plain];
        if let Some(user) = &exhibit.user {
            macros.extend(["{auth_authen}", user.as_str()]);
        }
        let first = [
            "j",
            hostname,
            "{daemon_name}",
            "mailswitch",
            "v",
            "mailswitch",
            "{client_addr}",
            &address,
            "_",
            name,
        ];
        let opening = [
            (CONNECT, joined(&first), connect),
            (HELO, Vec::new(), joined(&[&exhibit.helo])),
            (MAIL, joined(&macros), joined(&[&sender])),
        ];
        for (step, macros, data) in opening {
            if let Some(end) = self.step(step, &macros, &data).await? {
                return Ok(end);
            }
        }
        for recipient in &exhibit.envelope.recipients {
            let plain = recipient.address.to_string();
            let data = joined(&[&format!("<{plain}>")]);
            if let Some(end) = self.step(RCPT, &joined(&["{rcpt_addr}", &plain]), &data).await? {
                return Ok(end);
            }
        }
        if let Some(end) = self.step(DATA, &joined(&["i", &exhibit.id]), &[]).await? {
            return Ok(end);
        }
        self.show_content(exhibit).await
    }

    async fn show_content(&mut self, exhibit: &Exhibit) -> Result<Said, String> {
        let edit = Edit::of(&exhibit.content);
        for (name, value) in edit.fields() {
            // A milter knows line ends within a field as LF.
            let value: Vec<u8> = value.iter().copied().filter(|byte| !matches!(byte, b'\r' | 0)).collect();
            let data = [name, &[0], value.as_slice(), &[0]].concat();
            if let Some(end) = self.step(HEADER, &[], &data).await? {
                return Ok(end);
            }
        }
        if let Some(end) = self.step(END_OF_HEADER, &[], &[]).await? {
            return Ok(end);
        }
        for piece in edit.body().chunks(BODY_PIECE) {
            match self.step(BODY, &[], piece).await? {
                None => {}
                Some(Said::Skip) => break,
                Some(end) => return Ok(end),
            }
        }
        self.packets.send(b'D', &[&[END.command][..], &joined(&["i", &exhibit.id])].concat()).await?;
        self.packets.send(END.command, &[]).await?;
        self.answer(true).await
    }

    /// One step, if the milter wants it. `Some` ends the talk, or the body.
    async fn step(&mut self, step: Step, macros: &[u8], data: &[u8]) -> Result<Option<Said>, String> {
        if self.steps & step.without != 0 {
            return Ok(None);
        }
        if !macros.is_empty() {
            self.packets.send(b'D', &[&[step.command][..], macros].concat()).await?;
        }
        self.packets.send(step.command, data).await?;
        if self.steps & step.silent != 0 {
            return Ok(None);
        }
        match self.answer(false).await? {
            Said::Continue => Ok(None),
            other @ (Said::Skip | Said::Accept | Said::Discard | Said::Refuse(_)) => Ok(Some(other)),
        }
    }

    async fn answer(&mut self, at_end: bool) -> Result<Said, String> {
        self.packets.flush().await?;
        loop {
            let (kind, data) = self.packets.receive().await?;
            let refusal = |code, class, text| {
                Ok(Said::Refuse(Reply::local(code, EnhancedStatus::new(class, 7, 1), text)))
            };
            match kind {
                b'c' => return Ok(Said::Continue),
                b's' => return Ok(Said::Skip),
                b'a' => return Ok(Said::Accept),
                b'd' => return Ok(Said::Discard),
                b'r' => return refusal(550, 5, "the message is refused by a filter"),
                b't' => return refusal(451, 4, "the message is not taken now, try again later"),
                b'y' => return Ok(Said::Refuse(reply(&data)?)),
                // It works, and wants more time, which it has.
                b'p' => {}
                other if at_end => self.wishes.take(other, &data)?,
                other => return Err(format!("it says '{}', which has no place here", char::from(other))),
            }
        }
    }
}

/// `550 5.7.1 text`, or several such lines.
fn reply(data: &[u8]) -> Result<Reply, String> {
    let text = String::from_utf8_lossy(data);
    let text = text.trim_end_matches('\0');
    let code = text.get(..3).and_then(|code| code.parse().ok()).filter(|code| (400..=599).contains(code));
    let code =
        code.ok_or_else(|| format!("it answers with '{}', which refuses nothing", text.escape_debug()))?;
    let line = text.get(4..).unwrap_or_default().lines().next().unwrap_or_default();
    let mut reply = Reply::from_peer(code, line);
    let class = if code < 500 { 4 } else { 5 };
    if reply.enhanced.is_none_or(|status| status.class != class) {
        reply.enhanced = Some(EnhancedStatus::new(class, 7, 1));
    }
    // 421 would end the session, which is not the milter's to end. RFC 5321 3.8.
    if reply.code == 421 {
        reply.code = 451;
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_its_own_refuses_and_never_ends_the_session() {
        assert_eq!(reply(b"550 5.7.9 no\0").unwrap().to_string(), "550 5.7.9 no");
        assert_eq!(reply(b"421 gone\0").unwrap().to_string(), "451 4.7.1 gone");
        assert_eq!(reply(b"554-5.1.1 a\r\n554 5.1.1 b\0").unwrap().to_string(), "554 5.1.1 a");
        assert_eq!(reply(b"550 2.0.0 x\0").unwrap().to_string(), "550 5.7.1 x");
        for data in [&b"250 ok\0"[..], b"", b"5", b"\xff\xff\xff\xff"] {
            assert!(reply(data).is_err());
        }
    }
}
