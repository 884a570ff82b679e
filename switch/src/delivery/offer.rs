//! What a host offers in its reply to EHLO or LHLO.

use mail_model::Domain;
use mail_send::SmtpClient;
use routing::Protocol;
use smtp::once;
use smtp_proto::EhloResponse;

use crate::tls::Stream;

/// What it offers: of the standards, and whether it knows repeats. The library drops what it does not know, so the lines are looked at
/// before it reads them.
pub(crate) async fn ask(
    client: &mut SmtpClient<Stream>,
    protocol: Protocol,
    name: &Domain,
) -> Result<(EhloResponse<String>, bool), mail_send::Error> {
    let verb = match protocol {
        Protocol::Smtp => "EHLO",
        Protocol::Lmtp => "LHLO",
    };
    let reply = client.cmd(format!("{verb} {name}\r\n")).await?;
    if reply.code != 250 {
        return Err(mail_send::Error::UnexpectedReply(reply));
    }
    let knows_repeats = protocol == Protocol::Smtp
        && reply.message.lines().skip(1).any(|line| line.trim().eq_ignore_ascii_case(once::OFFER));
    let mut text = String::with_capacity(reply.message.len() + 256);
    let mut lines = reply.message.lines().peekable();
    while let Some(line) = lines.next() {
        text.push_str(if lines.peek().is_some() { "250-" } else { "250 " });
        text.push_str(line);
        text.push_str("\r\n");
    }
    let offered = EhloResponse::parse(&mut text.as_bytes().iter());
    Ok((offered.map_err(|_| mail_send::Error::UnparseableReply)?, knows_repeats))
}
