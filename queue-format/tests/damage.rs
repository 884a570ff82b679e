//! Bytes that are not what was written: never a panic, never a frame that was not written.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use mail_model::{Epoch, SegmentId, WallTime};
use proptest::prelude::*;
use queue_format::digest::Digest;
use queue_format::frame::Chain;
use queue_format::lease::{Claim, Fence, Renewal};
use queue_format::record::{Content, MessageKey, MessageRecord, Record, decode_envelope};
use queue_format::scan::{Bodies, Range, Scanned, Tail, scan};

/// What the owner of these frames drew.
const COOKIE: u64 = 0x5eed_c0de_0000_0001;

const SEGMENT: SegmentId = SegmentId { epoch: Epoch(7), number: 0 };

fn record(sequence: u64) -> Record {
    Record::Message(MessageRecord {
        key: MessageKey { epoch: Epoch(7), sequence },
        received: WallTime(1),
        size: 40,
        origin: "client 127.0.0.1".into(),
        envelope: vec![3; 30],
        content: Content::Inline,
        settles: None,
        handover: None,
    })
}

/// Frames of one segment, each batch of three durable before the next is written, and where each starts.
fn written(frames: u64) -> (Vec<u8>, Vec<usize>) {
    let (mut chain, mut bytes, mut starts) = (Chain::begin(Epoch(7), COOKIE), Vec::new(), Vec::new());
    for number in 0..frames {
        starts.push(bytes.len());
        let (mut meta, record) = (Vec::new(), record(number));
        record.encode(&mut meta);
        let body = vec![u8::try_from(number).unwrap(); 40];
        chain.encode(record.kind() as u8, &meta, &body, number - number % 3, &mut bytes);
        bytes.extend_from_slice(&body);
    }
    (bytes, starts)
}

fn looked_at(bytes: &Vec<u8>, durable: u64) -> (Scanned, Vec<u64>) {
    let mut seen = Vec::new();
    let range = Range { durable, ..Range::whole(Some(Chain::start(Epoch(7)))) };
    let found = scan(bytes, SEGMENT, range, Bodies::All, |_, header, found| {
        assert_eq!(found, record(header.number), "a record that was never written");
        seen.push(header.number);
    });
    (found.unwrap(), seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// One bit: the frame it hits is lost or named, every other durable frame is handed out.
    #[test]
    fn a_flipped_bit_costs_at_most_its_own_frame(bit in 0usize..12 * 200 * 8) {
        let (mut bytes, starts) = written(12);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let hit = starts.iter().rposition(|start| *start <= bit / 8).unwrap() as u64;
        let (found, seen) = looked_at(&bytes, 0);
        // Frames 0 to 8 are vouched for by frame 9; with a seal behind them all are.
        for number in (0..9).filter(|number| *number != hit) {
            prop_assert!(seen.contains(&number), "frame {number} is gone, {hit} was hit");
        }
        let padding = (53..56).contains(&(bit / 8 - starts[usize::try_from(hit).unwrap()]));
        if hit < 9 && !padding {
            prop_assert_eq!(found.damages.len(), 1);
        }
        let (sealed, all) = looked_at(&bytes, 12);
        for number in (0..12).filter(|number| *number != hit) {
            prop_assert!(all.contains(&number), "frame {number} is gone below a seal, {hit} was hit");
        }
        prop_assert!(padding || sealed.damages.len() == 1);
    }

    /// A cut is a torn tail, unless what is gone was known to be durable.
    #[test]
    fn a_cut_loses_what_is_behind_it_and_nothing_else(at in 0usize..4_000) {
        let (mut bytes, starts) = written(12);
        let at = at % bytes.len();
        bytes.truncate(at);
        let whole = starts.iter().skip(1).filter(|start| **start <= at).count() as u64;
        let (found, seen) = looked_at(&bytes, 0);
        prop_assert_eq!(seen, (0..whole).collect::<Vec<_>>());
        prop_assert!(found.damages.is_empty());
        prop_assert_eq!(found.tail == Tail::Blank, starts.contains(&at));
        prop_assert_eq!(looked_at(&bytes, 12).0.damages.len(), 1);
    }

    #[test]
    fn any_bytes_at_all_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..6_000), kind in 0u8..14) {
        Record::decode(kind, &bytes).ok();
        decode_envelope(&bytes).ok();
        if let Ok(digest) = Digest::open(&bytes) {
            digest.frames().filter_map(Result::ok).for_each(|(_, header, meta)| drop(Record::decode(header.kind, meta)));
        }
        bytes.resize(4_096, 0);
        Claim::decode(&bytes).ok();
        Renewal::decode(&bytes).ok();
        Fence::decode(&bytes).ok();
        scan(&bytes, SEGMENT, Range::whole(None), Bodies::All, |_, _, _| {}).unwrap();
    }

    #[test]
    fn a_record_with_any_byte_changed_is_read_without_a_panic(at in 0usize..200, byte in any::<u8>()) {
        let mut meta = Vec::new();
        record(3).encode(&mut meta);
        let at = at % meta.len();
        meta[at] = byte;
        if let Ok(read) = Record::decode(4, &meta) {
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(again, meta);
        }
    }
}

#[test]
fn a_body_full_of_magics_is_read_in_one_pass() {
    let (mut bytes, _) = written(3);
    let torn = bytes.len() - 40;
    bytes.truncate(torn);
    bytes.extend_from_slice(&b"MSWF".repeat(100_000));
    bytes.extend_from_slice(&[1; 10]);
    // Quadratic reading would take minutes.
    assert_eq!(looked_at(&bytes, 0).1, [0, 1]);
}

/// A segment whose second frame lost its header to a torn write, while its body, a stranger's mail, survived: it holds a
/// frame with the right segment, a high number, and the claim that everything before it had been durable.
fn torn_over_a_forged_frame(forged_cookie: u64) -> (Vec<u8>, u64) {
    let mut forger = Chain { number: 40, ..Chain::begin(Epoch(7), forged_cookie) };
    let (mut meta, mut forgery) = (Vec::new(), Vec::new());
    record(40).encode(&mut meta);
    forger.encode(record(40).kind() as u8, &meta, b"", 40, &mut forgery);
    let (mut bytes, _) = written(1);
    let end = bytes.len() as u64;
    bytes.extend_from_slice(&[0; 4_096]);
    bytes.extend_from_slice(&forgery);
    bytes.extend_from_slice(&[0; 64]);
    (bytes, end)
}

#[test]
fn a_frame_forged_in_a_strangers_mail_is_never_taken_for_one() {
    let (bytes, end) = torn_over_a_forged_frame(COOKIE ^ 1);
    let (found, seen) = looked_at(&bytes, 0);
    assert_eq!((seen, found.len, found.damages.len()), (vec![0], end, 0));
    // The cookie is what tells: with it the same bytes are a frame of this epoch.
    let (bytes, _) = torn_over_a_forged_frame(COOKIE);
    assert_eq!(looked_at(&bytes, 0).1, [0, 40]);
}
