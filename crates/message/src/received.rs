//! The trace field. RFC 5321 4.4: a server puts one on top of every message it takes, and changes nothing below it.

use std::fmt;
use std::net::IpAddr;

use mail_model::{Domain, WallTime};

use crate::date::date;

/// What the field says. Its `Display` is the whole field, folded, with the CRLF at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// What the client called itself. Anything but printable ASCII is replaced, and so is what would end a comment.
    pub helo: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// Its host name, if somebody who can know said so: letters, digits and `.-_`.
    pub client_name: Option<&'a str>,
    /// Whom its certificate says it is, if somebody who is trusted vouches for that.
    pub certificate: Option<&'a str>,
    /// This host.
    pub by: &'a Domain,
    /// `SMTP`, `ESMTP` or `UTF8SMTP`. RFC 3848, RFC 6531 4.3.
    pub with: &'a str,
    /// The message's id.
    pub id: &'a str,
    /// When it was taken.
    pub at: WallTime,
}

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Received: from ")?;
        if self.helo.is_empty() {
            f.write_str("unknown")?;
        }
        safely(f, self.helo, false)?;
        let is_name =
            |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        let name = self.client_name.filter(is_name).map(|name| format!("{name} ")).unwrap_or_default();
        // RFC 5321 4.1.3: an IPv6 literal bears its tag.
        match self.client {
            IpAddr::V4(address) => write!(f, " ({name}[{address}])")?,
            IpAddr::V6(address) => write!(f, " ({name}[IPv6:{address}])")?,
        }
        if let Some(subject) = self.certificate {
            f.write_str("\r\n\t(client certificate ")?;
            safely(f, subject, true)?;
            f.write_str(", verified)")?;
        }
        let (by, with, id) = (self.by, self.with, self.id);
        write!(f, "\r\n\tby {by} with {with} id {id};\r\n\t{}\r\n", date(self.at))
    }
}

/// What cannot end its place, nor a comment around it.
fn safely(f: &mut fmt::Formatter<'_>, text: &str, spaces: bool) -> fmt::Result {
    for c in text.chars().take(255) {
        let shown = c.is_ascii_graphic() || (spaces && c == ' ');
        let kept = shown && !matches!(c, '(' | ')' | '\\' | ';' | '"');
        fmt::Write::write_char(f, if kept { c } else { '?' })?;
    }
    Ok(())
}

/// The field of a message that a program of this machine left. Its `Display` is the whole field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted<'a> {
    /// The user whose program it was.
    pub uid: u32,
    /// This host.
    pub by: &'a Domain,
    /// The message's id.
    pub id: &'a str,
    /// When it was taken.
    pub at: WallTime,
}

impl fmt::Display for Posted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, by, id, at } = self;
        write!(f, "Received: by {by} (mailswitch, from userid {uid}) id {id};\r\n\t{}\r\n", date(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(helo: &str, client: &str) -> String {
        let by = Domain::new("mx.example.test").unwrap();
        let at = WallTime(1_700_000_000_000);
        let client = client.parse().unwrap();
        let (with, id) = ("ESMTP", "a-7-1f");
        Received { helo, client, client_name: None, certificate: None, by: &by, with, id, at }.to_string()
    }

    #[test]
    fn it_says_from_by_with_id_and_when() {
        assert_eq!(
            field("client.test", "192.0.2.1"),
            "Received: from client.test ([192.0.2.1])\r\n\tby mx.example.test with ESMTP id a-7-1f;\r\n\t\
             Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        );
        assert!(field("[IPv6:::1]", "::1").starts_with("Received: from [IPv6:::1] ([IPv6:::1])\r\n"));
    }

    #[test]
    fn a_host_name_stands_before_the_address_unless_it_could_break_the_field() {
        let by = Domain::new("mx.example.test").unwrap();
        let at = WallTime(0);
        let client = [192, 0, 2, 1].into();
        let field = |name| {
            let (with, id, certificate) = ("SMTP", "1", None);
            Received { helo: "c", client, client_name: Some(name), certificate, by: &by, with, id, at }
                .to_string()
        };
        assert!(field("c.test").starts_with("Received: from c (c.test [192.0.2.1])\r\n"));
        assert!(field("c)\r\n").starts_with("Received: from c ([192.0.2.1])\r\n"));
    }

    #[test]
    fn the_subject_of_a_certificate_stands_in_a_comment_of_its_own_and_cannot_end_it() {
        let by = Domain::new("mx.example.test").unwrap();
        let (client, at) = ([192, 0, 2, 1].into(), WallTime(0));
        let (with, id, certificate) = ("ESMTPS", "1", Some("CN=a\\,b) c\r\n,O=D"));
        let field = Received { helo: "c", client, client_name: None, certificate, by: &by, with, id, at };
        let wanted =
            "([192.0.2.1])\r\n\t(client certificate CN=a?,b? c??,O=D, verified)\r\n\tby mx.example.test";
        assert!(field.to_string().contains(wanted), "{field}");
    }

    #[test]
    fn no_name_breaks_out_of_its_place() {
        let field = field("a\r\nX: (b) ;é\0", "192.0.2.1");
        assert_eq!(field.lines().count(), 3);
        assert!(field.starts_with("Received: from a??X:??b????? ([192.0.2.1])\r\n"), "{field}");
    }
}
