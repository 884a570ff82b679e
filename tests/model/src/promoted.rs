//! Promoted storage under the model checker: two nodes with a copy each, a link between the copies, a register outside.
//!
//! The decisions are those of production: each node runs `cluster::device::Device`, and every change of the register is one
//! of `cluster::register`. The device is modelled as DRBD with protocol C and `fencing resource-and-stonith`: a write
//! reaches both copies while they are connected; cut off, the primary's writes stand still until `copy-alone` was granted;
//! connected, one side alone can be primary; a copy that was left behind does not know it. Messages stand for every record
//! with an effect. A takeover is wanted at any instant, links are cut and nodes, heartbeatds and the witness restarted.

mod weakness;
mod world;

use stateright::{Model, Property};

use self::weakness::Weakness;
use self::world::{Act, World};

/// Every copy that the register calls current has every record that had an effect.
const COPIES_ARE_WHOLE: &str = "every current copy has every record that had an effect";
/// Who owns by the register found every record that had an effect, or wrote it.
const OWNER_KNOWS_ALL: &str = "the owner knows every record that had an effect";
/// The two copies never part.
const ONE_WRITER: &str = "never do both sides write";

/// Bounds.
#[derive(Debug, Clone)]
struct Promoted {
    weakness: Weakness,
    messages: u8,
    cuts: u8,
    crashes: u8,
    takes: u8,
}

impl Model for Promoted {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        for node in 0..2 {
            world.offer(node, self.messages, self.takes, acts);
            if world.crashes < self.crashes {
                acts.extend([Act::Crash { node }, Act::Restart { node }]);
            }
        }
        if world.link && world.cuts < self.cuts {
            acts.push(Act::Cut);
        }
        if !world.link {
            acts.push(Act::Heal);
        }
        if world.syncing.is_some() {
            acts.push(Act::Synced);
        }
        if self.weakness == Weakness::WitnessForgets && world.crashes < self.crashes {
            acts.push(Act::Forget);
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        world.take(act, self.weakness)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(COPIES_ARE_WHOLE, |_, world: &World| world.copies_are_whole()),
            Property::always(OWNER_KNOWS_ALL, |_, world: &World| world.owner_knows_all()),
            Property::always(ONE_WRITER, |_, world: &World| world.one_writes()),
            Property::sometimes("an owner goes on alone", |_, world: &World| {
                world.acked != 0 && world.nodes[0].alone && !world.link
            }),
            Property::sometimes("the peer's copy joins again after that", |_, world: &World| {
                world.acked != 0 && world.cuts > 0 && world.copies() == 2
            }),
            Property::sometimes("a taker works with what the old owner accepted", |_, world: &World| {
                world.acked != 0 && world.nodes[1].switch.as_ref().is_some_and(|s| world.stands(1, s))
            }),
            Property::sometimes("home owns its queue again after a takeover", |_, world: &World| {
                world.nodes[0].switch.as_ref().is_some_and(|s| world.stands(0, s) && s.term >= 3)
            }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stateright::{Checker, HasDiscoveries, Model};

    use super::*;

    const THREADS: usize = 2;

    fn bounds(weakness: Weakness) -> Promoted {
        Promoted { weakness, messages: 1, cuts: 1, crashes: 1, takes: 1 }
    }

    /// The weakened protocol must break `rule`.
    fn breaks(weakness: Weakness, rule: &'static str) {
        let wanted = HasDiscoveries::AnyOf(BTreeSet::from([rule]));
        let checker = bounds(weakness).checker().threads(THREADS).finish_when(wanted).spawn_bfs().join();
        let story = checker.assert_any_discovery(rule).into_actions();
        println!("{weakness:?} breaks '{rule}' after {} steps: {story:?}", story.len());
    }

    /// Nothing breaks within these bounds, in any order of steps.
    fn holds(model: &Promoted) {
        let &Promoted { weakness, messages, cuts, crashes, takes } = model;
        #[expect(clippy::disallowed_methods, reason = "how long the machine takes, for people")]
        let started = std::time::Instant::now();
        let checker = model.clone().checker().threads(THREADS).spawn_bfs().join();
        println!(
            "{weakness:?}, {messages} messages, {cuts} cuts, {crashes} crashes, {takes} takeovers: {} states, depth {}, {:?}",
            checker.unique_state_count(),
            checker.max_depth(),
            started.elapsed(),
        );
        checker.assert_properties();
    }

    #[test]
    fn promoted_storage_holds_within_bounds() {
        holds(&bounds(Weakness::None));
    }

    /// `PROMOTED_BOUND=messages,cuts,crashes,takes` sets other bounds.
    #[test]
    #[ignore = "minutes of two cores: cargo nextest run --workspace --lib -E 'package(model)' --run-ignored only"]
    fn promoted_storage_holds_within_wider_bounds() {
        let bound = std::env::var("PROMOTED_BOUND").unwrap_or_else(|_| "2,2,1,2".to_owned());
        let numbers: Vec<u8> = bound.split(',').map(|number| number.parse().unwrap()).collect();
        let [messages, cuts, crashes, takes] = numbers[..] else { panic!("four numbers, not {bound}") };
        holds(&Promoted { weakness: Weakness::None, messages, cuts, crashes, takes });
    }

    /// A device that holds its writes while it is alone, and refuses a second primary while it is not, keeps mail without these
    /// two: they are a second line for devices that do not.
    #[test]
    fn beside_a_device_that_holds_its_writes_the_order_and_the_question_are_a_second_line() {
        for weakness in [Weakness::AsksNobody, Weakness::PromotesFirst] {
            holds(&bounds(weakness));
        }
    }

    #[test]
    fn with_copy_alone_ignored_at_the_takeover_mail_is_lost() {
        breaks(Weakness::AloneIgnored, OWNER_KNOWS_ALL);
    }

    #[test]
    fn with_a_witness_that_answers_before_it_syncs_mail_is_lost() {
        breaks(Weakness::WitnessForgets, OWNER_KNOWS_ALL);
    }

    #[test]
    fn with_a_peer_that_joins_by_an_older_look_a_current_copy_lacks_mail() {
        breaks(Weakness::JoinsByOldLook, COPIES_ARE_WHOLE);
    }

    #[test]
    fn with_a_grant_that_leaves_the_version_as_it_is_a_current_copy_lacks_mail() {
        breaks(Weakness::GrantsInPassing, COPIES_ARE_WHOLE);
    }

    #[test]
    fn with_writes_that_go_on_before_copy_alone_is_granted_a_current_copy_lacks_mail() {
        breaks(Weakness::GoesOnUngranted, COPIES_ARE_WHOLE);
    }
}
