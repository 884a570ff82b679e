//! Messages as files and programs hold them: with any line ends, their recipients in the header.

use mail_model::Mailbox;
use mail_parser::{HeaderName, MessageParser};

/// The fields that name recipients.
const RECIPIENTS: [HeaderName<'_>; 3] = [HeaderName::To, HeaderName::Cc, HeaderName::Bcc];

/// The lines of a text, without their ends.
pub(crate) fn lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

/// Adds a line and CRLF. A lone CR would be refused or read as a line end somewhere on the way.
pub(crate) fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend(line.iter().filter(|byte| **byte != b'\r'));
    out.extend_from_slice(b"\r\n");
}

/// Lines with CRLF, whatever they had.
pub(crate) fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 32);
    for line in lines(raw) {
        push_line(&mut out, line);
    }
    out
}

/// The addresses of To:, Cc: and Bcc:. One of this host may be a name only.
pub(crate) fn recipients(content: &[u8]) -> Vec<String> {
    addresses(content, &RECIPIENTS)
}

/// The addresses of some fields, in the order of the header.
pub(crate) fn addresses(content: &[u8], names: &[HeaderName<'_>]) -> Vec<String> {
    let Some(parsed) = MessageParser::default().parse_headers(content) else { return Vec::new() };
    let fields = parsed.headers().iter().filter(|header| names.contains(&header.name));
    let found = fields.filter_map(|header| header.value.as_address()).flat_map(|found| found.iter());
    found.filter_map(|address| address.address().or_else(|| address.name()).map(str::to_owned)).collect()
}

/// An address of a file.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, String> {
    Mailbox::parse_stored(text).map_err(|error| format!("'{text}' is no address: {error}"))
}
