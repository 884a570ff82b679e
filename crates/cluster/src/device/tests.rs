//! Stories of one node's device. The register is the test's.

use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn said(role: DeviceRole, mounted: bool, data: CopyState, peer: PeerLink) -> DeviceState {
    DeviceState { role, mounted, data, peer }
}

const RESTS: (DeviceRole, bool) = (DeviceRole::Secondary, false);
const WORKS: (DeviceRole, bool) = (DeviceRole::Primary, true);

/// A device of queue a as one node sees it, with the register beside it.
struct Story {
    device: Device,
    entry: Entry,
    around: Around,
    is: (DeviceRole, bool),
    data: CopyState,
    peer: PeerLink,
}

impl Story {
    fn of(me: &str, register: Option<Register>) -> Self {
        let peer = if me == "a" { "b" } else { "a" };
        let version = Version(u64::from(register.is_some()));
        Self {
            device: Device::new(node(me), node(peer), &"a".parse().unwrap(), true),
            entry: Entry { version, register },
            around: Around { wanted: true, ..Around::default() },
            is: RESTS,
            data: CopyState::Current,
            peer: PeerLink::Connected,
        }
    }

    fn step(&mut self, event: &Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.device.step(event, &self.around, &mut out);
        out.retain(|action| !matches!(action, Action::Tell(_)));
        out
    }

    /// One round; what it does after both looks is carried out and given back.
    fn round(&mut self) -> Vec<Action> {
        assert_eq!(self.step(&Event::Round), [Action::Read]);
        assert_eq!(self.step(&Event::Read(Some(self.entry.clone()))), [Action::Ask]);
        let said = said(self.is.0, self.is.1, self.data, self.peer);
        let acts = self.step(&Event::Said(Some(said)));
        for act in &acts {
            match act {
                Action::Swap { expected, register } => {
                    if let Some(next) = self.entry.swapped(*expected, register.clone()) {
                        self.entry = next;
                    }
                    self.step(&Event::Swapped);
                }
                Action::Promote => {
                    self.is = WORKS;
                    self.step(&Event::Promoted(true));
                }
                Action::Release => {
                    self.is = RESTS;
                    self.step(&Event::Released(true));
                }
                Action::Read
                | Action::Ask
                | Action::Fence(_)
                | Action::Stop
                | Action::Launch
                | Action::GiveUp
                | Action::Tell(_) => {}
            }
        }
        acts
    }

    fn register(&self) -> &Register {
        self.entry.register.as_ref().unwrap()
    }
}

fn both() -> Register {
    Register::first(&node("a")).joined(&node("a"), &node("b")).unwrap()
}

#[test]
fn home_writes_the_first_register_promotes_and_lets_the_peer_join() {
    let mut home = Story::of("a", None);
    assert!(matches!(&home.round()[..], [Action::Swap { .. }]));
    assert_eq!(home.round(), [Action::Promote]);
    assert_eq!(home.device.held(), Some(1));
    assert!(matches!(&home.round()[..], [Action::Swap { .. }]));
    assert_eq!(*home.register(), both());
    assert_eq!(home.round(), []);
    // A peer that is being filled does not join.
    let mut home = Story::of("a", Some(Register::first(&node("a"))));
    home.peer = PeerLink::Alone;
    assert_eq!(home.round(), [Action::Promote]);
    assert_eq!(home.round(), []);
}

#[test]
fn home_writes_no_register_while_its_switch_is_away_or_its_copy_is_behind() {
    let mut home = Story::of("a", None);
    home.around.wanted = false;
    assert_eq!(home.round(), []);
    home.around.wanted = true;
    home.data = CopyState::Outdated;
    assert_eq!(home.round(), []);
    assert_eq!(Story::of("b", None).round(), []);
}

#[test]
fn a_taker_swaps_the_register_first_and_promotes_after_it_has_read_that() {
    let mut taker = Story::of("b", Some(both()));
    assert_eq!(taker.round(), []);
    taker.device.take();
    assert!(matches!(&taker.round()[..], [Action::Swap { .. }]));
    assert!(taker.register().stands(&node("b"), 2));
    assert_eq!(taker.is, RESTS);
    assert_eq!(taker.round(), [Action::Promote]);
    assert_eq!(taker.round(), [Action::Launch]);
    assert_eq!(taker.round(), []);
}

#[test]
fn a_copy_that_is_behind_by_the_register_or_by_itself_is_not_taken() {
    let mut taker = Story::of("b", Some(Register::first(&node("a"))));
    taker.device.take();
    assert_eq!(taker.round(), [Action::GiveUp]);
    assert_eq!(taker.device.wrong(), Some(Word::NotCurrent));
    let mut taker = Story::of("b", Some(both()));
    taker.data = CopyState::Outdated;
    taker.device.take();
    assert_eq!(taker.round(), [Action::GiveUp]);
    assert_eq!(taker.device.copy(), OwnCopy::Behind);
    // Nor is it promoted when the register is its own.
    let mut owner = Story::of("a", Some(both()));
    owner.data = CopyState::Inconsistent;
    assert_eq!(owner.round(), []);
}

#[test]
fn who_lost_the_register_stops_its_switch_and_lets_go() {
    let mut old = Story::of("a", Some(both()));
    old.round();
    assert_eq!(old.device.held(), Some(1));
    old.entry = old.entry.swapped(Version(1), both().taken(&node("b")).unwrap()).unwrap();
    assert_eq!(old.round(), [Action::Stop, Action::Release]);
    assert_eq!(old.device.held(), None);
    assert_eq!(old.round(), []);
    // Also what was left mounted by a program before this one.
    let mut again = Story::of("a", Some(both().taken(&node("b")).unwrap()));
    again.is = WORKS;
    assert_eq!(again.round(), [Action::Stop, Action::Release]);
}

#[test]
fn a_device_held_for_an_older_term_is_promoted_anew_before_it_counts() {
    let mut old = Story::of("a", Some(both()));
    old.round();
    let back = both().taken(&node("b")).unwrap().taken(&node("a")).unwrap();
    old.entry = Entry { version: Version(9), register: Some(back) };
    assert_eq!(old.round(), [Action::Promote]);
    assert_eq!(old.device.held(), Some(3));
}

#[test]
fn a_queue_goes_home_after_the_device_was_released_and_only_to_a_current_copy() {
    let taken = both().taken(&node("b")).unwrap();
    let mut holder = Story::of("b", Some(taken.alone(&node("b")).unwrap()));
    holder.peer = PeerLink::Alone;
    holder.round();
    holder.around.give_to = Some(node("a"));
    assert_eq!(holder.round(), []);
    holder.peer = PeerLink::Connected;
    assert!(matches!(&holder.round()[..], [Action::Swap { .. }]));
    assert_eq!(holder.round(), [Action::Release]);
    assert!(holder.register().stands(&node("b"), 2));
    assert!(matches!(&holder.round()[..], [Action::Swap { .. }]));
    assert!(holder.register().stands(&node("a"), 3));
    assert_eq!(holder.round(), []);
}

#[test]
fn a_register_that_cannot_be_read_or_went_back_moves_nothing() {
    let mut owner = Story::of("a", Some(both().taken(&node("b")).unwrap().taken(&node("a")).unwrap()));
    owner.step(&Event::Round);
    assert_eq!(owner.step(&Event::Read(None)), []);
    assert_eq!(owner.device.wrong(), Some(Word::Unknown));
    owner.round();
    assert_eq!(owner.device.seen(), 3);
    let mut again = Story::of("a", None);
    again.device.remember(3);
    again.step(&Event::Round);
    assert_eq!(again.step(&Event::Read(Some(Entry::default()))), []);
    for older in [None, Some(both())] {
        owner.step(&Event::Round);
        let entry = Entry { version: Version(0), register: older };
        assert_eq!(owner.step(&Event::Read(Some(entry))), []);
        assert_eq!(owner.device.wrong(), Some(Word::WentBack));
    }
}

/// A round in which promotions fail.
fn refused(story: &mut Story) -> Vec<Action> {
    story.step(&Event::Round);
    story.step(&Event::Read(Some(story.entry.clone())));
    let said = said(DeviceRole::Secondary, false, CopyState::Current, PeerLink::Connected);
    let acts = story.step(&Event::Said(Some(said)));
    for act in &acts {
        if let Action::Swap { expected, register } = act {
            story.entry = story.entry.swapped(*expected, register.clone()).unwrap();
        }
    }
    story.step(&Event::Swapped);
    story.step(&Event::Promoted(false));
    acts
}

#[test]
fn an_old_owner_that_does_not_let_go_in_time_is_put_off_once_for_a_term() {
    let mut taker = Story::of("b", Some(both()));
    taker.device.take();
    assert!(matches!(&refused(&mut taker)[..], [Action::Swap { .. }]));
    for _ in 0..9 {
        assert_eq!(refused(&mut taker), [Action::Promote]);
    }
    assert_eq!(taker.device.wrong(), Some(Word::NotPromoted));
    taker.around.late = true;
    for _ in 0..2 {
        assert_eq!(refused(&mut taker), [Action::Fence(node("a"))]);
        taker.step(&Event::Fenced(false));
    }
    assert_eq!(refused(&mut taker), [Action::Fence(node("a"))]);
    taker.step(&Event::Fenced(true));
    assert_eq!(refused(&mut taker), [Action::Promote]);
    assert_eq!(taker.round(), [Action::Promote]);
    assert_eq!(taker.device.wrong(), None);
}

#[test]
fn nobody_is_put_off_by_who_did_not_take_the_queue_from_him() {
    let mut home = Story::of("a", Some(Register::first(&node("a"))));
    home.around.late = true;
    let mut given = Story::of("a", Some(both().taken(&node("b")).unwrap().taken(&node("a")).unwrap()));
    given.around.late = true;
    for story in [&mut home, &mut given] {
        for _ in 0..3 {
            assert_eq!(refused(story), [Action::Promote]);
        }
    }
}

#[test]
fn a_copy_that_parted_from_the_owners_is_not_taken_and_the_owner_goes_on() {
    let mut taker = Story::of("b", Some(both()));
    taker.peer = PeerLink::Split;
    taker.device.take();
    assert_eq!(taker.round(), [Action::GiveUp]);
    assert_eq!(taker.device.copy(), OwnCopy::Behind);
    // Primary and mounted on both sides: who does not own by the register ends.
    taker.is = WORKS;
    assert_eq!(taker.round(), [Action::Stop, Action::Release]);
    let mut owner = Story::of("a", Some(both()));
    owner.peer = PeerLink::Split;
    assert_eq!(owner.round(), [Action::Promote]);
    assert_eq!(owner.round(), []);
    assert_eq!((owner.device.held(), owner.device.copy()), (Some(1), OwnCopy::Current));
    assert_eq!(owner.device.wrong(), Some(Word::Split));
}

#[test]
fn a_takeover_does_not_outlive_the_absence_of_the_arbiter() {
    let mut taker = Story::of("b", Some(both()));
    taker.device.take();
    taker.step(&Event::Round);
    assert_eq!(taker.step(&Event::Read(None)), [Action::GiveUp]);
    assert_eq!(taker.round(), []);
    assert!(taker.register().stands(&node("a"), 1));
}

#[test]
fn what_the_hook_prints_is_read_and_anything_else_is_not() {
    let line = r#"{"role":"primary","mounted":true,"data":"current","peer":"split"}"#;
    let wanted = said(DeviceRole::Primary, true, CopyState::Current, PeerLink::Split);
    assert_eq!(serde_json::from_str::<DeviceState>(line).unwrap(), wanted);
    assert!(serde_json::from_str::<DeviceState>(&line.replace("split", "maybe")).is_err());
    assert!(serde_json::from_str::<DeviceState>("{}").is_err());
}
