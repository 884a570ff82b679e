//! Man pages and shell completions, made from the command line itself. Never written by hand, so never out of date.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::command::{Failure, Outcome, put, say};
use crate::exit::Exit;

/// Prints a shell's script.
pub(crate) fn completion(mut command: Command, shell: Shell) -> Outcome {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    put(&script)?;
    Ok(Exit::Ok)
}

/// Writes a page for each command into a folder, or prints the first of them.
pub(crate) fn pages(command: Command, folder: Option<&Path>) -> Outcome {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        put(&page)?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder)).map_err(
        |error| Failure::failed(format_args!("write man pages into {}: {error}", folder.display())),
    )?;
    say(format_args!("the man pages are in {}", folder.display()))?;
    Ok(Exit::Ok)
}
