//! The command lines of a transaction. What goes into them was checked or is encoded, so none can become two.

use std::fmt::Write as _;

use mail_model::{DsnReturn, Envelope, Notify, Recipient, ReversePath};

use super::event::PeerExtensions;
use crate::{parameter, path, xtext};

/// `MAIL`; `None` if the sender cannot be written.
///
/// Where 8BITMIME is not offered BODY= is left out; whether the message may go then was decided before.
pub(crate) fn mail(
    envelope: &Envelope,
    octets: u64,
    smtputf8: bool,
    peer: &PeerExtensions,
) -> Option<String> {
    let mut line = match &envelope.reverse_path {
        ReversePath::Null => "MAIL FROM:<>".to_owned(),
        ReversePath::Mailbox(mailbox) => {
            // A bare postmaster is a recipient only.
            mailbox.domain().filter(|_| path::is_sendable(mailbox))?;
            format!("MAIL FROM:<{mailbox}>")
        }
    };
    if peer.size.is_some() {
        // Writing to a String does not fail.
        let _ = write!(line, " SIZE={octets}");
    }
    if peer.eight_bit_mime && envelope.body == mail_model::BodyType::EightBitMime {
        line.push_str(" BODY=8BITMIME");
    }
    if smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if envelope.require_tls && peer.require_tls {
        line.push_str(" REQUIRETLS");
    }
    if peer.dsn {
        match envelope.ret {
            Some(DsnReturn::Full) => line.push_str(" RET=FULL"),
            Some(DsnReturn::Headers) => line.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = envelope.envid.as_deref().filter(|envid| !envid.is_empty()) {
            line.push_str(" ENVID=");
            xtext::encode(envid, &mut line);
        }
    }
    line.push_str("\r\n");
    Some(line)
}

/// Gives a hand-over its name, on the line of MAIL.
pub(crate) fn add_name(line: &mut String, name: &str) {
    if let Some(end) = line.strip_suffix("\r\n").map(str::len) {
        line.truncate(end);
        line.push_str(" XONCE=");
        xtext::encode(name, line);
        line.push_str("\r\n");
    }
}

/// `RCPT`; `None` if the recipient cannot be written.
pub(crate) fn rcpt(recipient: &Recipient, smtputf8: bool, peer: &PeerExtensions) -> Option<String> {
    let address = &recipient.address;
    if !path::is_sendable(address) {
        return None;
    }
    let mut line = format!("RCPT TO:<{address}>");
    if peer.dsn {
        if let Some(wishes) = recipient.notify_onward() {
            line.push_str(" NOTIFY=");
            line.push_str(&notify(wishes));
        }
        let original = recipient.original.as_ref();
        if let Some(original) = original.filter(|o| parameter::is_address_type(&o.address_type)) {
            line.push_str(" ORCPT=");
            line.push_str(&original.address_type);
            line.push(';');
            if original.address_type.eq_ignore_ascii_case("utf-8") {
                xtext::encode_utf8_address(&original.address, smtputf8, &mut line);
            } else {
                xtext::encode(&original.address, &mut line);
            }
        }
    }
    line.push_str("\r\n");
    Some(line)
}

fn notify(wishes: Notify) -> String {
    let words = [(wishes.success, "SUCCESS"), (wishes.failure, "FAILURE"), (wishes.delay, "DELAY")];
    let words: Vec<&str> = words.into_iter().filter_map(|(wanted, word)| wanted.then_some(word)).collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_here_is_not_asked_of_the_next_host() {
        let peer = PeerExtensions { dsn: true, ..PeerExtensions::default() };
        let wish = |success, failure, expanded| {
            let notify = Some(Notify { success, failure, delay: false });
            let to = path::forward_path("<a@b.test>").unwrap().0;
            rcpt(&Recipient { notify, expanded, ..Recipient::plain(to) }, false, &peer).unwrap()
        };
        assert_eq!(wish(true, true, false), "RCPT TO:<a@b.test> NOTIFY=SUCCESS,FAILURE\r\n");
        assert_eq!(wish(true, true, true), "RCPT TO:<a@b.test> NOTIFY=FAILURE\r\n");
        assert_eq!(wish(true, false, true), "RCPT TO:<a@b.test> NOTIFY=NEVER\r\n");
    }
}
