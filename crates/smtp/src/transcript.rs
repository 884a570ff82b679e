//! A dialogue as a third may read it, line by line: without what proves who somebody is, and without messages.
//!
//! It is fed the bytes of both sides in the order in which they went over the line, and makes of them lines for people:
//!
//! | bytes | shown |
//! |---|---|
//! | commands, replies | as they are, cut at [`TEXT_MAX`], control characters escaped |
//! | what AUTH says after its mechanism, until it is answered | `(not shown)` |
//! | content after a 354, BDAT's octets | how many octets there were |
//! | whatever comes behind DATA before its answer | nothing, unless DATA is refused |
//!
//! Where the two sides cannot be told apart for sure, less is shown. It decides nothing: neither side notices it.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use crate::dot::{Decoded, DotDecoder};

/// The longest text of a line, in characters.
pub const TEXT_MAX: usize = 500;
/// The longest line that is waited for.
const LINE_MAX: usize = 8 << 10;
/// What is kept that was sent behind DATA.
const AHEAD_MAX: usize = 64 << 10;
/// Commands whose answers are waited for. A client that sends more is not understood any more.
const ASKED_MAX: usize = 2_000;
/// What stands for what is not shown.
const HIDDEN: &str = "(not shown)";

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Who gives the mail.
    Client,
    /// Who takes it.
    Server,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Who said it.
    pub by: Party,
    /// What, for people.
    pub text: String,
}

/// What the client is saying.
#[derive(Debug)]
enum State {
    Commands,
    /// DATA, which is not answered yet.
    Offered,
    Content(DotDecoder),
    Chunk(u64),
    Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Data,
    Auth,
    Other,
}

/// One dialogue, from its greeting on or between two commands.
#[derive(Debug)]
pub struct Transcript {
    client: BytesMut,
    server: BytesMut,
    state: State,
    asked: VecDeque<Asked>,
    hidden: u64,
}

impl Default for Transcript {
    fn default() -> Self {
        Self {
            client: BytesMut::new(),
            server: BytesMut::new(),
            state: State::Commands,
            asked: VecDeque::new(),
            hidden: 0,
        }
    }
}

impl Transcript {
    /// `by` said these bytes.
    pub fn hear(&mut self, by: Party, bytes: &[u8], out: &mut Vec<Spoken>) {
        match by {
            Party::Client => {
                self.client.extend_from_slice(bytes);
                while self.read_client(out) {}
            }
            Party::Server => {
                self.server.extend_from_slice(bytes);
                while let Some(line) = take_line(&mut self.server) {
                    self.reply(&line, out);
                    while self.read_client(out) {}
                }
            }
        }
    }

    /// False if nothing more can be said before more is heard.
    fn read_client(&mut self, out: &mut Vec<Spoken>) -> bool {
        match &mut self.state {
            State::Commands => match take_line(&mut self.client) {
                Some(line) => {
                    self.command(&line, out);
                    true
                }
                None => false,
            },
            State::Secret => match take_line(&mut self.client) {
                Some(_) => {
                    say(Party::Client, HIDDEN, out);
                    true
                }
                None => false,
            },
            State::Offered => {
                if self.client.len() > AHEAD_MAX {
                    self.hidden += self.client.len() as u64;
                    self.client.clear();
                }
                false
            }
            State::Content(decoder) => match decoder.decode(&mut self.client) {
                Decoded::Body(piece) => {
                    self.hidden += piece.len() as u64;
                    true
                }
                Decoded::More => false,
                Decoded::End => {
                    self.tell_hidden(out);
                    say(Party::Client, ".", out);
                    self.ask(Asked::Other);
                    self.state = State::Commands;
                    true
                }
            },
            State::Chunk(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(self.client.len());
                self.client.advance(now);
                self.hidden += now as u64;
                *left = left.saturating_sub(now as u64);
                if *left > 0 {
                    return false;
                }
                self.tell_hidden(out);
                self.state = State::Commands;
                true
            }
        }
    }

    fn command(&mut self, line: &str, out: &mut Vec<Spoken>) {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "AUTH" => {
                let mechanism = words.next().unwrap_or_default();
                let more = if words.next().is_some() { HIDDEN } else { "" };
                say(Party::Client, format!("AUTH {mechanism} {more}").trim_end(), out);
                self.ask(Asked::Auth);
                self.state = State::Secret;
            }
            "DATA" => {
                say(Party::Client, line, out);
                self.ask(Asked::Data);
                self.state = State::Offered;
            }
            "BDAT" => {
                say(Party::Client, line, out);
                self.ask(Asked::Other);
                let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                self.state = State::Chunk(size);
            }
            _ => {
                say(Party::Client, line, out);
                self.ask(Asked::Other);
            }
        }
    }

    fn ask(&mut self, asked: Asked) {
        if self.asked.len() < ASKED_MAX {
            self.asked.push_back(asked);
        }
    }

    fn reply(&mut self, line: &str, out: &mut Vec<Spoken>) {
        let code = line.get(..3).unwrap_or_default();
        say(Party::Server, if code == "334" { "334 (not shown)" } else { line }, out);
        if line.as_bytes().get(3) == Some(&b'-') {
            return;
        }
        if code == "354" {
            // Nobody but who sent DATA is told so, whatever was counted.
            self.asked.clear();
            self.state = State::Content(DotDecoder::default());
            return;
        }
        if code == "334" {
            // Nobody but who authenticates is asked for more, whatever was counted.
            if self.asked.front() != Some(&Asked::Auth) {
                self.asked.push_front(Asked::Auth);
            }
            self.state = State::Secret;
            return;
        }
        match self.asked.front() {
            Some(Asked::Auth) => {
                self.asked.pop_front();
                if matches!(self.state, State::Secret) {
                    self.state = State::Commands;
                }
            }
            Some(Asked::Data) => {
                self.asked.pop_front();
                if matches!(self.state, State::Offered) {
                    self.state = State::Commands;
                }
            }
            Some(Asked::Other) => {
                self.asked.pop_front();
            }
            None => {}
        }
    }

    fn tell_hidden(&mut self, out: &mut Vec<Spoken>) {
        let octets = std::mem::take(&mut self.hidden);
        say(Party::Client, &format!("({octets} octets of content)"), out);
    }
}

/// The next whole line, without its end. What is too long for one is cut off.
fn take_line(buffer: &mut BytesMut) -> Option<String> {
    let end = buffer.iter().position(|byte| *byte == b'\n');
    let length = match end {
        Some(end) => end + 1,
        None if buffer.len() > LINE_MAX => buffer.len(),
        None => return None,
    };
    let line = buffer.split_to(length);
    Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

fn say(by: Party, text: &str, out: &mut Vec<Spoken>) {
    let mut shown = String::with_capacity(text.len().min(TEXT_MAX));
    for c in text.chars().take(TEXT_MAX) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    out.push(Spoken { by, text: shown });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `C:` and `S:` and what each says, with `|` for CRLF.
    fn shown(dialogue: &[&str]) -> Vec<String> {
        let mut transcript = Transcript::default();
        let mut out = Vec::new();
        for said in dialogue {
            let (by, text) = said.split_once(':').unwrap();
            let by = if by == "C" { Party::Client } else { Party::Server };
            transcript.hear(by, text.replace('|', "\r\n").as_bytes(), &mut out);
        }
        let mark = |by| if by == Party::Client { "C" } else { "S" };
        out.iter().map(|spoken| format!("{}:{}", mark(spoken.by), spoken.text)).collect()
    }

    #[test]
    fn commands_and_replies_are_shown_and_the_message_is_counted() {
        let told = shown(&[
            "S:220 hop|",
            "C:EHLO a|",
            "S:250-hop|250 SIZE|",
            "C:MAIL FROM:<a@b>|RCPT TO:<c@d>|DATA|",
            "S:250 ok|250 ok|354 go|",
            "C:Subject: private|",
            "C:|..body|.",
            "C:|QUIT|",
            "S:250 2.0.0 queued as x|221 bye|",
        ]);
        let wanted = [
            "S:220 hop",
            "C:EHLO a",
            "S:250-hop",
            "S:250 SIZE",
            "C:MAIL FROM:<a@b>",
            "C:RCPT TO:<c@d>",
            "C:DATA",
            "S:250 ok",
            "S:250 ok",
            "S:354 go",
            "C:(27 octets of content)",
            "C:.",
            "C:QUIT",
            "S:250 2.0.0 queued as x",
            "S:221 bye",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_proves_who_somebody_is_is_not_shown() {
        let told = shown(&[
            "C:AUTH PLAIN c2VjcmV0|",
            "S:535 no|",
            "C:auth LOGIN|",
            "S:334 VXNlcg==|",
            "C:c2VjcmV0|",
            "S:334 UGFzcw==|",
            "C:c2VjcmV0|",
            "S:235 ok|",
            "C:NOOP|",
        ]);
        let wanted = [
            "C:AUTH PLAIN (not shown)",
            "S:535 no",
            "C:AUTH LOGIN",
            "S:334 (not shown)",
            "C:(not shown)",
            "S:334 (not shown)",
            "C:(not shown)",
            "S:235 ok",
            "C:NOOP",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_reply_that_nobody_asked_for_shows_no_secret() {
        let told =
            shown(&["C:AUTH LOGIN|", "S:250 odd|334 VXNlcg==|", "C:c2VjcmV0|", "S:235 ok|", "C:NOOP|"]);
        let wanted =
            ["C:AUTH LOGIN", "S:250 odd", "S:334 (not shown)", "C:(not shown)", "S:235 ok", "C:NOOP"];
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_is_sent_ahead_of_the_answer_is_shown_only_if_data_is_refused() {
        let ahead = shown(&["C:DATA|secret|.|QUIT|", "S:354 go|", "S:250 ok|"]);
        assert_eq!(ahead, ["C:DATA", "S:354 go", "C:(8 octets of content)", "C:.", "C:QUIT", "S:250 ok"]);
        assert_eq!(shown(&["C:DATA|RSET|", "S:503 no|"]), ["C:DATA", "S:503 no", "C:RSET"]);
    }

    #[test]
    fn chunks_are_counted_and_control_characters_escaped() {
        let told = shown(&["C:BDAT 5|sec", "C:r|BDAT 0 LAST|NO\u{1b}OP|", "S:250 ok|"]);
        assert_eq!(told[..2], ["C:BDAT 5", "C:(5 octets of content)"]);
        assert_eq!(told[2], "C:", "the line end behind it");
        assert_eq!(told[3..], ["C:BDAT 0 LAST", "C:(0 octets of content)", "C:NO\\u{1b}OP", "S:250 ok"]);
    }

    proptest! {
        #[test]
        fn no_content_is_shown_however_it_is_cut(cut in 1_usize..20, body in "[a-z\r\n.]{0,60}") {
            let mut transcript = Transcript::default();
            let mut out = Vec::new();
            transcript.hear(Party::Client, b"DATA\r\n", &mut out);
            transcript.hear(Party::Server, b"354 go\r\n", &mut out);
            let stuffed = format!("SECRET{}SECRET", body.replace("\r\n.", "\r\n.."));
            for piece in stuffed.as_bytes().chunks(cut) {
                transcript.hear(Party::Client, piece, &mut out);
            }
            prop_assert!(out.iter().all(|spoken| !spoken.text.contains("SECRET")), "{out:?}");
        }
    }
}
