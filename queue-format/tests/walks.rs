//! A walk over all messages in stretches, while messages come and go.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::collections::BTreeSet;

use mail_model::{Envelope, Epoch, Mailbox, Recipient, ReversePath, SegmentId, WallTime};
use queue_format::books::{Books, Walk};
use queue_format::frame::Chain;
use queue_format::record::{
    Content, MessageKey, MessageRecord, OutcomeGroup, OutcomeRecord, Record, Verdict, encode_envelope,
};
use queue_format::scan::Place;

const EPOCH: Epoch = Epoch(3);
const MESSAGES: u64 = 50_000;

fn key(sequence: u64) -> MessageKey {
    MessageKey { epoch: EPOCH, sequence }
}

struct Story {
    books: Books,
    chain: Chain,
    envelope: Vec<u8>,
}

impl Story {
    fn new() -> Self {
        let mut envelope = Envelope::from_sender(ReversePath::Null);
        envelope.recipients.push(Recipient::plain(Mailbox::parse_stored("to@example.test").unwrap()));
        let envelope = encode_envelope(&envelope);
        Self { books: Books::new("a".parse().unwrap()), chain: Chain::begin(EPOCH, 1), envelope }
    }

    fn apply(&mut self, record: Record) {
        let (mut meta, mut out) = (Vec::new(), Vec::new());
        record.encode(&mut meta);
        let header = self.chain.encode(record.kind() as u8, &meta, &[], 0, &mut out);
        let place = Place { segment: SegmentId { epoch: EPOCH, number: 0 }, offset: header.number * 512 };
        self.books.apply(place, &header, record);
    }

    fn comes(&mut self, sequence: u64) {
        self.apply(Record::Message(MessageRecord {
            key: key(sequence),
            received: WallTime(sequence),
            size: 1,
            origin: "client 192.0.2.1".into(),
            envelope: self.envelope.clone(),
            content: Content::Inline,
            settles: None,
            handover: None,
        }));
    }

    fn goes(&mut self, sequence: u64) {
        let group = OutcomeGroup { recipients: vec![0], verdict: Verdict::Delivered, reply: None };
        self.apply(Record::Outcome(OutcomeRecord {
            message: key(sequence),
            attempt: None,
            at: WallTime(1),
            groups: vec![group],
        }));
    }
}

#[test]
fn a_walk_in_stretches_sees_everything_that_stays_whatever_comes_and_goes() {
    let mut story = Story::new();
    (1..=MESSAGES).for_each(|sequence| story.comes(sequence));
    let (mut walk, mut seen, mut stretches) = (Walk::new(), BTreeSet::new(), 0);
    while !walk.is_over() {
        let stretch = story.books.accepted_within(WallTime(10), WallTime(MESSAGES - 10), &mut walk);
        seen.extend(stretch.map(|key| key.sequence));
        stretches += 1;
        // One in three leaves between two stretches, from both ends; and new ones come.
        for number in 0..2_000 {
            story.goes(stretches * 6_000 + number * 3);
            story.comes(MESSAGES + stretches * 2_000 + number);
        }
    }
    assert!(stretches > 2, "{stretches}");
    let left: BTreeSet<u64> = story.books.messages().map(|(key, _)| key.sequence).collect();
    assert!(left.len() > 40_000, "{}", left.len());
    let missed: Vec<&u64> =
        left.range(11..=MESSAGES - 10).filter(|sequence| !seen.contains(sequence)).collect();
    assert_eq!(missed, Vec::<&u64>::new());
    assert!(seen.iter().all(|sequence| (11..=MESSAGES - 10).contains(sequence)));
}
