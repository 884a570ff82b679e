//! What `sendmail` and `mailq` may be asked: the options of Sendmail that programs use. Those that change nothing here are taken
//! and forgotten.

use std::path::PathBuf;

use clap::Parser;

/// Send a message of standard input: it is left for this node's switch, which need not run.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of a command line, as Sendmail has them"
)]
#[command(name = "sendmail", disable_help_flag = true, disable_version_flag = true)]
pub(super) struct Options {
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The configuration file.
    #[arg(short = 'C', value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Recipients are those of To:, Cc: and Bcc:, besides the ones named; Bcc: is taken out.
    #[arg(short = 't')]
    pub(super) recipients_from_header: bool,
    /// A line with a dot alone does not end the message.
    #[arg(short = 'i')]
    dots: bool,
    /// The sender; `<>` for none.
    #[arg(short = 'f', short_alias = 'r', value_name = "ADDRESS")]
    pub(super) from: Option<String>,
    /// The sender's full name.
    #[arg(short = 'F', value_name = "NAME")]
    pub(super) full_name: Option<String>,
    /// m: send (the default), p: list the queue, s: SMTP on standard input and output, i: nothing.
    #[arg(short = 'b', value_name = "MODE")]
    mode: Option<char>,
    /// Try again now what waits in the queue.
    #[arg(short = 'q', value_name = "WHAT", num_args = 0..=1, require_equals = false, default_missing_value = "")]
    flush: Option<String>,
    /// Sendmail's options; `i` is as -i, the others are forgotten.
    #[arg(short = 'o', value_name = "OPTION")]
    old: Vec<String>,
    /// Taken and forgotten.
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    verbose: u8,
    /// Taken and forgotten.
    #[arg(short = 'n')]
    no_aliases: bool,
    /// Taken and forgotten.
    #[arg(short = 'm')]
    me_too: bool,
    /// Taken and forgotten.
    #[arg(short = 'G')]
    gateway: bool,
    /// Taken and forgotten.
    #[arg(short = 'U')]
    initial: bool,
    #[arg(short = 'A', hide = true)]
    authority: Option<String>,
    #[arg(short = 'B', hide = true)]
    body: Option<String>,
    #[arg(short = 'h', hide = true)]
    hops: Option<String>,
    #[arg(short = 'L', hide = true)]
    label: Option<String>,
    /// When to report: never, or some of success,failure,delay.
    #[arg(short = 'N', value_name = "WHEN")]
    pub(super) notify: Option<String>,
    #[arg(short = 'O', hide = true)]
    option: Vec<String>,
    #[arg(short = 'p', hide = true)]
    protocol: Option<String>,
    /// What a report of failure returns: full or hdrs.
    #[arg(short = 'R', value_name = "WHAT")]
    pub(super) returned: Option<String>,
    /// A name of the message that reports repeat.
    #[arg(short = 'V', value_name = "ENVID")]
    pub(super) envid: Option<String>,
    #[arg(short = 'X', hide = true)]
    log: Option<String>,
    /// Recipients.
    #[arg(value_name = "ADDRESS")]
    pub(super) recipients: Vec<String>,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Send,
    List,
    Smtp,
    Flush,
    Nothing,
    Unknown,
}

impl Options {
    /// A line with a dot alone is text.
    pub(super) fn ignores_dots(&self) -> bool {
        self.dots || self.old.iter().any(|option| option.contains('i'))
    }

    pub(super) fn mode(&self) -> Mode {
        match self.mode {
            None if self.flush.is_some() => Mode::Flush,
            None | Some('m') => Mode::Send,
            Some('p') => Mode::List,
            Some('s') => Mode::Smtp,
            Some('i') => Mode::Nothing,
            Some(_) => Mode::Unknown,
        }
    }
}
