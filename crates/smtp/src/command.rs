//! The commands of SMTP, parsed strictly. RFC 5321 4.1.1 and the extensions named in the crate's header.
//!
//! What is taken beyond the grammar: letters of verbs in any case, white space at the end of a line (RFC 5321 4.1.1), and
//! spaces between `FROM:` or `TO:` and the path, which old clients send and Postfix takes. What is not: addresses
//! without angle brackets, control characters anywhere, text outside ASCII outside a path or parameter.

use mail_model::{Mailbox, Recipient, ReversePath};

use crate::once;
use crate::parameter::{MailParameters, ParameterError, RecipientParameters};
use crate::path::{self, PathError};
use crate::xclient::{self, ClientClaim};

/// One command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO name`.
    Helo(Box<str>),
    /// `EHLO name`.
    Ehlo(Box<str>),
    /// `MAIL FROM:<…> …`.
    Mail(MailFrom),
    /// `RCPT TO:<…> …`.
    Rcpt(RcptTo),
    /// `DATA`.
    Data,
    /// `BDAT octets [LAST]`. RFC 3030.
    Bdat(ChunkHeader),
    /// `RSET`.
    Rset,
    /// `NOOP`, with whatever text.
    Noop,
    /// `QUIT`.
    Quit,
    /// `VRFY text`.
    Vrfy,
    /// `HELP`, with whatever text.
    Help,
    /// `STARTTLS`. RFC 3207 4.
    StartTls,
    /// `XCLIENT attribute=value…`, or `None` if it is malformed: only who may say it at all is told.
    Xclient(Option<Box<ClientClaim>>),
    /// `XDONE name…`, or `None` if it is malformed. See [`crate::once`].
    Done(Option<Vec<Box<str>>>),
    /// `AUTH mechanism [initial-response]`. RFC 4954 4.
    Auth(AuthRequest),
    /// A command that RFCs know and this server does not offer: EXPN, TURN, ETRN, SEND, SOML, SAML.
    NotImplemented,
}

/// MAIL: where failures are reported, and what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailFrom {
    /// Its path, the source route dropped.
    pub reverse_path: ReversePath,
    /// What was said beside it.
    pub parameters: MailParameters,
}

/// RCPT: who is to have the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptTo {
    /// His address, the source route dropped, and what was asked for him.
    pub recipient: Recipient,
    /// It was written with letters outside ASCII. RFC 6533 3 has a spelling within ASCII for ORCPT, which anybody may use.
    pub international: bool,
}

/// AUTH, not yet judged.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// The mechanism's name as it was sent.
    pub mechanism: Box<str>,
    /// The initial response, still in base64, or `=` for an empty one. May hold a password.
    pub initial: Option<Box<str>>,
}

impl std::fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRequest").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// What announces a chunk: so many octets follow the line. RFC 3030 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The octets that follow.
    pub octets: u64,
    /// The message ends with them.
    pub last: bool,
}

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SyntaxError {
    /// A verb that no RFC knows, or no verb.
    #[error("the command is not known")]
    Unknown,
    /// A control character (NUL among them), or bytes that are not UTF-8, or letters outside ASCII where none may be.
    #[error("the command has a character that is not allowed")]
    Character,
    /// An argument is missing, or one stands where none may be.
    #[error("an argument is missing, malformed or unwanted")]
    Argument(ArgumentError),
    /// The path of MAIL.
    #[error("sender: {0}")]
    Sender(PathError),
    /// The path of RCPT.
    #[error("recipient: {0}")]
    Recipient(PathError),
    /// A parameter of MAIL or RCPT.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A BDAT whose size cannot be known: nobody can tell what follows from commands any more.
    #[error("the chunk size is malformed")]
    ChunkSize,
}

/// What is wrong with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArgumentError {
    /// EHLO or HELO without a name, or with one that is none.
    HostName,
    /// VRFY without an address.
    Address,
    /// MAIL without `FROM:`.
    From,
    /// RCPT without `TO:`.
    To,
    /// BDAT without anything: no octets are announced, so none follow.
    Chunk,
    /// AUTH without a mechanism, or with more than an initial response behind it.
    Auth,
    /// An argument where none may be.
    Unwanted,
}

/// Understands one line, its CRLF removed.
pub fn parse(line: &[u8]) -> Result<Command, SyntaxError> {
    let line = without_trailing_space(line);
    if line.iter().any(u8::is_ascii_control) {
        return Err(if starts_with_verb(line, "BDAT") {
            SyntaxError::ChunkSize
        } else {
            SyntaxError::Character
        });
    }
    let line = std::str::from_utf8(line).map_err(|_| SyntaxError::Character)?;
    let (verb, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let arguments = arguments.trim_start_matches(' ');
    let verb = verb.to_ascii_uppercase();
    if !arguments.is_ascii() && !matches!(verb.as_str(), "MAIL" | "RCPT" | "VRFY") {
        return Err(if verb == "BDAT" { SyntaxError::ChunkSize } else { SyntaxError::Character });
    }
    match verb.as_str() {
        "MAIL" => mail(arguments),
        "RCPT" => rcpt(arguments),
        "EHLO" => host_name(arguments).map(Command::Ehlo),
        "HELO" => host_name(arguments).map(Command::Helo),
        "BDAT" if arguments.is_empty() => Err(SyntaxError::Argument(ArgumentError::Chunk)),
        "BDAT" => chunk(arguments).map(Command::Bdat).ok_or(SyntaxError::ChunkSize),
        "DATA" => without_arguments(arguments, Command::Data),
        "RSET" => without_arguments(arguments, Command::Rset),
        "QUIT" => without_arguments(arguments, Command::Quit),
        "STARTTLS" => without_arguments(arguments, Command::StartTls),
        "XCLIENT" => Ok(Command::Xclient(xclient::parse(arguments, is_host_name).map(Box::new))),
        "XDONE" => Ok(Command::Done(once::names(arguments))),
        "AUTH" => auth(arguments).map(Command::Auth),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" if arguments.is_empty() => Err(SyntaxError::Argument(ArgumentError::Address)),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" | "TURN" | "ATRN" | "ETRN" | "SEND" | "SOML" | "SAML" => Ok(Command::NotImplemented),
        _ => Err(SyntaxError::Unknown),
    }
}

fn mail(arguments: &str) -> Result<Command, SyntaxError> {
    let path = after_keyword(arguments, "FROM:").ok_or(SyntaxError::Argument(ArgumentError::From))?;
    let (reverse_path, rest) = path::reverse_path(path).map_err(SyntaxError::Sender)?;
    Ok(Command::Mail(MailFrom { reverse_path, parameters: MailParameters::parse(rest)? }))
}

fn rcpt(arguments: &str) -> Result<Command, SyntaxError> {
    let path = after_keyword(arguments, "TO:").ok_or(SyntaxError::Argument(ArgumentError::To))?;
    let (address, rest): (Mailbox, &str) = path::forward_path(path).map_err(SyntaxError::Recipient)?;
    let RecipientParameters { notify, original } = RecipientParameters::parse(rest)?;
    let recipient = Recipient { address, notify, original, expanded: false };
    Ok(Command::Rcpt(RcptTo { recipient, international: !arguments.is_ascii() }))
}

/// What follows `keyword` (in any case) and spaces after it.
fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (front, rest) = text.split_at_checked(keyword.len())?;
    front.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

/// The name a client gives itself. It is written into a header field, so it is a host name or an address literal in
/// shape; whether it is true is nobody's question. RFC 5321 4.1.4.
fn host_name(arguments: &str) -> Result<Box<str>, SyntaxError> {
    if is_host_name(arguments) {
        Ok(arguments.into())
    } else {
        Err(SyntaxError::Argument(ArgumentError::HostName))
    }
}

fn is_host_name(text: &str) -> bool {
    let shape = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    (1..=255).contains(&text.len()) && text.bytes().all(shape)
}

/// RFC 4954 4: `mechanism [SP initial-response]`.
fn auth(arguments: &str) -> Result<AuthRequest, SyntaxError> {
    let mut words = arguments.split(' ').filter(|word| !word.is_empty());
    let fault = SyntaxError::Argument(ArgumentError::Auth);
    let mechanism = words.next().ok_or(fault)?.into();
    let initial = words.next().map(Box::from);
    if words.next().is_some() { Err(fault) } else { Ok(AuthRequest { mechanism, initial }) }
}

/// RFC 3030 2: `chunk-size SP [LAST]`. A number beyond 64 bits is refused, never cut.
fn chunk(arguments: &str) -> Option<ChunkHeader> {
    let mut words = arguments.split(' ').filter(|word| !word.is_empty());
    let digits = words.next()?;
    if digits.len() > 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let octets = digits.parse().ok()?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(ChunkHeader { octets, last })
}

fn without_arguments(arguments: &str, command: Command) -> Result<Command, SyntaxError> {
    if arguments.is_empty() { Ok(command) } else { Err(SyntaxError::Argument(ArgumentError::Unwanted)) }
}

fn starts_with_verb(line: &[u8], verb: &str) -> bool {
    line.get(..verb.len()).is_some_and(|front| front.eq_ignore_ascii_case(verb.as_bytes()))
}

/// RFC 5321 4.1.1: white space before the CRLF is tolerated.
fn without_trailing_space(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |at| at + 1);
    line.get(..end).unwrap_or(line)
}
