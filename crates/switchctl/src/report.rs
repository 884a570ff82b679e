//! `switchctl report`: a folder for who helps. What the other commands say now, each in a file with the command on top, and
//! the end of the log.
//!
//! Secrets are in files of their own, which are not read; and no command prints them. Local parts of addresses are masked,
//! for they name people.

mod mask;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use daemon_kit::SystemClock;
use mail_model::Clock;

use self::mask::masked;
use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;
use crate::output::{plain, time};

/// What this program is asked, and the name of the file.
const OWN: &[(&str, &[&str])] = &[
    ("version", &["version"]),
    ("configuration", &["config", "show"]),
    ("doctor", &["doctor"]),
    ("status", &["status", "-o", "json"]),
    ("matrix", &["status", "--matrix"]),
    ("ha-status", &["ha", "status"]),
    ("history", &["ha", "history", "--limit", "500"]),
    ("members", &["cluster", "members"]),
    ("balancers", &["lb", "status"]),
    ("queue-owner", &["queue", "owner"]),
    ("queue-summary", &["queue", "summary"]),
    ("ledger", &["ledger", "verify"]),
    ("log-levels", &["log", "show"]),
];
/// What the machine is asked.
const MACHINE: &[(&str, &[&str])] = &[
    ("uname", &["uname", "-a"]),
    ("os-release", &["cat", "/etc/os-release"]),
    ("disk", &["df", "-hT"]),
    ("inodes", &["df", "-i"]),
    ("mounts", &["findmnt", "--real"]),
    ("units", &["systemctl", "--no-pager", "status", "switch@*", "switch-takeover@*", "heartbeatd"]),
    (
        "log",
        &[
            "journalctl",
            "--no-pager",
            "-n",
            "5000",
            "-u",
            "switch@*",
            "-u",
            "switch-takeover@*",
            "-u",
            "heartbeatd",
        ],
    ),
];
/// The end of a name that makes it a file.
const TAR: &str = ".tar.gz";

/// Writes it.
pub(crate) fn run(context: &Context, config: &Path, wanted: Option<&Path>, keep_addresses: bool) -> Outcome {
    let wanted = wanted.map_or_else(|| default_name(context), Path::to_owned);
    let name = wanted.to_string_lossy().into_owned();
    let folder = name.strip_suffix(TAR).map_or_else(|| wanted.clone(), PathBuf::from);
    let fault = |error: std::io::Error| {
        Failure::failed(format_args!("{}: {error}; name another place", folder.display()))
    };
    // One that is there is somebody's.
    std::fs::create_dir(&folder).map_err(fault)?;
    let program = std::env::current_exe()?;
    for (name, arguments) in OWN {
        let mut command = Command::new(&program);
        command.args(*arguments).arg("--config").arg(config);
        let shown = format!("switchctl {}", arguments.join(" "));
        write(&folder, name, &told(command, &shown), keep_addresses).map_err(fault)?;
    }
    for (name, words) in MACHINE {
        let Some((program, arguments)) = words.split_first() else { continue };
        let mut command = Command::new(program);
        command.args(arguments);
        write(&folder, name, &told(command, &words.join(" ")), keep_addresses).map_err(fault)?;
    }
    if folder != wanted {
        pack(&folder, &wanted)?;
    }
    say(format_args!("{}: look through it before you give it away", wanted.display()))?;
    Ok(Exit::Ok)
}

fn default_name(context: &Context) -> PathBuf {
    let now = plain(&time(SystemClock.wall()));
    let stamp: String = now.chars().take_while(|c| *c != '.').filter(char::is_ascii_alphanumeric).collect();
    PathBuf::from(format!("mailswitch-report-{}-{stamp}", context.settings.node.id))
}

/// What a command says, its errors too: that something cannot be asked is worth knowing.
fn told(mut command: Command, shown: &str) -> String {
    let output = command.stdin(Stdio::null()).env("NO_COLOR", "1").output();
    match output {
        Ok(output) => format!(
            "# {shown}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => format!("# {shown}: {error}\n"),
    }
}

fn write(folder: &Path, name: &str, text: &str, keep_addresses: bool) -> std::io::Result<()> {
    let text = if keep_addresses { text.to_owned() } else { masked(text) };
    std::fs::write(folder.join(format!("{name}.txt")), text)
}

/// Makes one file of the folder, which goes.
fn pack(folder: &Path, file: &Path) -> Result<(), Failure> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = folder.file_name().ok_or_else(|| Failure::failed("the report needs a name"))?;
    let packed = Command::new("tar").arg("-czf").arg(file).arg("-C").arg(parent).arg(name).output();
    match packed {
        Ok(output) if output.status.success() => Ok(std::fs::remove_dir_all(folder)?),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Failure::failed(format_args!("tar: {said}; the report is in {}", folder.display())))
        }
        Err(error) => {
            Err(Failure::failed(format_args!("tar: {error}; the report is in {}", folder.display())))
        }
    }
}
