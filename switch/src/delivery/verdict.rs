//! From what became of recipients to what the journal is told. Decides only.

use std::time::Duration;

use mail_model::{Envelope, Recipient, RecipientIndex, Reply, ReversePath, WallTime};
use queue_format::record::{Failure, OutcomeGroup, Verdict};
use schedule::RetryPolicy;
use settings::{BounceSettings, DoubleBounce};
use smtp::transaction::RecipientResult;

/// Groups that are searched for one with the same verdict and reply.
const GROUPS_SEARCHED: usize = 8;

/// What a verdict depends on besides the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) received: WallTime,
    pub(crate) now: WallTime,
    pub(crate) policy: RetryPolicy,
    /// How long to wait if it is tried again.
    pub(crate) delay: Duration,
    /// The host that takes it sends the notifications of success.
    pub(crate) dsn_passed_on: bool,
    /// What becomes of mail without a sender.
    pub(crate) bounces: &'a BounceSettings,
}

/// What became of all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) groups: Vec<OutcomeGroup>,
    pub(crate) delivered: u64,
    pub(crate) deferred: u64,
    pub(crate) failed: u64,
    pub(crate) in_doubt: u64,
    /// Those whose sender is to be told.
    pub(crate) owed: Vec<RecipientIndex>,
    /// Those that failed and have no sender.
    pub(crate) doubles: Vec<RecipientIndex>,
}

impl Sentence {
    /// True if every recipient is delivered: the only outcome nobody has to wait for.
    pub(crate) fn is_all_delivered(&self) -> bool {
        self.deferred == 0 && self.failed == 0 && self.in_doubt == 0 && self.owed.is_empty()
    }

    /// The first thing that was said, for the log.
    pub(crate) fn first_reply(&self) -> Option<&Reply> {
        self.groups.first().and_then(|group| group.reply.as_ref())
    }

    fn put(&mut self, verdict: Verdict, reply: Reply, index: RecipientIndex) {
        let same =
            |group: &&mut OutcomeGroup| group.verdict == verdict && group.reply.as_ref() == Some(&reply);
        match self.groups.iter_mut().rev().take(GROUPS_SEARCHED).find(same) {
            Some(group) => group.recipients.push(index),
            None => {
                self.groups.push(OutcomeGroup { verdict, reply: Some(reply), recipients: vec![index] });
            }
        }
    }
}

impl Judge<'_> {
    /// What each result means.
    pub(crate) fn pass(self, results: Vec<(RecipientIndex, RecipientResult)>) -> Sentence {
        let mut sentence = Sentence::default();
        for (index, result) in results {
            let (verdict, reply) = match result {
                RecipientResult::Delivered(reply) => {
                    sentence.delivered += 1;
                    (self.delivered(index, &mut sentence), reply)
                }
                RecipientResult::Failed(reply) => {
                    (self.failed(index, Failure::Bounced, &mut sentence), reply)
                }
                // It had its last try.
                RecipientResult::Deferred(reply) if self.policy.is_expired(self.received, self.now) => {
                    (self.failed(index, Failure::Expired, &mut sentence), reply)
                }
                RecipientResult::Deferred(reply) => {
                    sentence.deferred += 1;
                    (Verdict::Deferred { due: self.due() }, reply)
                }
                // Never given up in doubt: it may be delivered, and then a bounce would lie.
                RecipientResult::InDoubt(reply) => {
                    sentence.in_doubt += 1;
                    (Verdict::InDoubt { due: self.due() }, reply)
                }
            };
            sentence.put(verdict, reply, index);
        }
        sentence
    }

    /// RFC 3461 5.2.2: where the next host sends no notifications, we tell the sender who asked. Of what stands for several
    /// addresses no other host can tell.
    fn delivered(self, index: RecipientIndex, sentence: &mut Sentence) -> Verdict {
        let recipient = self.envelope.recipients.get(usize::from(index));
        let owed = self.envelope.reverse_path != ReversePath::Null
            && recipient.is_some_and(|to| to.wants_success() && (to.expanded || !self.dsn_passed_on));
        if owed {
            sentence.owed.push(index);
            return Verdict::DeliveredOwed;
        }
        Verdict::Delivered
    }

    fn failed(self, index: RecipientIndex, how: Failure, sentence: &mut Sentence) -> Verdict {
        let recipient = self.envelope.recipients.get(usize::from(index));
        // RFC 5321 4.5.5: nothing is ever reported to the null path. RFC 3461 4.1: nor where it is not wanted.
        let owed = if self.envelope.reverse_path == ReversePath::Null {
            sentence.doubles.push(index);
            if self.bounces.double == DoubleBounce::Hold {
                // It is held once this is written.
                sentence.deferred += 1;
                return Verdict::Deferred { due: self.now };
            }
            // What cannot be delivered to the postmaster ends.
            self.bounces.double == DoubleBounce::Postmaster
                && recipient.is_some_and(|recipient| recipient.address != self.bounces.postmaster)
        } else {
            recipient.is_some_and(Recipient::wants_failure)
        };
        sentence.failed += 1;
        if owed {
            sentence.owed.push(index);
        }
        Verdict::Failed { how, owed }
    }

    /// The last try is at the end of the lifetime, not after it.
    fn due(self) -> WallTime {
        let end = self.received + self.policy.lifetime;
        let due = self.now + self.delay;
        if end > self.now { due.min(end) } else { due }
    }
}

#[cfg(test)]
mod tests {
    use mail_model::{EnhancedStatus, Mailbox, Notify};

    use super::*;

    const NOW: WallTime = WallTime(1_000_000);

    fn envelope(sender: Option<&str>, notify: &[Option<Notify>]) -> Envelope {
        let mailbox = |text| Mailbox::parse_stored(text).unwrap();
        let sender = sender.map_or(ReversePath::Null, |sender| ReversePath::Mailbox(mailbox(sender)));
        let mut envelope = Envelope::from_sender(sender);
        for notify in notify {
            let recipient = Recipient { notify: *notify, ..Recipient::plain(mailbox("to@example.test")) };
            envelope.recipients.push(recipient);
        }
        envelope
    }

    fn pass(envelope: &Envelope, age: u64, results: Vec<(RecipientIndex, RecipientResult)>) -> Sentence {
        let policy = RetryPolicy { lifetime: Duration::from_secs(100), ..RetryPolicy::default() };
        let received = WallTime(NOW.0 - age * 1_000);
        let bounces = bounces(DoubleBounce::Discard);
        let delay = Duration::from_mins(1);
        let bounces = &bounces;
        Judge { envelope, received, now: NOW, policy, delay, dsn_passed_on: false, bounces }.pass(results)
    }

    fn bounces(double: DoubleBounce) -> BounceSettings {
        let postmaster = Mailbox::parse_stored("postmaster@example.test").unwrap();
        BounceSettings { warn: None, double, postmaster }
    }

    fn said(code: u16) -> Reply {
        Reply::local(code, EnhancedStatus::new(4, 0, 0), "said")
    }

    #[test]
    fn recipients_with_one_fate_share_a_group() {
        let envelope = envelope(Some("from@example.test"), &[None; 4]);
        let results = vec![
            (0, RecipientResult::Delivered(said(250))),
            (1, RecipientResult::Failed(said(550))),
            (2, RecipientResult::Delivered(said(250))),
            (3, RecipientResult::Deferred(said(450))),
        ];
        let sentence = pass(&envelope, 0, results);
        let shape: Vec<_> = sentence.groups.iter().map(|g| (g.verdict, g.recipients.clone())).collect();
        assert_eq!(
            shape,
            [
                (Verdict::Delivered, vec![0, 2]),
                (Verdict::Failed { how: Failure::Bounced, owed: true }, vec![1]),
                (Verdict::Deferred { due: NOW + Duration::from_mins(1) }, vec![3]),
            ]
        );
        assert_eq!(sentence.owed, [1]);
        assert!(!sentence.is_all_delivered());
    }

    #[test]
    fn a_failure_is_reported_neither_to_nobody_nor_where_it_is_not_wanted() {
        let failure = || (0, RecipientResult::Failed(said(550)));
        assert_eq!(pass(&envelope(Some("from@example.test"), &[None]), 0, vec![failure()]).owed, [0]);
        let never = envelope(Some("from@example.test"), &[Some(Notify::NEVER)]);
        assert_eq!(pass(&never, 0, vec![failure()]).owed, Vec::<RecipientIndex>::new());
        assert_eq!(pass(&envelope(None, &[None]), 0, vec![failure()]).owed, Vec::<RecipientIndex>::new());
    }

    #[test]
    fn the_last_try_is_at_the_end_of_the_lifetime_and_doubt_is_never_given_up() {
        let envelope = envelope(Some("from@example.test"), &[None]);
        let verdict = |age, result| pass(&envelope, age, vec![(0, result)]).groups.remove(0).verdict;
        let end = NOW + Duration::from_secs(10);
        assert_eq!(verdict(90, RecipientResult::Deferred(said(450))), Verdict::Deferred { due: end });
        let expired = Verdict::Failed { how: Failure::Expired, owed: true };
        assert_eq!(verdict(100, RecipientResult::Deferred(said(450))), expired);
        let later = NOW + Duration::from_mins(1);
        assert_eq!(verdict(100, RecipientResult::InDoubt(said(450))), Verdict::InDoubt { due: later });
    }

    #[test]
    fn success_is_owed_to_who_asked_unless_the_next_host_tells_it() {
        let success = Some(Notify { success: true, failure: true, delay: false });
        let asked = envelope(Some("from@example.test"), &[success, None]);
        let results =
            || vec![(0, RecipientResult::Delivered(said(250))), (1, RecipientResult::Delivered(said(250)))];
        let sentence = pass(&asked, 0, results());
        assert_eq!(sentence.owed, [0]);
        assert_eq!(sentence.groups.first().map(|group| group.verdict), Some(Verdict::DeliveredOwed));
        assert!(!sentence.is_all_delivered() && sentence.delivered == 2);
        let bounces = bounces(DoubleBounce::Discard);
        let (policy, delay) = (RetryPolicy::default(), Duration::ZERO);
        let judge = Judge {
            envelope: &asked,
            received: NOW,
            now: NOW,
            policy,
            delay,
            dsn_passed_on: true,
            bounces: &bounces,
        };
        assert!(judge.pass(results()).is_all_delivered());
    }

    #[test]
    fn mail_without_a_sender_that_fails_ends_as_the_policy_says() {
        let nobody = envelope(None, &[None]);
        let verdict = |double| {
            let bounces = bounces(double);
            let (policy, delay) = (RetryPolicy::default(), Duration::ZERO);
            let judge = Judge {
                envelope: &nobody,
                received: NOW,
                now: NOW,
                policy,
                delay,
                dsn_passed_on: false,
                bounces: &bounces,
            };
            let mut sentence = judge.pass(vec![(0, RecipientResult::Failed(said(550)))]);
            assert_eq!(sentence.doubles, [0]);
            sentence.groups.remove(0).verdict
        };
        let how = Failure::Bounced;
        assert_eq!(verdict(DoubleBounce::Discard), Verdict::Failed { how, owed: false });
        assert_eq!(verdict(DoubleBounce::Postmaster), Verdict::Failed { how, owed: true });
        assert_eq!(verdict(DoubleBounce::Hold), Verdict::Deferred { due: NOW });
    }
}
