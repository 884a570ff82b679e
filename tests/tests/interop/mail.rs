//! Mail of every kind: with eight bits, with international addresses, large.

use std::net::SocketAddr;
use std::time::Duration;

use rig::Dialogue;

/// Twenty megabytes take their time in a build that is not optimised.
const PATIENCE: Duration = Duration::from_mins(1);

/// One message.
pub(crate) struct Mail {
    pub(crate) sender: String,
    /// What the recipient is called.
    pub(crate) name: &'static str,
    /// It needs SMTPUTF8.
    pub(crate) international: bool,
    pub(crate) content: Vec<u8>,
}

fn header(from: &str, subject: &str) -> Vec<u8> {
    format!(
        "From: <{from}>\r\nTo: <somebody@client.test>\r\nSubject: {subject}\r\nDate: Tue, 1 Jul 2025 10:00:00 +0000\r\n\
         Message-ID: <1@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes()
}

/// One of each kind. None has longer lines than RFC 5321 4.5.3.1.6 lets everybody send.
pub(crate) fn kinds() -> Vec<Mail> {
    let eight = "eight@client.test";
    let dots = b".\xe4\xf6\xfc\xff a dot in front\r\n..\r\n. \r\n\r\n\ttab and trailing space \r\n".to_vec();
    let utf8 = "j\u{fc}rgen@client.test";
    let large = "large@client.test";
    // 20 MB of lines of 990 octets, of all octets but NUL, CR and LF, many with a dot in front.
    let line: Vec<u8> =
        (1..=255_u8).filter(|byte| !matches!(byte, b'\r' | b'\n')).cycle().take(988).collect();
    let lines = (0..20_000_usize).flat_map(|n| {
        let front: &[u8] = if n % 3 == 0 { b"." } else { b"x" };
        [front, &line[n % 7..], b"\r\n"].concat()
    });
    let mail = |sender: &str, name, international, content| Mail {
        sender: sender.to_owned(),
        name,
        international,
        content,
    };
    vec![
        mail(eight, "eight", false, [header(eight, "eight bits"), dots].concat()),
        mail(utf8, "stra\u{df}e", true, [header(utf8, "gr\u{fc}\u{df}"), "h\u{f6}ren\r\n".into()].concat()),
        mail(large, "large", false, [header(large, "large"), lines.collect()].concat()),
    ]
}

impl Mail {
    pub(crate) fn recipient(&self, domain: &str) -> String {
        format!("{}@{domain}", self.name)
    }

    /// Hands it to a server, without TLS.
    pub(crate) async fn submit(&self, server: SocketAddr, recipient: &str) {
        let mut client = Dialogue::connect(server, PATIENCE).await.unwrap();
        client.reply().await.unwrap();
        let smtputf8 = if self.international { " SMTPUTF8" } else { "" };
        let size = self.content.len();
        for (line, code) in [
            ("EHLO client.test".to_owned(), 250),
            (format!("MAIL FROM:<{}> BODY=8BITMIME SIZE={size}{smtputf8}", self.sender), 250),
            (format!("RCPT TO:<{recipient}>"), 250),
            ("DATA".to_owned(), 354),
        ] {
            let answer = client.command(&line).await.unwrap();
            assert_eq!(answer.code, code, "{line}: {answer:?}");
        }
        client.send(self.stuffed()).await.unwrap();
        let answer = client.reply().await.unwrap();
        assert_eq!(answer.code, 250, "{answer:?}");
    }

    /// RFC 5321 4.5.2.
    fn stuffed(&self) -> Vec<u8> {
        let mut stuffed = Vec::with_capacity(self.content.len() + 32_000);
        for line in self.content.split_inclusive(|byte| *byte == b'\n') {
            if line.first() == Some(&b'.') {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(b".\r\n");
        stuffed
    }
}
