//! The drills of a node: the one it orders, and the one that hits it. What is done about them is in `drill`.

use std::collections::VecDeque;

use cluster::drill::{Drill, DrillOrder, DrillWord};
use mail_model::Moment;
use tokio::sync::mpsc;

/// The process of the own switch, found for a drill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub(crate) drill: u64,
    pub(crate) pid: Option<u32>,
}

/// The drills of this node: one that it orders, one that hits it.
#[derive(Debug)]
pub(crate) struct Drills {
    pub(crate) ordered: Option<(DrillOrder, Moment)>,
    pub(crate) on_me: Option<Drill>,
    pub(crate) pid: Option<u32>,
    pub(crate) known: VecDeque<u64>,
    pub(crate) hits: mpsc::UnboundedSender<Hit>,
}

impl Drills {
    /// None yet. What the own switch says of its process arrives at `hits`.
    pub(crate) fn new(hits: mpsc::UnboundedSender<Hit>) -> Self {
        Self { ordered: None, on_me: None, pid: None, known: VecDeque::new(), hits }
    }

    /// True while this node plays dead.
    pub(crate) fn is_silent(&self) -> bool {
        self.on_me.as_ref().is_some_and(Drill::is_silent)
    }

    /// True while the own switch must not be started.
    pub(crate) fn keeps_down(&self) -> bool {
        self.on_me.as_ref().is_some_and(Drill::keeps_down)
    }

    /// True while one hits this node, or will at once.
    pub(crate) fn is_open(&self) -> bool {
        self.on_me.as_ref().is_some_and(Drill::is_open)
    }

    /// What is ordered now.
    pub(crate) fn order(&self, now: Moment) -> Option<DrillOrder> {
        self.ordered.as_ref().filter(|(_, until)| now < *until).map(|(order, _)| order.clone())
    }

    /// What this node says of a drill on itself.
    pub(crate) fn word(&self, now: Moment) -> Option<DrillWord> {
        self.on_me.as_ref().map(|drill| drill.word(now))
    }

    /// The own switch said which process it is.
    pub(crate) fn found(&mut self, hit: Hit) {
        if self.on_me.as_ref().is_some_and(|drill| drill.order().id == hit.drill) {
            self.pid = hit.pid;
        }
    }
}
