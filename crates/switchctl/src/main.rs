//! `switchctl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchctl::cli::main().into()
}
