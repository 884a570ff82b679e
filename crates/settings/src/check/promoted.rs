//! Storage that one node at a time has mounted: its hook, its arbiter, and the proof that a node is off.

use std::time::Duration;

use crate::model::{ClusterSettings, FenceSettings, PeerSettings, PromotedSettings};
use crate::reader::{At, Reader};

/// A hook that hangs for longer than this is of no use to anybody.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

pub(super) fn promoted<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Option<PromotedSettings> {
    let (command, timeout) = hook(read, at, "write the hook of your storage and its arguments")?;
    Some(PromotedSettings { command, timeout: timeout.unwrap_or(Duration::from_secs(10)) })
}

pub(super) fn fence<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Option<FenceSettings> {
    let (command, timeout) = hook(read, at, "write the fence agent's wrapper and its arguments")?;
    Some(FenceSettings { command, timeout: timeout.unwrap_or(Duration::from_secs(30)) })
}

/// What promoted storage cannot do without.
pub(super) fn whole<'a>(read: &mut Reader<'a>, queue: &At<'a>, cluster: &ClusterSettings) {
    let storage = queue.key("storage");
    if !queue.key("promoted").key("command").is_there() {
        let what = "needs the hook of your storage; write 'promoted: { command: [PROGRAM, …] }' beside it";
        read.fault(&storage, what);
    }
    if cluster.nodes.len() != 2 {
        let what = format!(
            "a device has a copy on each of two nodes, and cluster.nodes has {} with a queue",
            cluster.nodes.len()
        );
        read.fault(&storage, what);
    }
    if cluster.witness.is_none() && cluster.etcd.is_empty() {
        let what = "two copies that are cut from each other need an arbiter outside of both; add a third node with 'witness: true', or cluster.arbiter.etcd";
        read.fault(&storage, what);
    }
}

fn hook<'a>(read: &mut Reader<'a>, at: &At<'a>, remedy: &str) -> Option<(Vec<String>, Option<Duration>)> {
    if !at.is_there() {
        return None;
    }
    let words = at.key("command");
    let timeout = read.duration(&at.key("timeout"), Duration::from_millis(100)..=TIMEOUT_MAX);
    if words.is_there() && words.has_no_items() {
        read.fault(&words, format!("this is empty; {remedy}"));
    }
    let command: Vec<String> =
        words.items().iter().filter_map(|word| Some(read.text(word)?.to_owned())).collect();
    (!command.is_empty()).then_some((command, timeout))
}

/// `cluster.arbiter.etcd`, beside which there is no witness.
pub(super) fn etcd<'a>(read: &mut Reader<'a>, at: &At<'a>, witness: Option<&PeerSettings>) -> Vec<String> {
    let members = at.key("etcd");
    if let (true, Some(witness)) = (members.is_there(), witness) {
        let what =
            format!("node '{}' is the witness, and there is one arbiter; remove one of the two", witness.id);
        read.fault(&members, what);
    }
    members.items().iter().filter_map(|item| read.parsed(item, url)).collect()
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
    let bare = host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'?' | b'#' | b'@'));
    if host.is_empty() || !bare {
        return Err(format!("'{text}' is not the URL of an etcd member; write http://10.0.0.1:2379"));
    }
    Ok(text.to_owned())
}
