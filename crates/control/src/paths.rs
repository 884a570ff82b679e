//! Where the sockets lie, under a node's `node.state_dir`.

use std::path::{Path, PathBuf};

use mail_model::QueueId;

const HEARTBEATD: &str = "heartbeatd.sock";
const WITNESS: &str = "witness.sock";
const DEVICES: &str = "devices.sock";
const SWITCH: &str = "switch-";
const END: &str = ".sock";

/// The socket of the switch that owns `queue` on this node, at home or as its secondary.
#[must_use]
pub fn switch(state_dir: &Path, queue: &QueueId) -> PathBuf {
    state_dir.join(format!("{SWITCH}{queue}{END}"))
}

/// The socket of this node's heartbeatd.
#[must_use]
pub fn heartbeatd(state_dir: &Path) -> PathBuf {
    state_dir.join(HEARTBEATD)
}

/// The socket of the registers that this node's heartbeatd keeps, if it is a witness.
#[must_use]
pub fn witness(state_dir: &Path) -> PathBuf {
    state_dir.join(WITNESS)
}

/// The socket where this node's heartbeatd answers about the devices of promoted storage.
#[must_use]
pub fn devices(state_dir: &Path) -> PathBuf {
    state_dir.join(DEVICES)
}

/// Who should listen there, in words.
pub(crate) fn listener(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_prefix(SWITCH).and_then(|rest| rest.strip_suffix(END)) {
        Some(queue) => format!("the switch of queue {queue}"),
        None if name == HEARTBEATD => "heartbeatd".to_owned(),
        None if name == DEVICES => "heartbeatd, for promoted storage,".to_owned(),
        None if name == WITNESS => "the witness".to_owned(),
        None => format!("a program at {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_its_socket_and_is_named_by_it() {
        let socket = switch(Path::new("state/a"), &"b".parse().unwrap());
        assert_eq!(socket, Path::new("state/a/switch-b.sock"));
        assert_eq!(listener(&socket), "the switch of queue b");
        assert_eq!(listener(&heartbeatd(Path::new("state/a"))), "heartbeatd");
    }
}
