//! Stories: events in, actions and state out. Node b (or c) watches the queue of a.

use mail_model::NodeId;
use proptest::prelude::*;

use super::*;
use crate::timers::Timers;

const P: u64 = 250;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn lease(owner: &str, epoch: u64, seq: u64) -> LeaseView {
    LeaseView {
        epoch: Epoch(epoch),
        owner: node(owner),
        role: if owner == "a" { Role::Primary } else { Role::Secondary },
        seq,
        state: Some(LeaseState::Active),
        working: true,
        window_ms: 2000,
        renew_ms: 300,
        queued: 5,
    }
}

fn released(owner: &str, epoch: u64, seq: u64) -> LeaseView {
    LeaseView { state: Some(LeaseState::Released), ..lease(owner, epoch, seq) }
}

fn peer(paths_up: u32) -> PeerView {
    PeerView { known: true, paths_up, paths: 2, ..PeerView::default() }
}

fn waiting() -> PeerView {
    PeerView { waiting: true, ..peer(2) }
}

/// A machine, its world, and what it did so far.
struct Story {
    machine: Takeover,
    view: View,
    now: Moment,
    did: Vec<String>,
    decisions: Vec<Decision>,
}

impl Story {
    fn of(me: &str) -> Self {
        let watch = Watch {
            me: node(me),
            queue: "a".parse().unwrap(),
            timers: Timers::default(),
            order: ["a", "b", "c"].map(node).to_vec(),
            promoted: false,
        };
        let peers = ["a", "b", "c"].into_iter().filter(|n| *n != me).map(|n| (node(n), peer(2))).collect();
        let view = View { own: OwnLease::Healthy, room: true, peers, ..View::default() };
        Self { machine: Takeover::new(watch), view, now: Moment(0), did: Vec::new(), decisions: Vec::new() }
    }

    fn event(&mut self, event: &Event) {
        let mut out = Vec::new();
        self.machine.step(self.now, event, &self.view, &mut out);
        self.note(out);
    }

    fn note(&mut self, out: Vec<Action>) {
        for action in out {
            self.did.push(match action {
                Action::Probe => "probe".into(),
                Action::ReadNow => "read".into(),
                Action::Launch { expected, reason } => format!("launch {expected} {reason}"),
                Action::Drain { .. } => "drain".into(),
                Action::Record(decision) => {
                    let line = format!("{:?} {:?}", decision.verdict, decision.rule);
                    self.decisions.push(*decision);
                    line
                }
            });
        }
    }

    fn read(&mut self, lease: LeaseView) {
        self.event(&Event::Read(Some(lease)));
    }

    /// Reads the same lease every P for so long.
    fn unchanged(&mut self, lease: &LeaseView, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.read(lease.clone());
        while self.now < end {
            self.now = self.now + Duration::from_millis(P);
            self.read(lease.clone());
        }
    }

    fn alive(&mut self, owner: &str, epoch: u64, ms: u64) {
        for _ in 0..ms / P {
            self.now = self.now + Duration::from_millis(P);
            let seq = self.now.0;
            self.read(lease(owner, epoch, seq));
        }
    }

    fn probe_ok(&mut self) {
        self.event(&Event::Probed(Some(Duration::from_millis(3))));
    }

    /// The window, the probe and the last read, up to the launch.
    fn taken(&mut self, stale: &LeaseView) {
        self.unchanged(stale, 2000);
        self.probe_ok();
        self.read(stale.clone());
    }

    fn check(self, wanted: &[&str], state: State) {
        let did: Vec<&str> = self.did.iter().map(String::as_str).collect();
        assert_eq!((did.as_slice(), self.machine.state()), (wanted, state));
    }
}

const SEEN: &str = "OwnerChanged Lease";
const SUSPECTED: &str = "Suspected Lease";
const CANDIDATE: &str = "Candidate StaleWindow";
const TAKE: &str = "Take StaleWindow";

#[test]
fn a_dead_owner_is_taken_after_window_probe_and_last_read_and_not_a_read_earlier() {
    let mut story = Story::of("b");
    story.unchanged(&lease("a", 7, 3), 1750);
    assert_eq!(story.did, [SEEN, SUSPECTED]);
    story.unchanged(&lease("a", 7, 3), 250);
    assert_eq!(story.did[2..], [CANDIDATE, "probe"]);
    story.probe_ok();
    story.read(lease("a", 7, 3));
    story.read(lease("b", 8, 1));
    let take = &story.decisions[3].evidence;
    assert_eq!((take.reads >= 9, take.span_ms, take.probe_ms, take.rank), (true, 2000, Some(3), 0));
    story.check(
        &[SEEN, SUSPECTED, CANDIDATE, "probe", "read", TAKE, "launch 7 expired", SEEN, "Taken StaleWindow"],
        State::Holding,
    );
}

#[test]
fn an_owner_that_renews_at_the_last_read_keeps_its_queue() {
    let mut story = Story::of("b");
    story.unchanged(&lease("a", 7, 3), 2000);
    story.probe_ok();
    story.read(lease("a", 7, 4));
    story.check(&[SEEN, SUSPECTED, CANDIDATE, "probe", "read", "StandDown Lease"], State::Healthy);
}

#[test]
fn the_second_in_the_order_waits_its_stagger_and_loses_to_the_first() {
    let mut story = Story::of("c");
    story.unchanged(&lease("a", 7, 3), 2000);
    story.probe_ok();
    assert_eq!(story.did.last().unwrap(), "probe");
    story.now = story.now + Duration::from_millis(299);
    story.event(&Event::Tick);
    assert_eq!(story.did.last().unwrap(), "probe");
    story.now = story.now + Duration::from_millis(1);
    story.event(&Event::Tick);
    assert_eq!(story.did.last().unwrap(), "read");
    story.read(lease("b", 8, 1));
    story.check(&[SEEN, SUSPECTED, CANDIDATE, "probe", "read", SEEN, "StandDown Lease"], State::Healthy);
}

#[test]
fn a_lost_claim_is_told_and_the_winner_is_watched_like_any_owner() {
    let mut story = Story::of("c");
    story.taken(&lease("a", 7, 3));
    story.now = story.now + Duration::from_millis(300);
    story.event(&Event::Tick);
    story.read(lease("a", 7, 3));
    assert_eq!(story.did.last().unwrap(), "launch 7 expired");
    story.read(lease("b", 8, 1));
    story.event(&Event::SecondaryEnded);
    assert_eq!(story.machine.state(), State::LostRace);
    story.taken(&lease("b", 8, 1));
    story.read(lease("b", 8, 1));
    assert_eq!(story.did.last().unwrap(), "launch 8 expired");
}

#[test]
fn a_storage_stall_makes_nobody_eligible() {
    let mut story = Story::of("b");
    story.view.own = OwnLease::Stale;
    story.unchanged(&lease("a", 7, 3), 10_000);
    story.check(&[SEEN, SUSPECTED, "NotTaken OwnLeaseStale"], State::Ineligible(Ineligible::OwnLeaseStale));
}

#[test]
fn a_probe_that_is_slow_fails_or_hangs_stops_the_takeover() {
    for answer in [Some(Some(Duration::from_millis(301))), Some(None), None] {
        let mut story = Story::of("b");
        story.unchanged(&lease("a", 7, 3), 2000);
        match answer {
            Some(took) => story.event(&Event::Probed(took)),
            None => story.now = story.now + Duration::from_millis(301),
        }
        story.event(&Event::Tick);
        story.check(
            &[SEEN, SUSPECTED, CANDIDATE, "probe", "NotTaken ProbeSlow"],
            State::Ineligible(Ineligible::ProbeSlow),
        );
    }
}

#[test]
fn a_lease_that_cannot_be_read_makes_this_node_the_sick_one() {
    let mut story = Story::of("b");
    story.unchanged(&lease("a", 7, 3), 1750);
    story.event(&Event::Unreadable);
    story.event(&Event::Unreadable);
    assert_eq!(story.machine.state(), State::Ineligible(Ineligible::Unreadable));
    // The window starts anew.
    story.unchanged(&lease("a", 7, 3), 1750);
    assert!(!story.did.contains(&"probe".to_owned()));
    assert_eq!(story.did.iter().filter(|line| *line == "NotTaken Unreadable").count(), 1);
}

#[test]
fn a_network_that_is_down_is_no_reason_while_the_lease_is_fresh() {
    let mut story = Story::of("b");
    story.view.peers.insert(node("a"), peer(0));
    story.alive("a", 7, 20_000);
    story.check(&[SEEN, "Alarm NetworkDown"], State::Healthy);
    let mut story = Story::of("b");
    story.view.peers.insert(node("a"), peer(1));
    story.alive("a", 7, 20_000);
    story.check(&[SEEN, "Alarm PathDown"], State::Healthy);
}

#[test]
fn a_pause_prevents_and_its_end_lets_go_on() {
    let mut story = Story::of("b");
    story.view.paused_until = Some(Moment(5000));
    story.unchanged(&lease("a", 7, 3), 4750);
    assert_eq!(story.machine.state(), State::Paused(Moment(5000)));
    story.unchanged(&lease("a", 7, 3), 500);
    story.check(&[SEEN, SUSPECTED, "NotTaken Paused", CANDIDATE, "probe"], State::Candidate);
}

#[test]
fn local_restart_comes_first_but_not_for_ever() {
    let mut story = Story::of("b");
    story.view.peers.insert(node("a"), PeerView { restarting: true, ..peer(2) });
    story.unchanged(&lease("a", 7, 3), 9750);
    assert_eq!(story.did, [SEEN, SUSPECTED, "NotTaken LocalRestart"]);
    story.unchanged(&lease("a", 7, 3), 500);
    assert_eq!(story.did.last().unwrap(), "probe");
}

#[test]
fn an_attested_death_skips_the_window_for_that_epoch_only() {
    for (epoch, wanted) in [(7, vec![SEEN, "Candidate InstanceDead", "probe"]), (6, vec![SEEN])] {
        let mut story = Story::of("b");
        let dead = vec![("a".parse().unwrap(), Epoch(epoch))];
        story.view.peers.insert(node("a"), PeerView { dead, ..peer(2) });
        story.read(lease("a", 7, 3));
        assert_eq!(story.did, wanted);
    }
}

#[test]
fn a_released_queue_is_left_to_a_home_that_waits_taken_when_home_is_gone_and_never_when_empty() {
    let mut story = Story::of("b");
    story.view.peers.insert(node("a"), waiting());
    story.unchanged(&released("c", 7, 3), 10_000);
    story.check(&[SEEN, "NotTaken HomeWaits"], State::Watching);

    let mut story = Story::of("b");
    story.view.peers.insert(node("a"), peer(0));
    story.read(released("a", 7, 3));
    story.probe_ok();
    story.read(released("a", 7, 3));
    story.check(
        &[SEEN, "Candidate Released", "probe", "read", "Take Released", "launch 7 released"],
        State::Taking,
    );

    let mut story = Story::of("b");
    story.view.peers.insert(node("a"), peer(0));
    story.unchanged(&LeaseView { queued: 0, ..released("a", 7, 3) }, 10_000);
    story.check(&[SEEN, "NotTaken ReleasedEmpty"], State::Healthy);
}

#[test]
fn a_home_that_stays_gets_its_queue_back() {
    let mut story = Story::of("b");
    story.taken(&lease("a", 7, 3));
    story.view.peers.insert(node("a"), waiting());
    story.alive("b", 8, 15_000);
    assert_eq!(story.did.last().unwrap(), "HandbackWait HomeWaits");
    story.alive("b", 8, 500);
    assert_eq!(story.did.last().unwrap(), "drain");
    // Its end is seen before its last word.
    story.event(&Event::SecondaryEnded);
    story.read(released("b", 8, 999_999));
    story.alive("a", 9, 500);
    assert_eq!(story.machine.state(), State::Healthy);
    let tail = &story.did[story.did.len() - 6..];
    assert_eq!(
        tail,
        ["Handback HomeStayed", "drain", "read", "NotTaken HomeWaits", SEEN, "HandedBack Lease"]
    );
}

#[test]
fn a_home_that_comes_and_goes_starts_its_hold_anew() {
    let mut story = Story::of("b");
    story.taken(&lease("a", 7, 3));
    for _ in 0..5 {
        story.view.peers.insert(node("a"), waiting());
        story.alive("b", 8, 10_000);
        story.view.peers.insert(node("a"), peer(0));
        story.alive("b", 8, 500);
    }
    assert_eq!(story.machine.state(), State::Holding);
    assert!(!story.did.contains(&"drain".to_owned()));
}

#[test]
fn the_hold_doubles_and_the_third_failover_in_an_hour_keeps_the_queue_here() {
    let mut story = Story::of("b");
    let mut epoch = 7;
    for hold in [15_000, 30_000] {
        story.view.peers.insert(node("a"), peer(0));
        story.taken(&lease("a", epoch, 3));
        story.view.peers.insert(node("a"), waiting());
        story.alive("b", epoch + 1, hold);
        assert!(story.did.last().unwrap().starts_with("HandbackWait"), "{:?}", story.did.last());
        story.alive("b", epoch + 1, 500);
        assert_eq!(story.did.last().unwrap(), "drain");
        epoch += 2;
        story.alive("a", epoch, 1000);
    }
    story.view.peers.insert(node("a"), peer(0));
    story.taken(&lease("a", epoch, 3));
    story.view.peers.insert(node("a"), waiting());
    story.alive("b", epoch + 1, 600_000);
    assert_eq!(story.did.last().unwrap(), "Alarm Flapping");
    assert_eq!(story.machine.state(), State::Holding);
    // An operator may still order it.
    let mut out = Vec::new();
    assert_eq!(story.machine.order_handback(story.now, &story.view, &mut out), Ok(()));
    story.note(out);
    assert_eq!(story.did.last().unwrap(), "drain");
}

#[test]
fn a_secondary_that_dies_is_started_again_at_once() {
    let mut story = Story::of("b");
    story.taken(&lease("a", 7, 3));
    story.read(lease("b", 8, 1));
    story.event(&Event::SecondaryEnded);
    assert_eq!(story.machine.state(), State::Holding);
    story.read(lease("b", 8, 1));
    story.probe_ok();
    story.read(lease("b", 8, 1));
    assert_eq!(story.did.last().unwrap(), "launch 8 expired");
}

#[test]
fn secondaries_that_end_without_a_claim_are_started_thrice_in_a_minute_and_no_more() {
    let mut story = Story::of("b");
    for _ in 0..60 {
        story.unchanged(&lease("a", 7, 3), 250);
        if story.machine.state() == State::Candidate {
            story.probe_ok();
            story.read(lease("a", 7, 3));
        }
        if story.machine.state() == State::Taking {
            story.event(&Event::SecondaryEnded);
            story.read(lease("a", 7, 3));
        }
    }
    assert_eq!(story.did.iter().filter(|line| line.starts_with("launch")).count(), 3);
    assert_eq!(story.machine.state(), State::Ineligible(Ineligible::LaunchFails));
}

#[test]
fn an_operator_takes_a_healthy_queue_at_once_but_not_his_own() {
    let mut story = Story::of("b");
    story.alive("a", 7, 1000);
    let mut out = Vec::new();
    assert_eq!(story.machine.order_takeover(story.now, "drill", &story.view, &mut out), Ok(()));
    story.note(out);
    assert_eq!(story.did.last().unwrap(), "launch 7 forced");
    story.read(lease("b", 8, 1));
    let again = story.machine.order_takeover(story.now, "drill", &story.view, &mut Vec::new());
    assert_eq!(again, Err(Refused::OwnerAlready));
    let mut home = Story::of("a");
    home.alive("b", 8, 1000);
    let refused = home.machine.order_takeover(home.now, "mine", &home.view, &mut Vec::new());
    assert_eq!(refused, Err(Refused::Home));
}

#[test]
fn the_home_node_never_starts_a_secondary_for_its_own_queue() {
    let mut story = Story::of("a");
    story.unchanged(&lease("b", 7, 3), 20_000);
    assert_eq!(story.did, [SEEN, SUSPECTED]);
}

#[test]
fn a_running_secondary_is_adopted_after_a_restart() {
    let mut story = Story::of("b");
    story.alive("b", 8, 1000);
    story.check(&[SEEN, "Adopted Lease"], State::Holding);
}

#[test]
fn promoted_storage_is_taken_only_with_a_copy_that_is_known_to_be_current() {
    let mut story = Story::of("b");
    story.machine.watch.promoted = true;
    // An owner is silent because the arbiter is: the window begins when that is over.
    story.unchanged(&lease("a", 7, 3), 5000);
    assert_eq!(story.machine.state(), State::Healthy);
    let mut out = Vec::new();
    let refused = story.machine.order_takeover(story.now, "a is dead", &story.view, &mut out);
    assert_eq!(refused, Err(Refused::CopyBehind));
    let queue = story.machine.watch.queue.clone();
    let device = |copy| DeviceView { copy, ..DeviceView::default() };
    story.view.devices.insert(queue.clone(), device(OwnCopy::Behind));
    story.unchanged(&lease("a", 7, 3), 1000);
    assert_eq!(story.machine.state(), State::Watching);
    story.unchanged(&lease("a", 7, 3), 2000);
    assert_eq!(story.machine.state(), State::Ineligible(Ineligible::CopyBehind));
    let refused = story.machine.order_takeover(story.now, "a is dead", &story.view, &mut out);
    assert_eq!(refused, Err(Refused::CopyBehind));
    story.view.devices.insert(queue.clone(), device(OwnCopy::Current));
    story.machine.order_takeover(story.now, "a is dead", &story.view, &mut out).unwrap();
    story.note(out);
    assert_eq!(story.did.last().unwrap(), "launch 7 forced");
    // The mounted device says more than the last heartbeat did: that is no lost race.
    story.unchanged(&lease("a", 8, 1), 500);
    assert_eq!(story.machine.state(), State::Taking);
    story.view.devices.insert(queue, DeviceView { blocked: true, ..device(OwnCopy::Current) });
    story.unchanged(&lease("a", 8, 1), 500);
    assert_eq!(story.machine.state(), State::Blocked(Blocked::NeedsFence));
    story.alive("b", 9, 500);
    assert_eq!(story.machine.state(), State::Holding);
    // It goes home only once the copy there is current again.
    story.view.peers.insert(node("a"), waiting());
    story.alive("b", 9, 1000);
    assert_eq!(story.machine.state(), State::Holding);
    let queue = story.machine.watch.queue.clone();
    story.view.devices.insert(queue, DeviceView { home_current: true, ..device(OwnCopy::Current) });
    story.alive("b", 9, 1000);
    assert_eq!(story.machine.state(), State::HandbackWait);
}

#[test]
fn the_home_node_takes_its_device_from_a_survivor_that_is_gone_on_promoted_storage() {
    for (seen, rule) in [(lease("b", 7, 3), "StaleWindow"), (released("b", 7, 3), "Released")] {
        let mut story = Story::of("a");
        story.machine.watch.promoted = true;
        let queue = story.machine.watch.queue.clone();
        story.view.devices.insert(queue, DeviceView { copy: OwnCopy::Current, ..DeviceView::default() });
        story.view.peers.insert(node("b"), peer(0));
        story.unchanged(&seen, 1750);
        assert!(!story.did.iter().any(|did| did.starts_with("Candidate")), "{:?}", story.did);
        story.unchanged(&seen, 250);
        story.probe_ok();
        story.read(seen.clone());
        assert!(story.did.contains(&format!("Take {rule}")), "{:?}", story.did);
        assert_eq!(story.machine.state(), State::Taking);
        story.alive("a", 8, 500);
        assert_eq!(story.machine.state(), State::Healthy);
        // What it owns itself is for its own primary, not to be taken.
        story.unchanged(&lease("a", 8, 3), 20_000);
        story.unchanged(&released("a", 8, 4), 20_000);
        assert_eq!(story.did.iter().filter(|did| did.starts_with("launch")).count(), 1);
    }
}

#[test]
fn an_owner_on_promoted_storage_whose_node_lives_is_not_taken_over_for_its_silence() {
    let mut story = Story::of("b");
    story.machine.watch.promoted = true;
    let queue = story.machine.watch.queue.clone();
    story.view.devices.insert(queue, DeviceView { copy: OwnCopy::Current, ..DeviceView::default() });
    story.view.peers.insert(node("a"), peer(0));
    let hears = std::collections::BTreeSet::from([node("a")]);
    story.view.peers.insert(node("w"), PeerView { hears, ..peer(2) });
    story.unchanged(&lease("a", 7, 3), 6000);
    assert_eq!(story.machine.state(), State::Watching);
    story.view.peers.insert(node("w"), peer(2));
    let queue = story.machine.watch.queue.clone();
    let device = |connected| DeviceView { copy: OwnCopy::Current, connected, ..DeviceView::default() };
    story.view.devices.insert(queue.clone(), device(true));
    story.unchanged(&lease("a", 7, 3), 1000);
    assert_eq!(story.machine.state(), State::Watching);
    story.view.devices.insert(queue, device(false));
    story.unchanged(&lease("a", 7, 3), 0);
    assert_eq!(story.machine.state(), State::Candidate);
    // A heartbeatd that is heard and says no newer renewal is no silence.
    story.view.peers.insert(node("a"), peer(2));
    let queue = story.machine.watch.queue.clone();
    story.view.devices.insert(queue, device(true));
    story.unchanged(&lease("a", 7, 3), 0);
    assert_eq!(story.machine.state(), State::Candidate);
}

#[test]
fn the_own_lease_is_a_proof_only_if_it_was_renewed_all_through_the_window() {
    let window = Duration::from_secs(2);
    let mut own = OwnWatch::default();
    let mut now = Moment(0);
    let me = node("a");
    let mut read = |own: &mut OwnWatch, after: u64, seq: u64| {
        now = now + Duration::from_millis(after);
        own.read(now, &me, Some(&lease("a", 7, seq)), window);
        own.judge(now, window)
    };
    for seq in 0..20 {
        assert_eq!(read(&mut own, 250, seq), OwnLease::Healthy);
    }
    let judged: Vec<_> = (0..6).map(|_| read(&mut own, 250, 19)).collect();
    assert_eq!((judged[3], judged[4]), (OwnLease::Healthy, OwnLease::Stale));
    assert_eq!(read(&mut own, 250, 20), OwnLease::Stale);
    let judged: Vec<_> = (21..40).map(|seq| read(&mut own, 250, seq)).collect();
    assert_eq!(judged.last(), Some(&OwnLease::Healthy));
    assert_eq!(read(&mut own, 1250, 41), OwnLease::Stale);
}

proptest! {
    /// Whatever happens, a launch without an operator has had a quick probe and an unchanged read after it.
    #[test]
    fn nothing_is_launched_without_a_probe_and_a_read_after_it(
        steps in proptest::collection::vec((0u8..6, 0u64..4, 0u64..400), 1..400)
    ) {
        let mut story = Story::of("b");
        let (mut probed, mut reread) = (false, false);
        for (kind, what, after) in steps {
            story.now = story.now + Duration::from_millis(after);
            let before = story.did.len();
            match kind {
                0 => story.event(&Event::Tick),
                1 => { story.probe_ok(); probed = true; reread = false; }
                2 => story.event(&Event::SecondaryEnded),
                3 if what == 0 => story.event(&Event::Unreadable),
                _ => { reread = probed; story.read(lease(if what == 3 { "c" } else { "a" }, 7 + what / 3, what / 2)); }
            }
            let new = &story.did[before..];
            if new.iter().any(|line| line == "probe") { probed = false; reread = false; }
            if new.iter().any(|line| line.starts_with("launch")) {
                prop_assert!(probed && reread, "{:?}", story.did);
                probed = false;
            }
        }
    }
}
