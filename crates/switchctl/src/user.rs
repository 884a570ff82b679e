//! The users who may submit mail. The file is edited here; a running switch notices by itself.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use accounts::{Directory, FileDirectory, SenderPattern, User, UsersFault, Verifiers, edit, user_name};
use serde_json::json;

use clap::Subcommand;

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;
use crate::output::Listing;

/// What is done about users. Passwords are asked for, or read as the first line of standard input.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add a user. The file is made if there is none.
    Add {
        /// Its name, mostly its address.
        name: String,
        /// A sender it may write as: user@example.test, @example.test, or * for all. May stand several times; without it
        /// the user's own address.
        #[arg(long = "sender", value_name = "SENDER")]
        senders: Vec<SenderPattern>,
        /// Keep no keys for SCRAM: the password can then only be sent.
        #[arg(long)]
        no_scram: bool,
    },
    /// Give a user another password.
    Passwd {
        /// Its name.
        name: String,
        /// Keep no keys for SCRAM: the password can then only be sent.
        #[arg(long)]
        no_scram: bool,
    },
    /// Every user, without secrets.
    List,
    /// Take a user out.
    Remove {
        /// Its name.
        name: String,
    },
    /// Say whether a password is the user's: exit code 0 if it is, 1 if not.
    Check {
        /// Its name.
        name: String,
    },
}

/// Does it.
pub(crate) fn run(context: &Context, verb: &Verb) -> Outcome {
    match verb {
        Verb::Add { name, senders, no_scram } => add(context, name, senders.clone(), *no_scram),
        Verb::Passwd { name, no_scram } => passwd(context, name, *no_scram),
        Verb::List => list(context),
        Verb::Remove { name } => remove(context, name),
        Verb::Check { name } => check(context, name),
    }
}

fn told(faults: &[UsersFault]) -> Failure {
    Failure::failed(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Reads a password: from a terminal twice without showing it, otherwise the first line of standard input.
fn password(ask: &str, twice: bool) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    let password = rpassword::prompt_password(format!("{ask}: "))?;
    if twice && rpassword::prompt_password("Again: ")? != password {
        return Err(Failure::failed("the two are not the same; nothing was changed"));
    }
    Ok(password)
}

fn verifiers(no_scram: bool) -> Result<Verifiers, Failure> {
    let password = password("Password", true)?;
    Verifiers::of(&password, !no_scram)
        .map_err(|error| Failure::failed(format_args!("{error}; nothing was changed")))
}

fn named(name: &str) -> Result<Box<str>, Failure> {
    user_name(name).map_err(|what| Failure::new(Exit::Usage, what))
}

/// Adds a user.
fn add(context: &Context, name: &str, senders: Vec<SenderPattern>, no_scram: bool) -> Outcome {
    let (path, name) = (context.settings.auth.users.clone(), named(name)?);
    if senders.is_empty() && name.parse::<SenderPattern>().is_err() {
        return Err(Failure::new(
            Exit::Usage,
            format_args!(
                "'{name}' is no address, so it could send as nobody; add --sender user@example.test"
            ),
        ));
    }
    if path.exists() && open(&path)?.iter().any(|user| user.name == name) {
        return Err(exists(&name));
    }
    let user = User { name: name.clone(), verifiers: verifiers(no_scram)?, senders };
    let fresh = !path.exists();
    edit(&path, |users| {
        if users.find(&user.name).is_some() {
            return Err(exists(&user.name).message);
        }
        users.put(user);
        Ok(())
    })
    .map_err(|faults| told(&faults))?;
    say(format_args!("{}: user '{name}' added", path.display()))?;
    if fresh {
        say(format_args!("the file is new, mode 600; let the user of the switch read it"))?;
    }
    Ok(Exit::Ok)
}

fn exists(name: &str) -> Failure {
    Failure::failed(format_args!("there is a user '{name}' already; see 'switchctl user passwd'"))
}

fn none(name: &str) -> Failure {
    Failure::not_found(format_args!("there is no user '{name}'; see 'switchctl user list'"))
}

fn open(path: &Path) -> Result<Vec<User>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))?;
    let users = accounts::Users::parse(path, &text).map_err(|faults| told(&faults))?;
    Ok(users.iter().cloned().collect())
}

/// Gives a user another password.
fn passwd(context: &Context, name: &str, no_scram: bool) -> Outcome {
    let (path, name) = (context.settings.auth.users.clone(), named(name)?);
    if !open(&path)?.iter().any(|user| user.name == name) {
        return Err(none(&name));
    }
    let verifiers = verifiers(no_scram)?;
    edit(&path, |users| {
        let mut user = users.find(&name).cloned().ok_or_else(|| none(&name).message)?;
        user.verifiers = verifiers;
        users.put(user);
        Ok(())
    })
    .map_err(|faults| told(&faults))?;
    say(format_args!("{}: user '{name}' has another password", path.display()))?;
    Ok(Exit::Ok)
}

/// Lists the users, without their secrets.
fn list(context: &Context) -> Outcome {
    let mut listing = Listing::new("mailswitch.user.list/1", &["user", "senders", "mechanisms"]);
    for user in open(&context.settings.auth.users)? {
        let senders: Vec<String> = user.account().senders.iter().map(ToString::to_string).collect();
        let mechanisms =
            if user.verifiers.scram().is_some() { "scram-sha-256, plain, login" } else { "plain, login" };
        listing.row(vec![json!(user.name), json!(senders), json!(mechanisms)]);
    }
    context.show(&listing)
}

/// Takes a user out.
fn remove(context: &Context, name: &str) -> Outcome {
    let (path, name) = (context.settings.auth.users.clone(), named(name)?);
    if !open(&path)?.iter().any(|user| user.name == name) {
        return Err(none(&name));
    }
    edit(&path, |users| if users.remove(&name) { Ok(()) } else { Err(none(&name).message) })
        .map_err(|faults| told(&faults))?;
    say(format_args!("{}: user '{name}' removed", path.display()))?;
    Ok(Exit::Ok)
}

/// Says whether a password is a user's, as a listener would find it.
fn check(context: &Context, name: &str) -> Outcome {
    let directory = FileDirectory::open(&context.settings.auth.users).map_err(|faults| told(&faults))?;
    let password = password("Password", false)?;
    match directory.check(name, &password).map_err(Failure::failed)? {
        Some(account) => {
            let senders: Vec<String> = account.senders.iter().map(ToString::to_string).collect();
            say(format_args!("right; '{}' may send as {}", account.name, senders.join(", ")))?;
            Ok(Exit::Ok)
        }
        None => Err(Failure::failed("there is no such user, or this is not their password")),
    }
}
