use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NEVER: Moment = Moment(u64::MAX);
const MIDDLE: u32 = u32::MAX / 2;

fn queue(per_destination: usize, total: usize) -> Queue<&'static str, u32> {
    let pause = RetryPolicy {
        first: Duration::from_secs(1),
        max: Duration::from_mins(1),
        lifetime: Duration::from_hours(120),
    };
    Queue::new(ConcurrencyLimits { per_destination, total, initial: per_destination }, pause)
}

fn all(queue: &mut Queue<&'static str, u32>, now: u64) -> Vec<(&'static str, u32)> {
    std::iter::from_fn(|| queue.next(Moment(now))).map(|task| (task.destination, task.item)).collect()
}

#[test]
fn items_leave_when_they_are_due_and_in_that_order() {
    let mut queue = queue(10, 10);
    for (item, due) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        queue.add(&"a", item, Moment(due), NEVER);
    }
    assert_eq!(queue.next_wake(), Some(Moment(10)));
    assert_eq!(all(&mut queue, 9), []);
    assert_eq!(all(&mut queue, 20), [("a", 2), ("a", 4), ("a", 3)]);
    assert_eq!(queue.next_wake(), Some(Moment(30)));
    assert_eq!((queue.waiting(), queue.running()), (1, 3));
}

#[test]
fn destinations_take_turns_however_many_items_one_has() {
    let mut queue = queue(10, 10);
    for item in 0..1000 {
        queue.add(&"busy", item, Moment(0), NEVER);
    }
    queue.add(&"small", 1, Moment(5), NEVER);
    let first: Vec<_> = all(&mut queue, 5).into_iter().take(2).collect();
    assert!(first.contains(&("small", 1)), "{first:?}");
    assert_eq!(queue.running(), 10);
    assert_eq!(queue.next_wake(), None, "all places are taken");
}

#[test]
fn whoever_has_a_connection_goes_on_unless_others_wait_for_the_last_place() {
    let mut queue = queue(10, 2);
    for item in 0..9 {
        queue.add(&"a", item, Moment(0), NEVER);
    }
    assert_eq!(all(&mut queue, 0).len(), 2);
    queue.finished(&"a", 0, Outcome::Reached, Moment(0));
    assert_eq!(queue.next_at(&"a", Moment(0)).map(|t| t.item), Some(2));
    queue.add(&"b", 1, Moment(0), NEVER);
    queue.finished(&"a", 2, Outcome::Reached, Moment(0));
    assert_eq!(queue.next_at(&"a", Moment(0)), None);
    assert_eq!(queue.next(Moment(0)).map(|t| t.destination), Some("a"), "a stood in line before b");
    queue.finished(&"a", 1, Outcome::Reached, Moment(0));
    assert_eq!(queue.next(Moment(0)).map(|t| t.destination), Some("b"));
}

#[test]
fn queues_that_send_to_one_destination_share_its_bound_and_each_may_always_run_one() {
    let mut queue = queue(6, 100);
    queue.expect_sharers(2);
    for item in 0..20 {
        queue.add(&"a", item, Moment(0), NEVER);
    }
    assert_eq!(all(&mut queue, 0).len(), 3, "half of it");
    assert_eq!(queue.busy(), ["a"]);
    // The other one is gone.
    queue.set_sharers(&"a", 1);
    assert_eq!(all(&mut queue, 0).len(), 3, "all of it");
    // More come than there are places.
    queue.set_sharers(&"a", 9);
    for item in 0..5 {
        queue.finished(&"a", item, Outcome::Reached, Moment(0));
        assert_eq!(queue.next_at(&"a", Moment(0)), None);
    }
    queue.finished(&"a", 5, Outcome::Reached, Moment(0));
    assert_eq!(queue.busy(), [""; 0]);
    assert_eq!(all(&mut queue, 0).len(), 1);
}

#[test]
fn a_destination_that_cannot_be_reached_is_probed_by_one_item_at_growing_intervals() {
    let mut queue = queue(3, 10);
    for item in 0..500 {
        queue.add(&"down", item, Moment(0), NEVER);
    }
    assert_eq!(all(&mut queue, 0).len(), 3);
    for item in 0..3 {
        queue.finished(&"down", item, Outcome::Unreachable(MIDDLE), Moment(0));
    }
    let mut probes = Vec::new();
    for _ in 0..4 {
        let now = queue.next_wake().unwrap().0;
        let probe = all(&mut queue, now);
        assert_eq!(probe.len(), 1, "one probe at a time");
        probes.push(now);
        queue.finished(&"down", probe[0].1, Outcome::Unreachable(MIDDLE), Moment(now));
    }
    assert_eq!(probes, [1_000, 3_000, 7_000, 15_000]);
    let now = queue.next_wake().unwrap().0;
    let probe = all(&mut queue, now);
    queue.finished(&"down", probe[0].1, Outcome::Reached, Moment(now));
    assert_eq!(all(&mut queue, now).len(), 3, "the whole window is open again");
}

#[test]
fn a_pause_that_is_ended_lets_one_probe_go_at_once() {
    let mut queue = queue(3, 10);
    for item in 0..5 {
        queue.add(&"down", item, Moment(0), NEVER);
    }
    for (_, item) in all(&mut queue, 0) {
        queue.finished(&"down", item, Outcome::Unreachable(MIDDLE), Moment(0));
    }
    assert_eq!(all(&mut queue, 10), []);
    queue.end_pause(&"down", Moment(10));
    assert_eq!(all(&mut queue, 10).len(), 1, "one probe");
    queue.end_pause(&"down", Moment(10));
    assert_eq!(all(&mut queue, 10), [], "one probe at a time");
    queue.finished(&"down", 3, Outcome::Unreachable(MIDDLE), Moment(10));
    assert_eq!(queue.next_wake(), Some(Moment(2_010)), "the pause still grows");
    queue.end_pause(&"unknown", Moment(10));
}

#[test]
fn a_destination_that_turns_some_away_gets_as_many_as_it_takes_and_slowly_more() {
    let mut queue = queue(8, 100);
    for item in 0..1000 {
        queue.add(&"few", item, Moment(0), NEVER);
    }
    let mut running = all(&mut queue, 0);
    assert_eq!(running.len(), 8);
    for (_, item) in running.split_off(3) {
        queue.finished(&"few", item, Outcome::Unreachable(MIDDLE), Moment(0));
    }
    assert_eq!(all(&mut queue, 0), [], "three run, and three it takes");
    for _ in 0..49 {
        queue.finished(&"few", running.remove(0).1, Outcome::Reached, Moment(0));
        running.extend(all(&mut queue, 0));
        assert_eq!(running.len(), 3);
    }
    queue.finished(&"few", running.remove(0).1, Outcome::Reached, Moment(0));
    running.extend(all(&mut queue, 0));
    assert_eq!(running.len(), 4);
}

#[test]
fn a_probe_that_learnt_nothing_is_followed_by_another() {
    let mut queue = queue(3, 10);
    queue.add(&"down", 1, Moment(0), NEVER);
    queue.add(&"down", 2, Moment(0), NEVER);
    assert_eq!(queue.next(Moment(0)).unwrap().item, 1);
    queue.finished(&"down", 1, Outcome::Unreachable(MIDDLE), Moment(0));
    assert_eq!(queue.next(Moment(999)), None);
    assert_eq!(queue.next(Moment(1000)).unwrap().item, 2);
    queue.add(&"down", 3, Moment(0), NEVER);
    queue.finished(&"down", 2, Outcome::Untried, Moment(1000));
    assert_eq!(queue.next(Moment(1000)).unwrap().item, 3);
}

#[test]
fn what_expires_at_a_dead_destination_is_given_up_without_an_attempt() {
    let mut queue = queue(3, 10);
    queue.add(&"down", 1, Moment(0), NEVER);
    queue.add(&"down", 2, Moment(0), Moment(500));
    queue.add(&"down", 3, Moment(100_000), Moment(100_000));
    assert_eq!(queue.next(Moment(0)).unwrap().item, 1);
    queue.finished(&"down", 1, Outcome::Unreachable(MIDDLE), Moment(0));
    assert_eq!(queue.next_wake(), Some(Moment(500)));
    assert_eq!(queue.next(Moment(500)), Some(Task { destination: "down", item: 2, expired: true }));
    queue.finished(&"down", 2, Outcome::Untried, Moment(500));
    assert_eq!(queue.next(Moment(500)), None);
}

#[test]
fn an_item_is_at_a_destination_once() {
    let mut queue = queue(3, 10);
    queue.add(&"a", 1, Moment(50), NEVER);
    queue.add(&"a", 1, Moment(70), NEVER);
    queue.add(&"a", 1, Moment(20), NEVER);
    assert_eq!(queue.waiting(), 1);
    assert_eq!(all(&mut queue, 20), [("a", 1)]);
    queue.add(&"a", 1, Moment(20), NEVER);
    assert_eq!(all(&mut queue, 30), [], "it runs");
    queue.finished(&"a", 1, Outcome::Reached, Moment(30));
    assert_eq!(all(&mut queue, 30), [("a", 1)], "what was added meanwhile comes after");
}

#[test]
fn a_dead_destination_with_half_a_million_items_costs_the_others_no_scan() {
    let mut queue = queue(20, 500);
    for item in 0..500_000 {
        queue.add(&"dead", item, Moment(0), NEVER);
    }
    let probe = queue.next(Moment(0)).unwrap();
    queue.finished(&"dead", probe.item, Outcome::Unreachable(MIDDLE), Moment(0));
    // A scan a step would be 5 * 10^10 steps here, and this test would not end.
    for item in 0..100_000 {
        queue.add(&"live", item, Moment(1), NEVER);
        let task = queue.next(Moment(1)).unwrap();
        assert_eq!(task.destination, "live");
        queue.finished(&"live", task.item, Outcome::Reached, Moment(1));
    }
    assert_eq!(queue.waiting(), 499_999);
}

#[derive(Debug, Clone)]
enum Step {
    Add { destination: u8, item: u8, due: u8 },
    Next,
    NextAt { destination: u8 },
    Finish { which: u8, outcome: u8 },
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4u8, any::<u8>(), any::<u8>()).prop_map(|(destination, item, due)| Step::Add { destination, item, due }),
        3 => Just(Step::Next),
        1 => (0..4u8).prop_map(|destination| Step::NextAt { destination }),
        3 => (any::<u8>(), 0..3u8).prop_map(|(which, outcome)| Step::Finish { which, outcome }),
        1 => any::<u8>().prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..300)
}

/// The queue beside a plain list of what it should hold.
struct Twin {
    queue: Queue<u8, u8>,
    now: u64,
    waits: BTreeMap<(u8, u8), u64>,
    runs: Vec<(u8, u8)>,
    again: BTreeMap<(u8, u8), u64>,
}

impl Twin {
    fn take(&mut self, task: Option<Task<u8, u8>>) {
        let Some(task) = task else { return };
        let name = (task.destination, task.item);
        let due = self.waits.remove(&name).expect("it waited");
        assert!(due <= self.now, "never before it is due");
        self.runs.push(name);
        assert!(self.runs.iter().filter(|run| run.0 == task.destination).count() <= 2, "the window");
        assert!(self.runs.len() <= 5, "the total");
    }

    fn add(&mut self, name: (u8, u8), due: u64) {
        let list = if self.runs.contains(&name) { &mut self.again } else { &mut self.waits };
        let known = list.entry(name).or_insert(due);
        *known = due.min(*known);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add { destination, item, due } => {
                let due = self.now + u64::from(*due);
                self.queue.add(destination, *item, Moment(due), NEVER);
                self.add((*destination, *item), due);
            }
            Step::Next => {
                let task = self.queue.next(Moment(self.now));
                self.take(task);
            }
            Step::NextAt { destination } => {
                let task = self.queue.next_at(destination, Moment(self.now));
                self.take(task);
            }
            Step::Finish { which, outcome } if !self.runs.is_empty() => {
                let name = self.runs.remove(usize::from(*which) % self.runs.len());
                let outcome =
                    [Outcome::Reached, Outcome::Unreachable(7), Outcome::Untried][usize::from(*outcome)];
                self.queue.finished(&name.0, name.1, outcome, Moment(self.now));
                if let Some(due) = self.again.remove(&name) {
                    self.waits.insert(name, due);
                }
            }
            Step::Finish { .. } => {}
            Step::Pass(by) => self.now += u64::from(*by) * 20,
        }
        assert_eq!((self.queue.waiting(), self.queue.running()), (self.waits.len(), self.runs.len()));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_nothing_is_early_and_no_window_is_exceeded(steps in steps()) {
        let pause = RetryPolicy { first: Duration::from_secs(1), max: Duration::from_secs(9), ..RetryPolicy::default() };
        let limits = ConcurrencyLimits { per_destination: 2, total: 5, initial: 2 };
        let mut twin = Twin {
            queue: Queue::new(limits, pause),
            now: 0,
            waits: BTreeMap::new(),
            runs: Vec::new(),
            again: BTreeMap::new(),
        };
        for step in &steps {
            twin.step(step);
        }
        // Then everybody is reached: all of it comes out, and the queue says itself when. It may wake for nothing only
        // to forget one of the four destinations.
        let mut idle = 0;
        while !(twin.waits.is_empty() && twin.runs.is_empty()) {
            while !twin.runs.is_empty() {
                twin.step(&Step::Finish { which: 0, outcome: 0 });
            }
            if let Some(wake) = twin.queue.next_wake() {
                twin.now = twin.now.max(wake.0);
            }
            let before = twin.waits.len();
            twin.step(&Step::Next);
            idle += usize::from(twin.waits.len() == before);
            prop_assert!(idle <= 4, "it wakes and has nothing");
        }
    }
}

#[test]
fn a_new_destination_is_not_flooded_and_its_window_opens_as_it_answers() {
    let mut queue =
        Queue::new(ConcurrencyLimits { per_destination: 4, total: 10, initial: 2 }, RetryPolicy::default());
    for item in 0..100 {
        queue.add(&"a", item, Moment(0), NEVER);
    }
    assert_eq!(all(&mut queue, 0).len(), 2);
    let mut widths = Vec::new();
    for item in 0..6 {
        queue.finished(&"a", item, Outcome::Reached, Moment(0));
        all(&mut queue, 0);
        widths.push(queue.running());
    }
    assert_eq!(widths, [2, 3, 3, 3, 4, 4]);
}

#[test]
fn attempts_at_a_pace_follow_each_other_evenly_even_after_the_line_was_empty() {
    let mut queue = queue(10, 10);
    for item in 0..3 {
        queue.set_pace(&"a", Duration::from_secs(1));
        queue.add(&"a", item, Moment(0), NEVER);
    }
    queue.add(&"b", 9, Moment(0), NEVER);
    assert_eq!(all(&mut queue, 100), [("a", 0), ("b", 9)]);
    assert_eq!(queue.next_wake(), Some(Moment(1_100)));
    assert_eq!(all(&mut queue, 1_099), []);
    assert_eq!(all(&mut queue, 1_100), [("a", 1)]);
    assert_eq!(all(&mut queue, 5_000), [("a", 2)]);
    for item in 0..3 {
        queue.finished(&"a", item, Outcome::Reached, Moment(5_000));
    }
    queue.set_pace(&"a", Duration::from_secs(1));
    queue.add(&"a", 7, Moment(5_000), NEVER);
    assert_eq!(all(&mut queue, 5_999), []);
    assert_eq!(all(&mut queue, 6_000), [("a", 7)]);
}
