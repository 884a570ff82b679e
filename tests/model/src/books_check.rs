//! The books of this model and those of production say the same after every list of frames that an owner can write.

use mail_model::{
    AttemptNumber, Envelope, Epoch, InstanceId, Mailbox, NodeId, QueueId, Recipient, ReversePath, SegmentId,
    WallTime,
};
use queue_format::books::Books as Production;
use queue_format::frame::FrameHeader;
use queue_format::record::{
    AttemptRecord, CarryRecord, Content, MessageKey, MessageRecord, OutcomeGroup, OutcomeRecord,
    RecipientStanding, RecipientState, Record, SegmentRecord, Totals, Verdict, encode_envelope,
};
use queue_format::scan::Place;

use crate::frame::{Books, Frame};

/// Frames in a list.
const LENGTH_MAX: usize = 7;

const MESSAGES: u8 = 2;

/// What an owner of `epoch` may write next: only what the books allow, as the appender's callers do.
fn next_frames(books: &Books, sent: u8, epoch: u8) -> Vec<Frame> {
    let mut next = Vec::new();
    for id in 0..MESSAGES {
        if sent == id {
            next.push(Frame::Message(id));
        } else if books.is_live(id) {
            if books.open[usize::from(id)] & (1 << epoch) == 0 {
                next.push(Frame::Attempt(id));
            }
            next.push(Frame::Carry(id));
        }
    }
    for (id, by) in books.open_attempts() {
        next.push(Frame::Delivered { id, by });
        next.push(Frame::InDoubt { id, by });
    }
    if !books.needs_older_than(epoch) {
        next.push(Frame::Retire { first_live: epoch });
    }
    next.push(Frame::Clean);
    next
}

/// One history under both books.
#[derive(Clone)]
struct History {
    frames: Vec<(u8, Frame)>,
    model: Books,
    production: Production,
    sent: u8,
}

impl History {
    fn then(&self, epoch: u8, frame: Frame) -> Self {
        let mut next = self.clone();
        let number = next.frames.len() as u64;
        next.frames.push((epoch, frame));
        next.model.apply(epoch, frame);
        next.sent += u8::from(matches!(frame, Frame::Message(_)));
        let segment = segment(epoch);
        let header = FrameHeader {
            segment,
            number,
            durable: number,
            chain: 0,
            crc: 0,
            meta_len: 100,
            body_len: 1,
            body_crc: 0,
            kind: 0,
            cookie: 0,
        };
        let record = record(epoch, frame, self.production.totals());
        next.production.apply(Place { segment, offset: number * 1_000 }, &header, record);
        next
    }

    fn compare(&self) {
        let (model, production) = (&self.model, &self.production);
        for id in 0..MESSAGES {
            let index = usize::from(id);
            let place = production.message(key(id)).map_or(0, |message| message.place.segment.epoch.0);
            assert_eq!(u64::from(model.place[index]), place, "message {id}: {:?}", self.frames);
            let open = |doubt: &&queue_format::record::Doubt| doubt.message == key(id);
            let open =
                production.open_attempts().filter(open).fold(0, |bits, doubt| bits | 1 << doubt.epoch.0);
            assert_eq!(u64::from(model.open[index]), open, "attempts of {id}: {:?}", self.frames);
        }
        let doubts: u64 = model.doubts.iter().copied().map(u64::from).sum();
        assert_eq!(doubts, production.totals().in_doubt, "doubts: {:?}", self.frames);
        assert_eq!(segment(model.first_live), production.first_live(), "first live: {:?}", self.frames);
        assert!(production.balance().holds && production.anomalies().is_empty(), "{:?}", self.frames);
    }

    /// Every longer history; the number of them.
    fn explore(&self, epoch: u8) -> u64 {
        self.compare();
        if self.frames.len() == LENGTH_MAX {
            return 1;
        }
        let mut all = 0;
        for frame in next_frames(&self.model, self.sent, epoch) {
            all += self.then(epoch, frame).explore(epoch);
        }
        if epoch < 3 {
            let head = Frame::Head { first_live: self.model.first_live, doubts: self.model.doubts };
            all += self.then(epoch + 1, head).explore(epoch + 1);
        }
        all
    }
}

fn key(id: u8) -> MessageKey {
    MessageKey { epoch: Epoch(1), sequence: u64::from(id) + 1 }
}

fn segment(epoch: u8) -> SegmentId {
    SegmentId { epoch: Epoch(u64::from(epoch)), number: 0 }
}

fn message(id: u8) -> MessageRecord {
    let mut envelope = Envelope::from_sender(ReversePath::Null);
    envelope.recipients.push(Recipient::plain(Mailbox::parse_stored("user@example.test").unwrap()));
    MessageRecord {
        key: key(id),
        received: WallTime(0),
        size: 1,
        origin: String::new(),
        envelope: encode_envelope(&envelope),
        content: Content::Inline,
        settles: None,
        handover: None,
    }
}

fn outcome(id: u8, by: u8, verdict: Verdict) -> Record {
    Record::Outcome(OutcomeRecord {
        message: key(id),
        attempt: Some((Epoch(u64::from(by)), AttemptNumber(u64::from(id)))),
        at: WallTime(0),
        groups: vec![OutcomeGroup { verdict, reply: None, recipients: vec![0] }],
    })
}

fn record(epoch: u8, frame: Frame, totals: Totals) -> Record {
    let node = NodeId::new("a").unwrap();
    match frame {
        Frame::Head { first_live, .. } => Record::Segment(SegmentRecord {
            version: queue_format::FORMAT_VERSION,
            cluster: "model".to_owned(),
            queue: QueueId::of(node.clone()),
            owner: node,
            instance: InstanceId(1),
            opened: WallTime(0),
            first_live: segment(first_live),
            totals,
            doubts: Vec::new(),
        }),
        Frame::Seal(_) => Record::Seal(Vec::new()),
        Frame::Message(id) => Record::Message(message(id)),
        Frame::Carry(id) => {
            let queued = RecipientStanding {
                state: RecipientState::Queued,
                attempts: 0,
                due: WallTime(0),
                last_reply: None,
                warned: false,
                doubtful: false,
                crashes: 0,
                redirect: None,
            };
            Record::Carry(CarryRecord { message: message(id), recipients: vec![queued] })
        }
        Frame::Attempt(id) => Record::Attempt(AttemptRecord {
            number: AttemptNumber(u64::from(id)),
            message: key(id),
            recipients: vec![0],
            next_hop: format!("hop of epoch {epoch}"),
            started: WallTime(0),
        }),
        Frame::Delivered { id, by } => outcome(id, by, Verdict::Delivered),
        Frame::InDoubt { id, by } => outcome(id, by, Verdict::InDoubt { due: WallTime(0) }),
        Frame::Retire { first_live } => Record::Retire { first_live: segment(first_live) },
        Frame::Clean => Record::Clean { totals },
    }
}

#[test]
fn the_models_books_say_what_the_productions_say() {
    let production = Production::new(QueueId::of(NodeId::new("a").unwrap()));
    let empty = History { frames: Vec::new(), model: Books::default(), production, sent: 0 };
    let all = empty.then(1, Frame::Head { first_live: 1, doubts: [0; 3] }).explore(1);
    println!("{all} histories of {LENGTH_MAX} frames");
    assert!(all > 1_000, "{all}");
}
