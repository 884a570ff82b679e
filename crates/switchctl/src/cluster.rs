//! The cluster's members and its heartbeat key.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ::cluster::heartbeat::parse_key;
use serde_json::json;
use uuid::Uuid;

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;
use crate::output::Listing;

/// Lists the nodes.
pub(crate) fn members(context: &Context) -> Outcome {
    let mut listing =
        Listing::new("mailswitch.cluster.members/1", &["node", "heartbeat", "control", "taken_by", "this"]);
    let cluster = &context.settings.cluster;
    for node in &cluster.nodes {
        if context.only.as_ref().is_some_and(|only| *only != node.id) {
            continue;
        }
        let heartbeat: Vec<String> = node.heartbeat.iter().map(ToString::to_string).collect();
        listing.row(vec![
            json!(node.id),
            json!(heartbeat),
            json!(node.control.map(|address| address.to_string())),
            json!(cluster.takers(&node.id)),
            json!(node.id == context.settings.node.id),
        ]);
    }
    context.show(&listing)
}

/// Makes the key file, readable by its owner alone. A key that is there is kept: the other nodes have it too.
pub(crate) fn keygen(context: &Context) -> Outcome {
    let Some(path) = &context.settings.cluster.key_file else {
        return Err(Failure::new(
            Exit::Usage,
            "the configuration names no key file; add 'key_file: cluster.key' below 'cluster'",
        ));
    };
    match make(path) {
        Ok(()) => {
            say(format_args!("{}: made; copy it to every node of the cluster, mode 600", path.display()))?;
            Ok(Exit::Ok)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => kept(path),
        Err(error) => {
            let remedy = "run this as a user who may write there";
            Err(Failure::failed(format_args!("{}: {error}; {remedy}", path.display())))
        }
    }
}

/// Writes the key beside its place and links it there: whoever reads it reads a whole one, and none is ever replaced.
fn make(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent)?;
    let fresh = parent.join(format!(".cluster-key-{}", Uuid::new_v4().simple()));
    // Two random UUIDs are 244 random bits of the kernel; blake3 spreads them when keys are derived.
    let key = format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = file
        .write_all(key.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&fresh, path));
    // What is left behind after a failure is a key that nobody uses.
    std::fs::remove_file(&fresh).ok();
    written?;
    File::open(parent)?.sync_all()
}

/// A key that is there: says so, and whether it is one.
fn kept(path: &Path) -> Outcome {
    let fault = |error: io::Error| Failure::failed(format_args!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(fault)?;
    if parse_key(&text).is_err() {
        let remedy = "move it away and run this again, or copy the key of another node here";
        return Err(Failure::failed(format_args!("{}: this is no key; {remedy}", path.display())));
    }
    say(format_args!("{}: is there already and was kept", path.display()))?;
    let mode = std::fs::metadata(path).map_err(fault)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        say(format_args!(
            "warning: its mode is {mode:o}, so others can read it; run 'chmod 600 {}'",
            path.display()
        ))?;
    }
    Ok(Exit::Ok)
}
