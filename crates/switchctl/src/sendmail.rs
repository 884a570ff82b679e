//! `sendmail` and `mailq`: what programs of this machine have always called, answered by this program under those names.
//!
//! A message is left in the maildrop of the node. Exit 0 means that it is on this machine's disk; its switch takes it into the
//! queue within a second or two, or when it runs again. Exit codes are those of sysexits.h, which callers know.

mod content;
mod dialogue;
mod options;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use control::maildrop::{self, Letter, Wishes};
use control::switch::Verb;
use daemon_kit::configuration;
use mail_model::{Envelope, Mailbox, ReversePath};
use nix::unistd::{User, getuid};
use settings::{Settings, TlsMode};
use uuid::Uuid;

use self::content::{Content, Defaults};
use self::options::{Mode, Options};
use crate::command::{Context, Failure};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::operate::{self, Choice};
use crate::output::Format;
use crate::queue;

/// sysexits.h: the command was used wrongly.
const EX_USAGE: u8 = 64;
/// sysexits.h: the message cannot be used.
const EX_DATAERR: u8 = 65;
/// sysexits.h: try again later.
const EX_TEMPFAIL: u8 = 75;
/// sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// Why nothing was sent.
struct Refusal {
    code: u8,
    message: String,
}

impl Refusal {
    fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// Answers to the name this program was called by; `None` if that is its own.
#[must_use]
pub fn called_by_name() -> Option<ExitCode> {
    let called = std::env::args_os().next()?;
    let mode = match Path::new(&called).file_name()?.to_str()? {
        "sendmail" => None,
        "mailq" => Some(Mode::List),
        _ => return None,
    };
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            drop(error.print());
            let asked = !error.use_stderr();
            return Some(ExitCode::from(if asked { 0 } else { EX_USAGE }));
        }
    };
    Some(match run(&options, mode.unwrap_or(options.mode())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            // Standard error is the last resort: if it is gone there is nobody to tell.
            drop(writeln!(io::stderr().lock(), "sendmail: {}", refusal.message));
            ExitCode::from(refusal.code)
        }
    })
}

fn run(options: &Options, mode: Mode) -> Result<(), Refusal> {
    match mode {
        // There is no table to build: aliases are read as they are.
        Mode::Nothing => Ok(()),
        Mode::Unknown => {
            Err(Refusal::new(EX_USAGE, "there are -bm (send, the default), -bp (list) and -bs (SMTP)"))
        }
        Mode::List => ordered(queue::mailq(&context(options)?, Filter::new(&[]))),
        Mode::Flush => {
            ordered(operate::run(&context(options)?, Verb::Retry, &Choice::everything(), "sendmail -q"))
        }
        Mode::Smtp => speak(&context(options)?.settings),
        Mode::Send => send(options, &context(options)?.settings),
    }
}

fn context(options: &Options) -> Result<Context, Refusal> {
    let config = options.config.as_deref().unwrap_or(Path::new(configuration::DEFAULT_PATH));
    Context::load(config, Format::Table, None).map_err(|failure| Refusal::new(EX_CONFIG, failure.message))
}

fn ordered(outcome: Result<Exit, Failure>) -> Result<(), Refusal> {
    match outcome {
        Ok(Exit::Ok | Exit::Partial) => Ok(()),
        Ok(_) => Err(Refusal::new(EX_TEMPFAIL, "not all of it could be done")),
        Err(failure) => Err(Refusal::new(EX_TEMPFAIL, failure.message)),
    }
}

/// Leaves the message on standard input in the maildrop.
fn send(options: &Options, settings: &Settings) -> Result<(), Refusal> {
    let domain = settings.node.hostname.as_str();
    let user = User::from_uid(getuid()).ok().flatten();
    let name = user.as_ref().map_or_else(|| getuid().to_string(), |user| user.name.clone());
    let from = match options.from.as_deref() {
        Some("" | "<>") => ReversePath::Null,
        Some(address) => ReversePath::Mailbox(mailbox(address, domain)?),
        None => ReversePath::Mailbox(mailbox(&name, domain)?),
    };
    let full_name = options.full_name.clone().or_else(|| {
        let gecos = user?.gecos.into_string().ok()?;
        gecos.split(',').next().map(str::to_owned).filter(|name| !name.is_empty())
    });
    let wishes = Wishes {
        notify: options.notify.clone(),
        ret: options.returned.clone(),
        envid: options.envid.clone(),
        ..Wishes::default()
    };
    // Said here, where there is somebody to read it.
    let tried = wishes.apply(&mut Envelope::from_sender(ReversePath::Null));
    tried.map_err(|why| Refusal::new(EX_USAGE, why))?;
    let limit = settings.limits.session.limits.message_size;
    let text = read(options.ignores_dots(), limit)?;
    let content = Content::new(&text);
    let mut to = Vec::new();
    for address in &options.recipients {
        to.push(mailbox(address, domain)?);
    }
    if options.recipients_from_header {
        for address in content.recipients() {
            to.push(mailbox(&address, domain)?);
        }
    }
    let mut seen = HashSet::new();
    to.retain(|address| seen.insert(address.clone()));
    if to.is_empty() {
        let remedy = "no recipient: name one, or say -t and put To:, Cc: or Bcc: into the message";
        return Err(Refusal::new(EX_USAGE, remedy));
    }
    let max = usize::from(settings.limits.session.limits.recipients);
    if to.len() > max {
        return Err(Refusal::new(EX_DATAERR, format_args!("more than {max} recipients (limits.recipients)")));
    }
    let sender = if from == ReversePath::Null { format!("MAILER-DAEMON@{domain}") } else { from.to_string() };
    let id = Uuid::new_v4().simple().to_string();
    let defaults =
        Defaults { sender: &sender, full_name: full_name.as_deref(), id: &format!("{id}@{domain}") };
    let bytes = content.complete(&defaults);
    let letter = Letter::new(&from, &to, !bytes.is_ascii()).wishing(wishes);
    leave(settings, &letter, &bytes).map(drop)
}

/// Leaves a message in the maildrop; under which name.
fn leave(settings: &Settings, letter: &Letter, content: &[u8]) -> Result<String, Refusal> {
    let directory = maildrop::directory(&settings.node.state_dir);
    // The name begins with the time, so that mail is taken in order.
    let name = format!("{:016}-{}", jiff::Timestamp::now().as_microsecond(), Uuid::new_v4().simple());
    maildrop::leave(&directory, &name, letter, content).map_err(|error| {
        Refusal::new(
            EX_TEMPFAIL,
            format_args!(
                "cannot leave the message in {}: {error}; was this node's switch ever started?",
                directory.display()
            ),
        )
    })?;
    Ok(name)
}

/// Standard input to its end, or to a line with a dot alone.
fn read(ignore_dots: bool, limit: u64) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut text);
    read.map_err(|error| Refusal::new(EX_TEMPFAIL, format_args!("cannot read the message: {error}")))?;
    if text.len() as u64 > limit {
        return Err(Refusal::new(EX_DATAERR, format_args!("more than {limit} bytes (limits.message_size)")));
    }
    if !ignore_dots {
        content::end_at_dot(&mut text);
    }
    Ok(text)
}

/// An address; one without a domain is of this host.
fn mailbox(text: &str, domain: &str) -> Result<Mailbox, Refusal> {
    let bare = text.trim().trim_start_matches('<').trim_end_matches('>');
    let whole = if bare.contains('@') { bare.to_owned() } else { format!("{bare}@{domain}") };
    Mailbox::parse_stored(&whole)
        .map_err(|error| Refusal::new(EX_DATAERR, format_args!("'{text}' is no address: {error}")))
}

/// SMTP between standard input and output and this node's switch; while that is down, with the maildrop.
fn speak(settings: &Settings) -> Result<(), Refusal> {
    let failed =
        |error: io::Error| Refusal::new(EX_TEMPFAIL, format_args!("the dialogue broke off: {error}"));
    let plain = settings.listeners.iter().find(|l| l.tls.is_none() || l.tls_mode == TlsMode::StartTls);
    let Some(mut stream) = plain.and_then(|listener| TcpStream::connect(listener.address).ok()) else {
        let left = |letter: &Letter, content: &[u8]| {
            leave(settings, letter, content).map_err(|refusal| refusal.message)
        };
        let session = &settings.limits.session;
        return dialogue::hold(session, left, io::stdin().lock(), io::stdout().lock()).map_err(failed);
    };
    let mut outward = stream.try_clone().map_err(failed)?;
    std::thread::spawn(move || {
        // An end of input ends the session; the switch says the last word.
        io::copy(&mut io::stdin().lock(), &mut outward).ok();
        outward.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut stream, &mut io::stdout().lock()).map(drop).map_err(failed)
}
