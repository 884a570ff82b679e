//! heartbeatd.

use std::process::ExitCode;

fn main() -> ExitCode {
    heartbeatd::main()
}
