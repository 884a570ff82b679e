//! `switchctl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchctl::sendmail::called_by_name().unwrap_or_else(|| switchctl::cli::main().into())
}
