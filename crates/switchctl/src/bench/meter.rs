//! What a server used, read from `/proc`: its first process and all that descend from it. A process that ended and was
//! waited for is in the figures of its parent.

use std::collections::HashMap;
use std::fs;

/// Sums over all processes of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds of processor time, of dead processes too.
    pub(crate) cpu_s: f64,
    /// Bytes that the kernel was given for the disk, of dead processes too. `None` where the kernel does not say.
    pub(crate) written: Option<u64>,
    /// Resident bytes now, each shared page counted in parts.
    pub(crate) resident: u64,
}

impl Usage {
    /// What `pid` and its descendants used so far.
    pub(crate) fn of(pid: u32) -> Self {
        let mut usage = Self { written: Some(0), ..Self::default() };
        for pid in family(pid) {
            usage.cpu_s += cpu(pid, Whose::WithDead).unwrap_or(0.0);
            usage.written = usage.written.zip(value(pid, "io", "write_bytes:")).map(|(sum, own)| sum + own);
            usage.resident += value(pid, "smaps_rollup", "Pss:").unwrap_or(0) * 1024;
        }
        usage
    }

    /// Processor time of this process itself: generator and sink.
    pub(crate) fn own_cpu_s() -> f64 {
        cpu(std::process::id(), Whose::Own).unwrap_or(0.0)
    }
}

#[derive(Debug, Clone, Copy)]
enum Whose {
    Own,
    /// That of children that were waited for is in it.
    WithDead,
}

/// Fields of `/proc/PID/stat` behind the name, which may hold anything: the first is the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn cpu(pid: u32, whose: Whose) -> Option<f64> {
    let fields = stat(pid)?;
    let range = match whose {
        Whose::Own => 11..13,
        Whose::WithDead => 11..15,
    };
    // utime, stime, and those of children that were waited for: fields 14 to 17 of proc(5), counted from 3 here.
    let ticks: f64 = fields.get(range)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(ticks / ticks_per_second())
}

fn ticks_per_second() -> f64 {
    let said = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    said.and_then(|ticks| i32::try_from(ticks).ok()).map_or(100.0, f64::from)
}

fn value(pid: u32, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `root` and all that descend from it.
fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let parent = stat(pid).and_then(|fields| fields.get(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = vec![root];
    let mut looked = 0;
    while let Some(pid) = family.get(looked).copied() {
        family.extend(children.remove(&pid).unwrap_or_default());
        looked += 1;
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_child_is_in_the_figures_of_its_parent() {
        let before = Usage::of(std::process::id());
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", burn]).status().unwrap().success());
        let after = Usage::of(std::process::id());
        assert!(after.cpu_s >= before.cpu_s + 0.02, "{before:?} {after:?}");
        assert!(after.resident > 100_000, "{after:?}");
    }
}
