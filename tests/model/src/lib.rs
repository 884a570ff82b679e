//! The takeover protocol under a model checker: every order of steps within bounds, with a takeover at any instant.
//!
//! The decisions are those of production: each process runs `cluster::instance::Instance`. What its shell does is written
//! as single steps, and each names the function it mirrors. Time is not modelled: that is the point. Within the bounds
//! every state is visited; `docs/RELIABILITY.md` says which bounds, how many states, and what is left out.

#[cfg(test)]
mod books_check;
#[cfg(test)]
mod check;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod process;
#[cfg(test)]
mod promoted;
#[cfg(test)]
mod weakness;
#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stateright::{Checker, HasDiscoveries, Model};

    use crate::check::{
        HISTORY_STANDS, NOTHING_LOST, NOTHING_MISSING, NOTHING_UNCOUNTED, ONE_WRITER, Protocol, RULES,
    };
    use crate::weakness::Weakness;

    /// The cores of the machines that run the tests.
    const THREADS: usize = 2;

    /// Visits every state, and prints how many there are.
    fn holds(nodes: u8, epochs: u8, messages: u8, crashes: u8) {
        #[expect(clippy::disallowed_methods, reason = "how long the machine takes, for people")]
        let started = std::time::Instant::now();
        let model = Protocol { weakness: Weakness::None, nodes, epochs, messages, crashes };
        let checker = model.checker().threads(THREADS).spawn_bfs().join();
        println!(
            "{nodes} processes, {epochs} epochs, {messages} messages, {crashes} crashes: {} states, depth {}, {:?}",
            checker.unique_state_count(),
            checker.max_depth(),
            started.elapsed(),
        );
        for rule in RULES {
            checker.assert_no_discovery(rule);
        }
        // With fewer epochs there is no hand-back.
        if epochs >= 3 {
            checker.assert_properties();
        }
    }

    /// The weakened protocol must break `rule`.
    fn breaks(weakness: Weakness, rule: &'static str, nodes: u8, epochs: u8, crashes: u8) {
        let model = Protocol { weakness, nodes, epochs, messages: 1, crashes };
        let wanted = HasDiscoveries::AnyOf(BTreeSet::from([rule]));
        let checker = model.checker().threads(THREADS).finish_when(wanted).spawn_bfs().join();
        let story = checker.assert_any_discovery(rule).into_actions();
        println!("{weakness:?} breaks '{rule}' after {} steps: {story:?}", story.len());
    }

    /// `MODEL_BOUND=processes,epochs,messages,crashes`, or `full`, sets other bounds.
    #[test]
    fn the_protocol_holds_within_bounds() {
        let bound = std::env::var("MODEL_BOUND").unwrap_or_else(|_| "2,3,1,1".to_owned());
        let bound = if bound == "full" { "3,3,3,1" } else { &bound };
        let numbers: Vec<u8> = bound.split(',').map(|number| number.parse().unwrap()).collect();
        let [nodes, epochs, messages, crashes] = numbers[..] else { panic!("four numbers, not {bound}") };
        assert!(nodes <= 3 && epochs <= 3 && messages <= 3, "at most 3 of each: {bound}");
        holds(nodes, epochs, messages, crashes);
    }

    #[test]
    fn the_protocol_holds_for_two_messages() {
        holds(2, 2, 2, 1);
    }

    #[test]
    fn without_a_fence_check_mail_is_lost() {
        breaks(Weakness::NoFenceCheck, NOTHING_LOST, 2, 2, 0);
    }

    #[test]
    fn with_the_fence_read_before_the_sync_mail_is_lost() {
        breaks(Weakness::CheckBeforeSync, NOTHING_LOST, 2, 2, 0);
    }

    #[test]
    fn with_the_scan_before_the_fence_mail_is_lost() {
        breaks(Weakness::ScanBeforeFence, NOTHING_LOST, 2, 2, 0);
    }

    #[test]
    fn without_seals_late_frames_become_mail() {
        breaks(Weakness::NoSeal, HISTORY_STANDS, 2, 2, 0);
    }

    #[test]
    fn without_compare_and_swap_two_own_one_epoch() {
        breaks(Weakness::BlindClaim, ONE_WRITER, 2, 2, 1);
    }

    #[test]
    fn with_one_fence_for_all_epochs_two_deliver_and_nobody_counts() {
        breaks(Weakness::SharedFence, NOTHING_UNCOUNTED, 3, 3, 0);
    }

    #[test]
    fn with_only_the_previous_epoch_fenced_mail_is_lost() {
        breaks(Weakness::FencePreviousOnly, NOTHING_LOST, 2, 3, 1);
    }

    #[test]
    fn with_an_attempt_that_is_not_durable_a_second_delivery_is_not_counted() {
        breaks(Weakness::LazyAttempt, NOTHING_UNCOUNTED, 2, 2, 1);
    }

    #[test]
    fn with_a_lease_judged_by_the_owners_clock_mail_is_lost() {
        breaks(Weakness::ClockLease, NOTHING_LOST, 2, 2, 0);
    }

    #[test]
    fn with_a_lease_watched_by_another_thread_mail_is_lost() {
        breaks(Weakness::SideThread, NOTHING_LOST, 2, 2, 0);
    }

    #[test]
    fn with_an_unlink_before_a_durable_retire_a_segment_is_missing() {
        breaks(Weakness::UnlinkBeforeRetire, NOTHING_MISSING, 2, 2, 1);
    }

    #[test]
    fn with_working_said_before_the_fences_mail_is_lost() {
        breaks(Weakness::WorksTooEarly, NOTHING_LOST, 2, 3, 1);
    }

    #[test]
    fn with_the_sums_of_a_taker_that_sealed_nothing_a_second_delivery_is_not_counted() {
        breaks(Weakness::TornBeginCounts, NOTHING_UNCOUNTED, 2, 3, 1);
    }
}
