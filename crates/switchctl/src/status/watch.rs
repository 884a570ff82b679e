//! A page that is printed again and again, until it is interrupted or nobody reads it any more.

use std::io::IsTerminal;
use std::time::Duration;

use super::ask::Page;
use crate::command::{Outcome, put};
use crate::exit::Exit;
use crate::output::Format;

/// Cursor home, then clear: the page stands still on a terminal.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Prints the page every so often. A question without an answer is a page too: it may have one again.
pub(super) fn run(every: Duration, format: Format, page: impl Fn() -> Page) -> Outcome {
    let screen = format == Format::Table && std::io::stdout().is_terminal();
    loop {
        let mut text = if screen { CLEAR.to_vec() } else { Vec::new() };
        match page() {
            Ok((page, _)) => text.extend(page),
            Err(failure) => text.extend(format!("{}\n", failure.message).into_bytes()),
        }
        if format == Format::Table {
            text.push(b'\n');
        }
        if !put(&text)? {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(every);
    }
}
