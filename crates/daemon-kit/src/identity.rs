//! Who runs: this boot of this machine, and this run of this program.

use std::io;

use mail_model::{BootId, InstanceId};
use uuid::Uuid;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot's id, as the kernel names it. The same for every process until the machine boots again.
pub fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string(BOOT_ID)
        .map_err(|error| io::Error::new(error.kind(), format!("{BOOT_ID}: {error}; mount /proc")))?;
    let id = Uuid::parse_str(text.trim())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID}: {error}")))?;
    Ok(BootId(id.as_u128()))
}

/// A new id from the kernel's random source. Made once, at the start of a program.
#[must_use]
pub fn instance_id() -> InstanceId {
    InstanceId(Uuid::new_v4().as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_one_id_and_each_run_its_own() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), BootId(0));
        assert_ne!(instance_id(), instance_id());
    }
}
