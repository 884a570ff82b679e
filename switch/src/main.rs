//! The program `switch`.

use std::process::ExitCode;

fn main() -> ExitCode {
    switch::cli::main()
}
