//! What a milter wants changed at the end of a message. Nothing of it happens unless the message is taken.

use mail_model::Recipient;
use message::edit::{self, Edit};

use crate::intake::inspection::exhibit::{Changes, Exhibit};

/// Bits of what a milter said it would do. `SMFIF_*` of sendmail.
const ADD_FIELDS: u32 = 0x01;
const CHANGE_BODY: u32 = 0x02;
const ADD_RECIPIENTS: u32 = 0x04;
const REMOVE_RECIPIENTS: u32 = 0x08;
const CHANGE_FIELDS: u32 = 0x10;
const QUARANTINE: u32 = 0x20;
/// A new body is no larger.
const BODY_MAX: usize = 64 << 20;

/// What was wanted so far.
#[derive(Debug)]
pub(super) struct Wishes<'a> {
    pub(super) allowed: u32,
    edit: Edit<'a>,
    top: Vec<String>,
    body: Option<Vec<u8>>,
    recipients: Vec<Recipient>,
    moved: bool,
    hold: Option<String>,
}

impl<'a> Wishes<'a> {
    pub(super) fn new(exhibit: &'a Exhibit) -> Self {
        Self {
            allowed: 0,
            edit: Edit::of(&exhibit.content),
            top: Vec::new(),
            body: None,
            recipients: exhibit.envelope.recipients.clone(),
            moved: false,
            hold: None,
        }
    }

    /// Notes one. An error if it is not understood, or was not announced.
    pub(super) fn take(&mut self, command: u8, data: &[u8]) -> Result<(), String> {
        let right = match command {
            b'h' | b'i' => ADD_FIELDS,
            b'm' => CHANGE_FIELDS,
            b'b' => CHANGE_BODY,
            b'+' => ADD_RECIPIENTS,
            b'-' => REMOVE_RECIPIENTS,
            b'q' => QUARANTINE,
            other => return Err(format!("it wants '{}', which was not agreed upon", char::from(other))),
        };
        if self.allowed & right == 0 {
            return Err(format!("it wants '{}', which it did not announce", char::from(command)));
        }
        let unclear = || format!("its '{}' is not understood", char::from(command));
        match command {
            b'h' => {
                let [name, value] = words(data).ok_or_else(unclear)?;
                self.top.push(edit::field(&name, &value).ok_or_else(unclear)?);
            }
            b'i' => {
                let [name, value] = words(data.get(4..).unwrap_or_default()).ok_or_else(unclear)?;
                self.top.insert(0, edit::field(&name, &value).ok_or_else(unclear)?);
            }
            b'm' => self.change(data).ok_or_else(unclear)?,
            b'b' => {
                let body = self.body.get_or_insert_default();
                if body.len() + data.len() > BODY_MAX {
                    return Err("its new body is too large".to_owned());
                }
                body.extend_from_slice(data);
            }
            b'+' => {
                let [address] = words(data).ok_or_else(unclear)?;
                self.add(&address)?;
            }
            b'-' => {
                let [address] = words(data).ok_or_else(unclear)?;
                let address = address.trim_start_matches('<').trim_end_matches('>');
                self.recipients.retain(|own| !own.address.to_string().eq_ignore_ascii_case(address));
                self.moved = true;
            }
            _ => {
                let [why] = words(data).ok_or_else(unclear)?;
                self.hold = Some(format!("milter: {why}"));
            }
        }
        Ok(())
    }

    fn change(&mut self, data: &[u8]) -> Option<()> {
        let (number, rest) = data.split_first_chunk::<4>()?;
        let [name, value] = words(rest)?;
        // Some count from 0 and mean the first.
        let number = usize::try_from(u32::from_be_bytes(*number)).ok()?.max(1);
        if value.is_empty() {
            self.edit.remove(&name, number);
        } else {
            self.edit.set(&name, number, &value);
        }
        Some(())
    }

    fn add(&mut self, address: &str) -> Result<(), String> {
        let path = if address.starts_with('<') { address.to_owned() } else { format!("<{address}>") };
        let (mailbox, rest) =
            smtp::path::forward_path(&path).map_err(|error| format!("its recipient '{address}': {error}"))?;
        if !rest.is_empty() {
            return Err(format!("its recipient '{address}' is more than an address"));
        }
        if !self.recipients.iter().any(|own| own.address == mailbox) {
            self.recipients.push(Recipient::plain(mailbox));
            self.moved = true;
        }
        Ok(())
    }

    /// All of it, for a message that is taken.
    pub(super) fn changes(mut self) -> Changes {
        if let Some(body) = &self.body {
            self.edit.set_body(body);
        }
        Changes {
            top: self.top.concat(),
            content: self.edit.is_changed().then(|| self.edit.to_bytes().into()),
            hold: self.hold,
            discard: (self.moved && self.recipients.is_empty())
                .then(|| "a milter removed every recipient".to_owned()),
            recipients: (self.moved && !self.recipients.is_empty()).then_some(self.recipients),
        }
    }
}

/// Exactly so many words, each ended by a zero octet.
fn words<const N: usize>(data: &[u8]) -> Option<[String; N]> {
    let data = data.strip_suffix(&[0])?;
    let words: Vec<String> =
        data.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    words.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(wishes: &[(u8, &[u8])]) -> Result<Changes, String> {
        let exhibit = Exhibit::plain(b"Subject: a\r\nX: 1\r\nX: 2\r\n\r\nbody\r\n");
        let mut taken = Wishes::new(&exhibit);
        taken.allowed = 0x3f;
        for (command, data) in wishes {
            taken.take(*command, data)?;
        }
        Ok(taken.changes())
    }

    #[test]
    fn all_a_milter_may_wish_is_done() {
        let done = wished(&[
            (b'h', b"A\0 1\0"),
            (b'i', b"\0\0\0\x01B\0x\ny\0"),
            (b'm', b"\0\0\0\x01Subject\0new\0"),
            (b'm', b"\0\0\0\x02X\0\0"),
            (b'b', b"ot"),
            (b'b', b"her"),
            (b'+', b"<c@example.test>\0"),
            (b'-', b"<b@example.test>\0"),
            (b'q', b"odd\0"),
        ])
        .unwrap();
        assert_eq!(done.top, "B: x\r\n\ty\r\nA: 1\r\n");
        assert_eq!(done.content.unwrap(), &b"Subject: new\r\nX: 1\r\n\r\nother"[..]);
        let names: Vec<String> = done.recipients.unwrap().iter().map(|own| own.address.to_string()).collect();
        assert_eq!(names, ["c@example.test"]);
        assert_eq!(done.hold.as_deref(), Some("milter: odd"));
        let nobody = wished(&[(b'-', b"B@example.test\0")]).unwrap();
        assert!(nobody.discard.is_some() && nobody.recipients.is_none());
        assert!(wished(&[]).unwrap().content.is_none());
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_changes_nothing() {
        let broken: [(u8, &[u8]); 8] = [
            (b'h', b"A\0no end"),
            (b'h', b"A b\0x\0"),
            (b'i', b"\0\0"),
            (b'm', b"\0\0\0\x01X\0"),
            (b'+', b"<a@\0"),
            (b'+', b"a b\0c\0"),
            (b'e', b"<x@y>\0"),
            (b'?', b""),
        ];
        for (command, data) in broken {
            assert!(wished(&[(command, data)]).is_err(), "{} {data:?}", char::from(command));
        }
        let exhibit = Exhibit::plain(b"");
        assert!(Wishes::new(&exhibit).take(b'h', b"A\0x\0").is_err(), "not announced");
    }
}
