//! Records read back as they were written, in every value there is beyond those of the golden queue.

use mail_model::{Envelope, Epoch, Reply, ReversePath, WallTime};
use queue_format::record::{
    CarryRecord, Content, Failure, Handover, MessageKey, MessageRecord, OperateRecord, OutcomeGroup,
    OutcomeRecord, RecipientStanding, RecipientState, Record, Settles, Taken, TakenRecord, Told, Verb,
    Verdict, decode_envelope, encode_envelope,
};

const KEY: MessageKey = MessageKey { epoch: Epoch(3), sequence: 7 };

#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
fn reads_back(record: &Record) {
    let mut meta = Vec::new();
    record.encode(&mut meta);
    assert_eq!(Record::decode(record.kind() as u8, &meta).as_ref(), Ok(record));
    for len in 0..meta.len() {
        assert!(Record::decode(record.kind() as u8, &meta[..len]).is_err(), "cut at {len}: {record:?}");
    }
}

fn message(settles: Option<Settles>) -> MessageRecord {
    MessageRecord {
        key: KEY,
        received: WallTime(5),
        size: 2,
        origin: "client".into(),
        envelope: encode_envelope(&Envelope::from_sender(ReversePath::Null)),
        content: Content::Inline,
        settles,
        handover: None,
    }
}

fn standing(state: RecipientState) -> RecipientStanding {
    RecipientStanding {
        state,
        attempts: 2,
        due: WallTime(9),
        last_reply: Some(Reply::from_peer(450, "4.2.1 later")),
        warned: false,
        doubtful: false,
        crashes: 0,
        redirect: None,
    }
}

#[test]
fn a_notification_says_what_was_told_of_each() {
    let told = [Told::Failed(Failure::Bounced), Told::Failed(Failure::Expired), Told::Delivered, Told::Late];
    let recipients = (0..).zip(told).collect();
    reads_back(&Record::Message(message(Some(Settles { message: KEY, recipients }))));
}

#[test]
fn a_carried_recipient_keeps_all_that_is_known_of_it() {
    let plain = standing(RecipientState::Queued);
    let recipients = vec![
        plain.clone(),
        standing(RecipientState::OwedSuccess),
        RecipientStanding { warned: true, ..plain.clone() },
        RecipientStanding { doubtful: true, ..plain.clone() },
        RecipientStanding { crashes: 3, ..standing(RecipientState::Held) },
        RecipientStanding { warned: true, redirect: Some("10.0.0.1:25".into()), ..plain },
        RecipientStanding { warned: true, ..standing(RecipientState::Owed(Failure::Expired)) },
    ];
    reads_back(&Record::Carry(CarryRecord { message: message(None), recipients }));
}

#[test]
fn a_redirection_says_to_where_and_no_other_verb_does() {
    for (verb, to) in
        [(Verb::Redirect, Some("10.0.0.1:25".into())), (Verb::Redirect, None), (Verb::Retry, None)]
    {
        let (at, by) = (WallTime(4), "root".to_owned());
        reads_back(&Record::Operate(OperateRecord { message: KEY, verb, recipients: vec![1], at, by, to }));
    }
}

#[test]
fn success_may_be_owed_and_tls_asked_for() {
    let group = OutcomeGroup { verdict: Verdict::DeliveredOwed, reply: None, recipients: vec![0] };
    let outcome = OutcomeRecord { message: KEY, attempt: None, at: WallTime(1), groups: vec![group] };
    reads_back(&Record::Outcome(outcome));
    let envelope = Envelope { require_tls: true, ..Envelope::from_sender(ReversePath::Null) };
    assert_eq!(decode_envelope(&encode_envelope(&envelope)), Ok(envelope));
}

#[test]
fn a_name_stands_in_the_message_itself_or_moves_to_a_record_of_its_own() {
    let recipients = vec!["a@b.test".into(), "c@d.test".into()].into();
    let (id, sender) = ("a-1-2.5@demo".into(), "x@y.test".into());
    let handover = Box::new(Handover { id, sender, octets: 9, crc: 8, recipients });
    let named = MessageRecord { handover: Some(handover.clone()), ..message(None) };
    reads_back(&Record::Message(named));
    let remembered = vec![Taken { message: KEY, received: WallTime(4), handover }];
    reads_back(&Record::Taken(TakenRecord { remembered, forgotten: Vec::new() }));
    reads_back(&Record::Taken(TakenRecord { remembered: Vec::new(), forgotten: vec![KEY] }));
}
