//! A digest stands for its segment, or it is not used at all.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::collections::BTreeMap;

use mail_model::{
    Envelope, Epoch, InstanceId, Mailbox, NodeId, QueueId, Recipient, ReversePath, SegmentId, WallTime,
};
use queue_format::digest::DigestBuilder;
use queue_format::frame::Chain;
use queue_format::record::{
    Content, Kind, MessageKey, MessageRecord, Record, SegmentRecord, Totals, encode_envelope, mark_held,
};
use queue_format::replay::{Plan, QueueSource, Replay, replay};
use queue_format::scan::{Bodies, Place, SourceError};

const EPOCH: Epoch = Epoch(1);
const MESSAGES: u64 = 40;

/// A queue of two segments, the first of them closed and with a digest.
#[derive(Default)]
struct Files {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    digests: BTreeMap<SegmentId, Vec<u8>>,
}

impl QueueSource for Files {
    type Segment = Vec<u8>;

    fn epochs(&self) -> Result<Vec<Epoch>, SourceError> {
        Ok(vec![EPOCH])
    }
    fn segments(&self) -> Result<Vec<SegmentId>, SourceError> {
        Ok(self.segments.keys().copied().collect())
    }
    fn open(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.segments.get(&segment).cloned())
    }
    fn digest(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.digests.get(&segment).cloned())
    }
}

fn segment(number: u32) -> SegmentId {
    SegmentId { epoch: EPOCH, number }
}

fn head(totals: Totals) -> Record {
    Record::Segment(SegmentRecord {
        version: queue_format::FORMAT_VERSION,
        cluster: "demo".into(),
        queue: "a".parse().unwrap(),
        owner: NodeId::new("a").unwrap(),
        instance: InstanceId(7),
        opened: WallTime(1),
        first_live: segment(0),
        totals,
        doubts: Vec::new(),
    })
}

fn message(sequence: u64) -> Record {
    let mailbox = |text| Mailbox::parse_stored(text).unwrap();
    let mut envelope = Envelope::from_sender(ReversePath::Mailbox(mailbox("from@client.test")));
    for _ in 0..=sequence % 3 {
        envelope.recipients.push(Recipient::plain(mailbox("to@example.test")));
    }
    let mut envelope = encode_envelope(&envelope);
    if sequence.is_multiple_of(7) {
        mark_held(&mut envelope);
    }
    let key = MessageKey { epoch: EPOCH, sequence };
    Record::Message(MessageRecord {
        key,
        received: WallTime(1_800_000_000_000 + sequence),
        size: 40,
        origin: "client 192.0.2.1 helo client.test".into(),
        envelope,
        content: Content::Inline,
        settles: None,
        handover: None,
    })
}

/// The queue; in its digest the meta of `flawed`, if that is said, is another, and vouched for by the checksum.
fn queue(flawed: Option<u64>) -> Files {
    let (mut chain, mut bytes, mut digest) = (Chain::begin(EPOCH, 5), Vec::new(), DigestBuilder::new());
    let mut totals = Totals::default();
    let mut records = vec![head(totals), Record::Seal(Vec::new())];
    records.extend((1..=MESSAGES).map(message));
    records.push(Record::Next { segment: segment(1) });
    for record in records {
        let (start, mut meta, number) = (bytes.len(), Vec::new(), chain.number);
        record.encode(&mut meta);
        let body: &[u8] = if record.kind() == Kind::Message { &[b'x'; 40] } else { &[] };
        let header = chain.encode(record.kind() as u8, &meta, body, number, &mut bytes);
        let mut frame = bytes.get(start..).unwrap().to_vec();
        if Some(number) == flawed {
            // The envelope is said to be longer than what follows.
            let at = frame.len() - meta.len() + 69;
            frame.get_mut(at..).unwrap().fill(0xff);
        }
        digest.add(start as u64, &header, &frame);
        bytes.extend_from_slice(body);
    }
    for sequence in 1..=MESSAGES {
        totals.messages += 1;
        totals.accepted += sequence % 3 + 1;
    }
    let mut files = Files::default();
    files.digests.insert(segment(0), digest.finish(segment(0), bytes.len() as u64, chain));
    files.segments.insert(segment(0), bytes);
    chain.segment = segment(1);
    let (mut bytes, mut meta) = (Vec::new(), Vec::new());
    head(totals).encode(&mut meta);
    chain.encode(Kind::Segment as u8, &meta, &[], chain.number, &mut bytes);
    files.segments.insert(segment(1), bytes);
    files
}

fn read(files: &Files, ignore_digests: bool) -> Replay {
    let queue: QueueId = "a".parse().unwrap();
    let plan = Plan { cluster: "demo".into(), queue, before: None, bodies: Bodies::Tail, ignore_digests };
    replay(files, &plan).unwrap()
}

/// All that can be seen of the books.
fn seen(replay: &Replay) -> (Vec<String>, String, u64) {
    assert_eq!(replay.faults, []);
    let mut messages: Vec<String> = replay.books.messages().map(|found| format!("{found:?}")).collect();
    messages.sort();
    let balance = replay.books.balance();
    assert!(balance.holds, "{balance:?}");
    (messages, format!("{:?} {:?}", balance, replay.books.live_bytes()), replay.bytes)
}

#[test]
fn what_a_digest_says_is_what_its_segment_says() {
    let mut files = queue(None);
    let wanted = seen(&read(&files, true));
    assert_eq!(wanted.0.len() as u64, MESSAGES);
    assert_eq!(seen(&read(&files, false)), wanted);
    // The digest was read, for it is all that is left of the segment's inside.
    let first = files.segments.get_mut(&segment(0)).unwrap();
    let place = Place { segment: segment(0), offset: first.len() as u64 / 2 };
    first.get_mut(usize::try_from(place.offset).unwrap()..).unwrap().fill(0);
    assert_eq!(seen(&read(&files, false)), wanted);
}

#[test]
fn a_digest_that_cannot_be_read_to_its_end_adds_nothing_to_the_queue() {
    let wanted = seen(&read(&queue(None), true));
    for number in 2..MESSAGES + 2 {
        assert_eq!(seen(&read(&queue(Some(number)), false)), wanted, "frame {number}");
    }
}
