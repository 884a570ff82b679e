//! A drill on the node that it hits: a fault that is announced, carried out for a while, and taken back.
//!
//! ```text
//! ANNOUNCED -> RUNNING -> OVER        or REFUSED, or OVER before it began (withdrawn)
//! ```
//!
//! An order comes from a peer's heartbeatd in its heartbeats, and is answered in ours. It is announced before it begins,
//! so that who ordered it knows the moment: no clocks are compared. Every fault has an end of its own: if the one who
//! ordered it is gone, the node comes back all the same. A drill is a real fault. The protocol keeps mail safe, not this.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mail_model::{Moment, NodeId};
use serde::{Deserialize, Serialize};

/// Between an order and its fault: long enough for the answer to be heard on the way of two heartbeats.
pub const ANNOUNCED_FOR: Duration = Duration::from_millis(700);
/// The longest a fault lasts.
pub const FAULT_MAX: Duration = Duration::from_mins(2);

/// What a drill does to a node. The house tests hold that every one of them is tried by a test and told in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillFault {
    /// Its switch gets SIGKILL, and its heartbeatd is silent and starts nothing.
    Kill,
    /// Its switch gets SIGTERM, and its heartbeatd is silent.
    Stop,
    /// Its switch gets SIGSTOP, and SIGCONT at the end; its heartbeatd is silent.
    Freeze,
    /// Its heartbeats are cut both ways. Its switch and its storage are not touched.
    Isolate,
    /// The storage of its switch is full for it. Its heartbeatd goes on.
    DiskFull,
    /// The storage of its switch does not answer it; its heartbeatd is silent.
    StorageHang,
}

impl DrillFault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::Stop, Self::Freeze, Self::Isolate, Self::DiskFull, Self::StorageHang];

    /// Its word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Isolate => "isolate",
            Self::DiskFull => "disk-full",
            Self::StorageHang => "storage-hang",
        }
    }

    /// What it does, in words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Kill => "the switch gets SIGKILL, the heartbeatd falls silent",
            Self::Stop => "the switch gets SIGTERM, the heartbeatd falls silent",
            Self::Freeze => "the switch stands still (SIGSTOP), the heartbeatd falls silent",
            Self::Isolate => "the heartbeats are cut, the storage is not",
            Self::DiskFull => "no space is left for the switch, everything else goes on",
            Self::StorageHang => "the storage does not answer the switch, the heartbeatd falls silent",
        }
    }

    /// Whether a takeover must follow. If not, none may.
    #[must_use]
    pub fn leads_to_takeover(self) -> bool {
        match self {
            Self::Kill | Self::Stop | Self::Freeze | Self::StorageHang => true,
            Self::Isolate | Self::DiskFull => false,
        }
    }

    /// Whether the node plays dead to the others.
    fn silences(self) -> bool {
        match self {
            Self::Kill | Self::Stop | Self::Freeze | Self::Isolate | Self::StorageHang => true,
            Self::DiskFull => false,
        }
    }
}

impl fmt::Display for DrillFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no fault of a drill; write one of: {names}", names = DrillFault::ALL.map(DrillFault::as_str).join(", "))]
pub struct UnknownFault(String);

impl FromStr for DrillFault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|fault| fault.as_str() == text);
        found.ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

/// An order to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillOrder {
    /// Names the drill; never used twice.
    #[serde(rename = "i")]
    pub id: u64,
    /// Whom it hits.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// How.
    #[serde(rename = "f")]
    pub fault: DrillFault,
    /// For how long, in milliseconds.
    #[serde(rename = "m")]
    pub for_ms: u64,
}

/// What the node that is hit says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillWord {
    /// Which drill.
    #[serde(rename = "i")]
    pub id: u64,
    /// How far it is.
    #[serde(rename = "s")]
    pub stage: DrillStage,
}

/// How far a drill is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillStage {
    /// It begins after so many milliseconds.
    Announced {
        /// From now.
        starts_in_ms: u64,
    },
    /// The fault is there.
    Running,
    /// The fault was taken back.
    Over,
    /// It will not be.
    Refused {
        /// Why, in words.
        why: String,
    },
}

/// What is to be done on the node. In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillAct {
    /// Hear and say no heartbeats, watch no queue, start nothing.
    FallSilent,
    /// SIGKILL to the own switch.
    Kill,
    /// SIGTERM to the own switch.
    Terminate,
    /// SIGSTOP to the own switch.
    Stop,
    /// SIGCONT to the own switch.
    Continue,
    /// No space is left for the own switch.
    FillDisk,
    /// The storage answers the own switch nothing.
    HangStorage,
    /// The storage is as it was.
    Mend,
    /// Heartbeats again, and everything else.
    Speak,
    /// Start the own switch if it does not run.
    Revive,
}

/// A drill on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    order: DrillOrder,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Announced { begins: Moment },
    Running { ends: Moment },
    Over,
    Refused(String),
}

impl Drill {
    /// Announces what was ordered.
    #[must_use]
    pub fn announce(order: DrillOrder, now: Moment) -> Self {
        Self { order, stage: Stage::Announced { begins: now + ANNOUNCED_FOR } }
    }

    /// Refuses it.
    #[must_use]
    pub fn refuse(order: DrillOrder, why: impl Into<String>) -> Self {
        Self { order, stage: Stage::Refused(why.into()) }
    }

    /// What was ordered.
    #[must_use]
    pub fn order(&self) -> &DrillOrder {
        &self.order
    }

    /// True while the fault is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// True while it is announced or there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Announced { .. } | Stage::Running { .. })
    }

    /// True while the node plays dead to the others and to itself.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.is_running() && self.order.fault.silences()
    }

    /// True while the switch is the drill's, not the restart's: it must not be started again.
    #[must_use]
    pub fn keeps_down(&self) -> bool {
        self.is_running() && self.order.fault.leads_to_takeover()
    }

    /// Time passed. `alive`: the own switch is known by its process, so that it can be hit.
    pub fn step(&mut self, now: Moment, alive: bool, out: &mut Vec<DrillAct>) {
        match self.stage {
            Stage::Announced { begins } if now >= begins => {
                if !alive && self.order.fault != DrillFault::Isolate {
                    self.stage = Stage::Refused("its switch did not say which process it is".to_owned());
                    return;
                }
                let span = Duration::from_millis(self.order.for_ms).min(FAULT_MAX);
                self.stage = Stage::Running { ends: now + span };
                if self.order.fault.silences() {
                    out.push(DrillAct::FallSilent);
                }
                match self.order.fault {
                    DrillFault::Kill => out.push(DrillAct::Kill),
                    DrillFault::Stop => out.push(DrillAct::Terminate),
                    DrillFault::Freeze => out.push(DrillAct::Stop),
                    DrillFault::Isolate => {}
                    DrillFault::DiskFull => out.push(DrillAct::FillDisk),
                    DrillFault::StorageHang => out.push(DrillAct::HangStorage),
                }
            }
            Stage::Running { ends } if now >= ends => self.end(out),
            Stage::Announced { .. } | Stage::Running { .. } | Stage::Over | Stage::Refused(_) => {}
        }
    }

    /// Ends it before its time, or before it began.
    pub fn withdraw(&mut self, out: &mut Vec<DrillAct>) {
        match self.stage {
            Stage::Announced { .. } => self.stage = Stage::Over,
            Stage::Running { .. } => self.end(out),
            Stage::Over | Stage::Refused(_) => {}
        }
    }

    fn end(&mut self, out: &mut Vec<DrillAct>) {
        self.stage = Stage::Over;
        match self.order.fault {
            DrillFault::Freeze => out.push(DrillAct::Continue),
            DrillFault::DiskFull | DrillFault::StorageHang => out.push(DrillAct::Mend),
            DrillFault::Kill | DrillFault::Stop | DrillFault::Isolate => {}
        }
        out.push(DrillAct::Speak);
        if self.order.fault.leads_to_takeover() {
            out.push(DrillAct::Revive);
        }
    }

    /// What the node says of it now.
    #[must_use]
    pub fn word(&self, now: Moment) -> DrillWord {
        let stage = match &self.stage {
            Stage::Announced { begins } => {
                let left = begins.since(now).as_millis();
                DrillStage::Announced { starts_in_ms: u64::try_from(left).unwrap_or(0) }
            }
            Stage::Running { .. } => DrillStage::Running,
            Stage::Over => DrillStage::Over,
            Stage::Refused(why) => DrillStage::Refused { why: why.clone() },
        };
        DrillWord { id: self.order.id, stage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(fault: DrillFault) -> DrillOrder {
        DrillOrder { id: 7, node: NodeId::new("b").unwrap(), fault, for_ms: 8_000 }
    }

    fn at(ms: u64) -> Moment {
        Moment(0) + Duration::from_millis(ms)
    }

    /// The acts of a whole drill whose time passes, before and at its end.
    fn played(fault: DrillFault) -> (Vec<DrillAct>, Vec<DrillAct>) {
        let mut drill = Drill::announce(order(fault), at(0));
        let (mut first, mut last) = (Vec::new(), Vec::new());
        drill.step(at(699), true, &mut first);
        assert_eq!(first, []);
        assert_eq!(drill.word(at(699)).stage, DrillStage::Announced { starts_in_ms: 1 });
        drill.step(at(700), true, &mut first);
        drill.step(at(8_699), true, &mut last);
        assert_eq!(last, []);
        drill.step(at(8_700), true, &mut last);
        drill.step(at(20_000), true, &mut last);
        assert_eq!(drill.word(at(20_000)).stage, DrillStage::Over);
        (first, last)
    }

    #[test]
    fn every_fault_is_taken_back_by_itself_and_once() {
        use DrillAct::{
            Continue, FallSilent, FillDisk, HangStorage, Kill, Mend, Revive, Speak, Stop, Terminate,
        };
        assert_eq!(played(DrillFault::Kill), (vec![FallSilent, Kill], vec![Speak, Revive]));
        assert_eq!(played(DrillFault::Stop), (vec![FallSilent, Terminate], vec![Speak, Revive]));
        assert_eq!(played(DrillFault::Freeze), (vec![FallSilent, Stop], vec![Continue, Speak, Revive]));
        assert_eq!(played(DrillFault::Isolate), (vec![FallSilent], vec![Speak]));
        assert_eq!(played(DrillFault::DiskFull), (vec![FillDisk], vec![Mend, Speak]));
        assert_eq!(
            played(DrillFault::StorageHang),
            (vec![FallSilent, HangStorage], vec![Mend, Speak, Revive])
        );
    }

    #[test]
    fn a_drill_that_is_withdrawn_leaves_nothing_behind() {
        let mut drill = Drill::announce(order(DrillFault::Freeze), at(0));
        let mut out = Vec::new();
        drill.withdraw(&mut out);
        drill.step(at(10_000), true, &mut out);
        assert_eq!(out, []);
        let mut drill = Drill::announce(order(DrillFault::Freeze), at(0));
        drill.step(at(700), true, &mut out);
        out.clear();
        drill.withdraw(&mut out);
        assert_eq!(out, [DrillAct::Continue, DrillAct::Speak, DrillAct::Revive]);
    }

    #[test]
    fn a_switch_that_cannot_be_found_is_not_hit() {
        let mut drill = Drill::announce(order(DrillFault::Kill), at(0));
        let mut out = Vec::new();
        drill.step(at(700), false, &mut out);
        assert_eq!(out, []);
        assert!(matches!(drill.word(at(700)).stage, DrillStage::Refused { .. }));
        assert!(!drill.is_open());
    }

    #[test]
    fn no_order_makes_a_node_stay_away_for_long() {
        let mut drill = Drill::announce(DrillOrder { for_ms: u64::MAX, ..order(DrillFault::Kill) }, at(0));
        let mut out = Vec::new();
        drill.step(at(700), true, &mut out);
        drill.step(at(700) + FAULT_MAX, true, &mut out);
        assert!(!drill.is_open());
    }

    #[test]
    fn a_fault_is_read_back_from_its_word() {
        for fault in DrillFault::ALL {
            assert_eq!(fault.as_str().parse(), Ok(fault));
        }
        let error = "reboot".parse::<DrillFault>().unwrap_err().to_string();
        assert!(error.contains("kill, stop, freeze, isolate, disk-full, storage-hang"), "{error}");
    }
}
