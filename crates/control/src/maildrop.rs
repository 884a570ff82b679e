//! The maildrop: a directory in which programs of this machine leave mail for its switch, one file a message. The switch picks
//! it up, now or when it runs again.
//!
//! A file is one line of JSON, the [`Letter`], and then the content with CRLF at every line's end. It gets its name when it is
//! whole and on disk, so nobody sees half of one.
//!
//! Anybody may leave a file (the directory's mode is 1733: write, but not list), so what is in one is believed no more than
//! what a client says; its owner is who the file system says it is.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mail_model::{DsnReturn, Envelope, Mailbox, Notify, OriginalRecipient, Recipient, ReversePath};
use serde::{Deserialize, Serialize};

/// The directory under `node.state_dir`.
const DIRECTORY: &str = "maildrop";
/// How the name of a whole file ends.
const WHOLE: &str = "letter";
/// How the name of a file ends while it is picked up.
const TAKEN: &str = "taken";
/// How the name of a file ends that could not be understood.
const REFUSED: &str = "refused";
/// The longest first line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The mode of the directory: everybody may leave a file, only its owner may look.
pub const MODE: u32 = 0o1733;

/// Who a message is from and for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// The format, 1.
    version: u8,
    /// The reverse-path; empty for the null path.
    from: String,
    /// Recipients.
    to: Vec<String>,
    /// True if the content has octets above 127.
    pub eight_bit: bool,
    /// What is wished of reports; older switches know none and would not take it.
    #[serde(default, skip_serializing_if = "Wishes::is_empty")]
    wishes: Wishes,
}

/// What a sender wishes of reports, as it is written on a command line. RFC 3461.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wishes {
    /// When: `never`, or a list of `success`, `failure` and `delay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// With what: `full` or `hdrs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<String>,
    /// By which name of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
    /// Only under verified TLS. RFC 8689.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_tls: bool,
    /// Of the recipients one by one, in their order; what is said here goes before what is said of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<Wish>,
}

/// What a sender wishes of reports on one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// When: as in [`Wishes::notify`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// For whom its sender wrote it (ORCPT=), not in xtext: `rfc822;user@example.test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
}

impl Wish {
    fn of(recipient: &Recipient) -> Self {
        let original = recipient.original.as_ref();
        Self {
            notify: recipient.notify.map(told),
            original: original.map(|original| format!("{};{}", original.address_type, original.address)),
        }
    }

    fn apply(&self, recipient: &mut Recipient) -> Result<(), String> {
        if let Some(text) = &self.notify {
            recipient.notify = Some(notify(text)?);
        }
        if let Some(text) = &self.original {
            // RFC 3461 4.2: a kind of address, an atom, and an address that can be printed; 500 characters.
            let atom = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let parts = text.split_once(';').filter(|(kind, address)| {
                let printable = !address.is_empty() && !address.chars().any(char::is_control);
                !kind.is_empty() && kind.chars().all(atom) && printable && text.len() <= 500
            });
            let (kind, address) = parts.ok_or_else(|| {
                format!("'{text}': write an original recipient as rfc822;user@example.test")
            })?;
            recipient.original =
                Some(OriginalRecipient { address_type: kind.into(), address: address.into() });
        }
        Ok(())
    }
}

impl Wishes {
    /// Those of an envelope, and of some of its recipients.
    #[must_use]
    pub fn of<'a>(envelope: &Envelope, recipients: impl IntoIterator<Item = &'a Recipient>) -> Self {
        let ret = envelope.ret.map(|ret| match ret {
            DsnReturn::Full => "full".to_owned(),
            DsnReturn::Headers => "hdrs".to_owned(),
        });
        let mut each: Vec<Wish> = recipients.into_iter().map(Wish::of).collect();
        if each.iter().all(|wish| *wish == Wish::default()) {
            each.clear();
        }
        let envid = envelope.envid.as_deref().map(str::to_owned);
        Self { notify: None, ret, envid, require_tls: envelope.require_tls, each }
    }

    /// True if nothing is wished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts them into an envelope whose recipients are known. The error is for a person.
    pub fn apply(&self, envelope: &mut Envelope) -> Result<(), String> {
        if let Some(text) = &self.notify {
            let notify = notify(text)?;
            envelope.recipients.iter_mut().for_each(|recipient| recipient.notify = Some(notify));
        }
        if let Some(text) = &self.ret {
            envelope.ret = Some(match text.to_ascii_lowercase().as_str() {
                "full" => DsnReturn::Full,
                "hdrs" => DsnReturn::Headers,
                _ => return Err(format!("'{text}': write full or hdrs")),
            });
        }
        if let Some(text) = &self.envid {
            // RFC 3461 4.4 and 5.4: printable, at most 100 characters.
            if text.is_empty() || text.len() > 100 || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err("an envelope id is 1 to 100 printable ASCII characters".to_owned());
            }
            envelope.envid = Some(text.as_str().into());
        }
        envelope.require_tls |= self.require_tls;
        let (wishes, recipients) = (self.each.len(), envelope.recipients.len());
        if wishes > recipients {
            return Err(format!("wishes of {wishes} recipients, and there are {recipients}"));
        }
        envelope.recipients.iter_mut().zip(&self.each).try_for_each(|(recipient, wish)| wish.apply(recipient))
    }
}

/// As [`notify`] reads it.
fn told(notify: Notify) -> String {
    let words = [(notify.success, "success"), (notify.failure, "failure"), (notify.delay, "delay")];
    let said: Vec<&str> = words.into_iter().filter(|(said, _)| *said).map(|(_, word)| word).collect();
    if said.is_empty() { "never".to_owned() } else { said.join(",") }
}

/// RFC 3461 4.1: `NEVER` alone, or a list of the others.
fn notify(text: &str) -> Result<Notify, String> {
    let mut found = Notify::NEVER;
    if text.trim().eq_ignore_ascii_case("never") {
        return Ok(found);
    }
    for word in text.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "success" => found.success = true,
            "failure" => found.failure = true,
            "delay" => found.delay = true,
            _ => return Err(format!("'{text}': write never, or some of success,failure,delay")),
        }
    }
    Ok(found)
}

impl Letter {
    /// A letter.
    #[must_use]
    pub fn new(from: &ReversePath, to: &[Mailbox], eight_bit: bool) -> Self {
        let to = to.iter().map(ToString::to_string).collect();
        Self { version: 1, from: from.to_string(), to, eight_bit, wishes: Wishes::default() }
    }

    /// The same with wishes.
    #[must_use]
    pub fn wishing(self, wishes: Wishes) -> Self {
        Self { wishes, ..self }
    }

    /// What its sender wishes of reports.
    #[must_use]
    pub fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// Its addresses. The error is for a person.
    pub fn addresses(&self) -> Result<(ReversePath, Vec<Mailbox>), String> {
        let mailbox = |text: &str| Mailbox::parse_stored(text).map_err(|error| format!("'{text}': {error}"));
        if self.version != 1 {
            return Err(format!("version {} is not known here", self.version));
        }
        let from = match self.from.as_str() {
            "" => ReversePath::Null,
            text => ReversePath::Mailbox(mailbox(text)?),
        };
        if self.to.is_empty() {
            return Err("it has no recipient".to_owned());
        }
        Ok((from, self.to.iter().map(|text| mailbox(text)).collect::<Result<_, _>>()?))
    }
}

/// Where the maildrop of a node is.
#[must_use]
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}

/// Leaves a message, under `name`, which must not be in use. When it returns the message is on disk.
pub fn leave(directory: &Path, name: &str, letter: &Letter, content: &[u8]) -> io::Result<PathBuf> {
    let (part, whole) = (directory.join(format!("{name}.part")), directory.join(format!("{name}.{WHOLE}")));
    // Others may read it, for the switch is another user; they cannot list the directory, and names cannot be guessed.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&part)?;
    let mut out = BufWriter::new(file);
    let written = (|| {
        serde_json::to_writer(&mut out, letter)?;
        out.write_all(b"\n")?;
        out.write_all(content)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        rename(&part, &whole)
    })();
    if let Err(error) = written {
        std::fs::remove_file(&part).ok();
        return Err(error);
    }
    match File::open(directory) {
        Ok(directory) => directory.sync_all()?,
        // Who may not list it cannot sync it: the file's own sync has to do.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => out.get_ref().sync_all()?,
        Err(error) => return Err(error),
    }
    Ok(whole)
}

/// A file in the maildrop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    path: PathBuf,
    /// It was being picked up when the switch ended: it may be in the queue already.
    pub in_doubt: bool,
}

/// What lies in the maildrop, by name.
pub fn slots(directory: &Path) -> io::Result<Vec<Slot>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension().and_then(|end| end.to_str()) {
            Some(WHOLE) => found.push(Slot { path, in_doubt: false }),
            Some(TAKEN) => found.push(Slot { path, in_doubt: true }),
            Some(_) | None => {}
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A message that was left.
#[derive(Debug)]
pub struct Left {
    /// Who it is from and for.
    pub letter: Letter,
    /// Whose file it is.
    pub uid: u32,
    /// Bytes of content.
    pub size: u64,
    /// The content.
    pub content: BufReader<File>,
}

impl Slot {
    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Opens it. Who left it cannot make us read anything but a file of its own.
    pub fn open(&self) -> io::Result<Left> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(&self.path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file of its own"));
        }
        let mut content = BufReader::new(file);
        let mut line = Vec::new();
        (&mut content).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let letter: Letter = serde_json::from_slice(&line).map_err(io::Error::from)?;
        let size = meta.len().saturating_sub(line.len() as u64);
        Ok(Left { letter, uid: meta.uid(), size, content })
    }

    /// Marks it: if the switch ends before [`Self::remove`] it is in doubt.
    pub fn take(&mut self) -> io::Result<()> {
        self.renamed(TAKEN)
    }

    /// Takes the mark off: it is not in the queue.
    pub fn put_back(&mut self) -> io::Result<()> {
        self.renamed(WHOLE)
    }

    /// Sets it aside for a person.
    pub fn refuse(&mut self) -> io::Result<()> {
        self.renamed(REFUSED)
    }

    /// It is in the queue.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    fn renamed(&mut self, end: &str) -> io::Result<()> {
        let new = self.path.with_extension(end);
        rename(&self.path, &new)?;
        self.path = new;
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a maildrop is no queue: what is renamed here was synced, or is a mark"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let mailbox = |text| Mailbox::parse_stored(text).unwrap();
        Letter::new(&ReversePath::Mailbox(mailbox("me@a.test")), &[mailbox("you@b.test")], false)
    }

    #[test]
    fn what_is_left_is_found_whole_and_goes_when_it_is_in_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), "1", &letter(), b"Subject: x\r\n\r\ntext\r\n").unwrap();
        std::fs::write(dir.path().join("2.part"), b"half").unwrap();
        let mut slots = slots(dir.path()).unwrap();
        assert_eq!(slots.len(), 1);
        let mut slot = slots.pop().unwrap();
        let left = slot.open().unwrap();
        assert_eq!((left.letter.addresses().unwrap().1.len(), left.size), (1, 20));
        slot.take().unwrap();
        let marked = super::slots(dir.path()).unwrap();
        assert!(marked.iter().all(|slot| slot.in_doubt) && marked.len() == 1);
        slot.remove().unwrap();
        assert!(super::slots(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn wishes_of_reports_go_along_and_what_is_none_is_told() {
        let text = |text: &str| Some(text.to_owned());
        let wishes = Wishes {
            notify: text("Success, delay"),
            ret: text("HDRS"),
            envid: text("a b=c"),
            ..Wishes::default()
        };
        let line = serde_json::to_string(&letter().wishing(wishes.clone())).unwrap();
        let letter: Letter = serde_json::from_str(&line).unwrap();
        assert_eq!(*letter.wishes(), wishes);
        let mut envelope = Envelope::from_sender(ReversePath::Null);
        envelope.recipients.push(mail_model::Recipient::plain(letter.addresses().unwrap().1.remove(0)));
        letter.wishes().apply(&mut envelope).unwrap();
        let notify = Notify { success: true, failure: false, delay: true };
        assert_eq!(envelope.recipients[0].notify, Some(notify));
        assert_eq!((envelope.ret, envelope.envid.as_deref()), (Some(DsnReturn::Headers), Some("a b=c")));
        for bad in [
            Wishes { notify: text("never,delay"), ..Wishes::default() },
            Wishes { ret: text("some"), ..Wishes::default() },
            Wishes { envid: text("a\r\nb"), ..Wishes::default() },
            Wishes { envid: Some("x".repeat(101)), ..Wishes::default() },
        ] {
            assert!(bad.apply(&mut envelope).is_err(), "{bad:?}");
        }
        // As older programs of this machine write it.
        let plain: Letter =
            serde_json::from_str(r#"{"version":1,"from":"","to":["a@b.test"],"eight_bit":false}"#).unwrap();
        assert_eq!(*plain.wishes(), Wishes::default());
    }

    #[test]
    fn the_wishes_of_an_envelope_are_written_down_and_read_as_they_were() {
        let mut envelope = Envelope::from_sender(ReversePath::Null);
        envelope.ret = Some(DsnReturn::Headers);
        envelope.envid = Some("QQ 1".into());
        envelope.require_tls = true;
        let address = |text| Mailbox::parse_stored(text).unwrap();
        for (notify, original) in [
            (None, None),
            (Some(Notify::NEVER), Some(("rfc822", "alias@b.test"))),
            (Some(Notify { success: true, failure: false, delay: true }), Some(("utf-8", "j\u{fc}@b.test"))),
        ] {
            let original = original.map(|(kind, address)| OriginalRecipient {
                address_type: kind.into(),
                address: address.into(),
            });
            envelope.recipients.push(Recipient {
                notify,
                original,
                ..Recipient::plain(address("you@b.test"))
            });
        }
        let text = serde_json::to_string(&Wishes::of(&envelope, &envelope.recipients)).unwrap();
        let mut again = Envelope::from_sender(ReversePath::Null);
        again.recipients = vec![Recipient::plain(address("you@b.test")); 3];
        serde_json::from_str::<Wishes>(&text).unwrap().apply(&mut again).unwrap();
        assert_eq!(again, envelope, "{text}");
        // Nothing wished is nothing written, and what cannot be meant is told.
        assert!(Wishes::of(&Envelope::from_sender(ReversePath::Null), &[]).is_empty());
        again.recipients.truncate(1);
        for bad in [
            r#"{"each":[{},{}]}"#,
            r#"{"each":[{"notify":"always"}]}"#,
            r#"{"each":[{"original":"no-kind@b.test"}]}"#,
            r#"{"each":[{"original":"rfc822;"}]}"#,
        ] {
            assert!(serde_json::from_str::<Wishes>(bad).unwrap().apply(&mut again).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_to_another_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, b"{}\n").unwrap();
        std::os::unix::fs::symlink(&secret, dir.path().join("a.letter")).unwrap();
        std::fs::hard_link(&secret, dir.path().join("b.letter")).unwrap();
        for slot in slots(dir.path()).unwrap() {
            assert!(slot.open().is_err(), "{slot:?}");
        }
    }
}
