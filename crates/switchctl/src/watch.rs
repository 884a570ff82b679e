//! An answer that is given again and again, until it is interrupted or nobody reads it any more: the same command line in a process
//! of its own each time, so that whatever can be asked once can be watched.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;

use crate::command::{Failure, Outcome, put};
use crate::exit::Exit;
use crate::output::Format;

/// Cursor home, then clear: the page stands still on a terminal.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Of every noun whose answer changes by itself.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Watch {
    /// Say it again and again until interrupted: every 2 s, or as often as EVERY says.
    #[arg(long = "watch", value_name = "EVERY", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = settings::parse_duration)]
    pub(crate) every: Option<Duration>,
}

/// Asks what this process was asked, every so often. A question without an answer is a page too: it may have one again.
pub(crate) fn run(every: Duration, format: Format) -> Outcome {
    let screen = format == Format::Table && std::io::stdout().is_terminal();
    let program = std::env::current_exe()?;
    let once =
        |argument: &OsStr| argument != "--watch" && !argument.as_encoded_bytes().starts_with(b"--watch=");
    let arguments: Vec<_> = std::env::args_os().skip(1).filter(|argument| once(argument)).collect();
    loop {
        let asked = Command::new(&program).args(&arguments).stdin(Stdio::null()).output();
        let said = asked.map_err(|error| Failure::failed(format_args!("{}: {error}", program.display())))?;
        let mut page = if screen { CLEAR.to_vec() } else { Vec::new() };
        page.extend(said.stdout);
        page.extend(said.stderr);
        if format == Format::Table {
            page.push(b'\n');
        }
        if !put(&page)? {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(every);
    }
}
