//! Every reply a receiving session makes up itself, as whole lines without CRLF.

use mail_model::Reply;

use crate::command::{ArgumentError, SyntaxError};
use crate::dot::BareLineEnd;
use crate::line::LineFault;
use crate::parameter::ParameterError;
use crate::path::PathError;

/// A reply of ours, or one that the shell gave.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Ours(&'static str),
    Given(Reply),
}

pub(crate) const EARLY_TALK: &str = "554 5.5.1 you talked before the greeting";
pub(crate) const NOT_READY: &str = "421 4.3.2 service not ready, try again later";
pub(crate) const SHUTDOWN: &str = "421 4.3.2 shutting down, try again later";
pub(crate) const TIMED_OUT: &str = "421 4.4.2 timed out waiting for you";
pub(crate) const TOO_MANY_ERRORS: &str = "421 4.7.0 too many errors";
pub(crate) const TOO_MANY_COMMANDS: &str = "421 4.7.0 too many commands without a message";
pub(crate) const LOCAL_ERROR: &str = "421 4.3.0 local error, try again later";
pub(crate) const UNAUTHORIZED_GROUP: &str = "554 5.5.0 you did not wait for a reply where RFC 2920 says so";
pub(crate) const UNSYNCHRONIZED: &str = "421 4.5.0 you sent bytes after DATA without waiting for its reply";

pub(crate) const UNSYNCHRONIZED_TLS: &str =
    "421 4.5.0 you sent bytes after STARTTLS without waiting for its reply";

pub(crate) const READY_FOR_TLS: &str = "220 2.0.0 ready to start TLS";
pub(crate) const TLS_ACTIVE: &str = "503 5.5.1 TLS is already active";
pub(crate) const TLS_IN_MAIL: &str = "503 5.5.1 a message is begun, end it or send RSET before STARTTLS";
pub(crate) const EXTENDED_HELLO_FIRST: &str = "503 5.5.1 say EHLO first";
pub(crate) const XCLIENT_DENIED: &str = "550 5.7.0 XCLIENT is not for you";
pub(crate) const XCLIENT_IN_MAIL: &str = "503 5.5.1 a message is begun, end it or send RSET before XCLIENT";
pub(crate) const XCLIENT_MALFORMED: &str = "501 5.5.4 an attribute of XCLIENT is not known or malformed";
pub(crate) const DONE_DENIED: &str = "550 5.7.0 XDONE is not for you";
pub(crate) const DONE_MALFORMED: &str = "501 5.5.4 XDONE needs names of hand-overs, and not too many";
pub(crate) const AUTHENTICATED: &str = "235 2.7.0 authenticated";
pub(crate) const AUTHENTICATED_ALREADY: &str = "503 5.5.1 you are authenticated already";
pub(crate) const AUTH_IN_MAIL: &str = "503 5.5.1 a message is begun, end it or send RSET before AUTH";
pub(crate) const AUTH_IN_CLEAR: &str = "538 5.7.11 TLS first, a password is not to be sent in clear";
pub(crate) const AUTH_CANCELLED: &str = "501 5.7.0 authentication cancelled";
pub(crate) const AUTH_LINE_TOO_LONG: &str = "500 5.5.6 line of the authentication too long";
pub(crate) const NOT_BASE64: &str = "501 5.5.2 that is no base64";
pub(crate) const NO_SUCH_MECHANISM: &str = "504 5.5.4 authentication mechanism not offered";
pub(crate) const TLS_FIRST: &str = "530 5.7.0 say STARTTLS first, then authenticate";
pub(crate) const AUTHENTICATE_FIRST: &str = "530 5.7.0 authenticate first";
pub(crate) const TOO_MANY_FAILURES: &str = "421 4.7.0 too many failed authentications";
pub(crate) const SENDER_OK: &str = "250 2.1.0 sender ok";
pub(crate) const RECIPIENT_OK: &str = "250 2.1.5 recipient ok";
pub(crate) const OK: &str = "250 2.0.0 ok";
pub(crate) const CHUNK_OK: &str = "250 2.0.0 chunk received";
pub(crate) const GO_AHEAD: &str = "354 end with <CRLF>.<CRLF>";
pub(crate) const GOODBYE: &str = "221 2.0.0 goodbye";
pub(crate) const HELP: &str = "214 2.0.0 see RFC 5321";
pub(crate) const NOT_VERIFIED: &str = "252 2.1.5 cannot verify, send a message to try";

pub(crate) const NOT_IMPLEMENTED: &str = "502 5.5.1 command not offered";
pub(crate) const HELLO_FIRST: &str = "503 5.5.1 say EHLO or HELO first";
pub(crate) const NESTED_MAIL: &str = "503 5.5.1 a message is already begun";
pub(crate) const MAIL_FIRST: &str = "503 5.5.1 MAIL first";
pub(crate) const CHUNKS_BEGUN: &str = "503 5.5.1 chunks of a message have begun, send BDAT or RSET";
pub(crate) const NO_RECIPIENTS: &str = "554 5.5.1 no valid recipients";
pub(crate) const TOO_MANY_RECIPIENTS: &str =
    "452 4.5.3 too many recipients, send the rest in another message";
pub(crate) const TOO_LARGE: &str = "552 5.3.4 message exceeds the size limit";
pub(crate) const INTERNATIONAL: &str = "553 5.6.7 such an address needs SMTPUTF8";
pub(crate) const NOT_OFFERED: &str = "555 5.5.4 a parameter of an extension that is not offered";
pub(crate) const BARE_LINE_FEED: &str = "554 5.6.0 bare LF in the message, lines must end with CRLF";
pub(crate) const BARE_CARRIAGE_RETURN: &str = "554 5.6.0 bare CR in the message, lines must end with CRLF";
pub(crate) const CHUNK_SIZE: &str = "501 5.5.4 BDAT needs a size in octets, closing";

/// The reply to a line that was refused before it was read.
pub(crate) fn line_fault(fault: LineFault) -> &'static str {
    match fault {
        LineFault::TooLong => "500 5.5.2 line too long",
        LineFault::BareLineFeed => "500 5.5.2 bare LF, lines must end with CRLF",
        LineFault::BareCarriageReturn => "500 5.5.2 bare CR, lines must end with CRLF",
    }
}

/// The reply to a message with a bare line end.
pub(crate) fn bare_line_end(fault: BareLineEnd) -> &'static str {
    match fault {
        BareLineEnd::LineFeed => BARE_LINE_FEED,
        BareLineEnd::CarriageReturn => BARE_CARRIAGE_RETURN,
    }
}

/// The reply to a line that is no command.
pub(crate) fn syntax(error: SyntaxError) -> &'static str {
    match error {
        SyntaxError::Unknown => "500 5.5.1 command not known",
        SyntaxError::Character => "500 5.5.2 a character that is not allowed in a command",
        SyntaxError::Argument(error) => argument(error),
        SyntaxError::Sender(error) => sender(error),
        SyntaxError::Recipient(error) => recipient(error),
        SyntaxError::Parameter(error) => parameter(error),
        SyntaxError::ChunkSize => CHUNK_SIZE,
    }
}

fn argument(error: ArgumentError) -> &'static str {
    match error {
        ArgumentError::HostName => "501 5.5.4 give your host name or address literal",
        ArgumentError::Address => "501 5.5.4 VRFY needs an address",
        ArgumentError::From => "501 5.5.4 write MAIL FROM:<address>",
        ArgumentError::To => "501 5.5.4 write RCPT TO:<address>",
        ArgumentError::Chunk => "501 5.5.4 write BDAT octets, or BDAT octets LAST",
        ArgumentError::Auth => "501 5.5.4 write AUTH mechanism, or AUTH mechanism initial-response",
        ArgumentError::Unwanted => "501 5.5.4 this command has no argument",
    }
}

// RFC 3463: X.1.7 is a bad sender's mailbox address syntax, X.1.3 a bad destination mailbox address syntax.
fn sender(error: PathError) -> &'static str {
    match error {
        PathError::Brackets => "501 5.1.7 the sender must stand in angle brackets",
        PathError::Route => "501 5.1.7 the sender's source route is malformed",
        PathError::LocalPart => "501 5.1.7 the sender's local part is malformed",
        PathError::Domain | PathError::Empty => "501 5.1.7 the sender's domain is missing or malformed",
        PathError::TooLong => "501 5.1.7 the sender is too long",
    }
}

fn recipient(error: PathError) -> &'static str {
    match error {
        PathError::Brackets => "501 5.1.3 the recipient must stand in angle brackets",
        PathError::Route => "501 5.1.3 the recipient's source route is malformed",
        PathError::LocalPart => "501 5.1.3 the recipient's local part is malformed",
        PathError::Domain => "501 5.1.3 the recipient's domain is missing or malformed",
        PathError::TooLong => "501 5.1.3 the recipient is too long",
        PathError::Empty => "501 5.1.3 a recipient must not be empty",
    }
}

fn parameter(error: ParameterError) -> &'static str {
    match error {
        ParameterError::Malformed => "501 5.5.4 a parameter is malformed",
        ParameterError::Unknown => "555 5.5.4 a parameter is not known",
        ParameterError::Duplicate => "501 5.5.4 a parameter stands twice",
        ParameterError::Value(_) => "501 5.5.4 the value of a parameter is malformed",
        ParameterError::BinaryMime => "555 5.5.4 BINARYMIME is not offered",
    }
}
