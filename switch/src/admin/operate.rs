//! An operator's verb on messages of the queue.
//!
//! Every message is one record of its own, and all of them are written at the same time, so that they share commits.
//! Once begun, an order is carried out to its end even if who asked has gone.
//!
//! Never: an attempt that runs broken off. What it delivers is delivered; who was held or deleted meanwhile is not tried
//! again.

use std::sync::{Arc, OnceLock};

use control::switch::{self, OPERATE_MESSAGES_MAX, OPERATE_REASON_BYTES_MAX, Operated};
use control::{Code, Fault};
use mail_model::{EnhancedStatus, MessageId, RecipientIndex, Reply, WallTime};
use queue_format::record::{MessageKey, OperateRecord, RecipientState, Verb};
use queue_store::{Queue, Refusal};
use routing::NextHop;

use crate::delivery::Delivery;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Order {
    /// The verb.
    pub(crate) verb: switch::Verb,
    /// On what.
    pub(crate) messages: Vec<MessageId>,
    /// Who ordered it, and why.
    pub(crate) by: String,
    /// When.
    pub(crate) at: WallTime,
    /// For a redirection: to where.
    pub(crate) to: Option<String>,
}

/// One message's share.
enum Share {
    Absent,
    /// So many recipients were moved.
    Moved(u64),
}

impl Order {
    /// Carries it out, and answers when all of it is durable.
    pub(crate) async fn carry_out(
        mut self,
        queue: &Queue,
        delivery: &Arc<OnceLock<Delivery>>,
    ) -> Result<Operated, Fault> {
        self.check()?;
        self.messages.sort_unstable();
        self.messages.dedup();
        let mut shares = Vec::with_capacity(self.messages.len());
        for id in &self.messages {
            let known = id.queue == *queue.id();
            let message = MessageKey { epoch: id.epoch, sequence: id.sequence };
            let (verb, at, by) = (verb(self.verb), self.at, self.by.clone());
            let to: Option<Box<str>> = self.to.as_deref().map(Into::into);
            let (queue, delivery) = (queue.clone(), Arc::clone(delivery));
            // A task each: they share commits, and go on if who asked has gone.
            shares.push(tokio::spawn(async move {
                match verb {
                    _ if !known => Ok(Share::Absent),
                    None => give_up(&queue, &delivery, message).await,
                    Some(verb) => {
                        let record = OperateRecord { message, verb, recipients: Vec::new(), at, by, to };
                        operate(&queue, &delivery, record).await
                    }
                }
            }));
        }
        let mut operated = Operated::default();
        let mut refused = None;
        for share in shares {
            match share.await {
                Ok(Ok(Share::Absent)) => operated.absent += 1,
                Ok(Ok(Share::Moved(recipients))) => {
                    operated.messages += u64::from(recipients > 0);
                    operated.recipients += recipients;
                }
                Ok(Err(refusal)) => refused = Some(refusal.to_string()),
                Err(error) => refused = Some(error.to_string()),
            }
        }
        let Operated { messages, recipients, absent } = operated;
        let word = self.verb.as_str();
        tracing::info!(
            event = "queue.operated", queue = %queue.id(), verb = word, messages, recipients, absent, by = %self.by
        );
        match refused {
            None => Ok(operated),
            Some(why) => Err(Fault::failed(format!(
                "{word}: {messages} of {} messages were done, then: {why}; ask again when the queue is active here",
                self.messages.len()
            ))),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        let invalid = |message: String| Err(Fault::new(Code::Invalid, message));
        if self.messages.len() > OPERATE_MESSAGES_MAX {
            return invalid(format!("at most {OPERATE_MESSAGES_MAX} messages a request; ask in several"));
        }
        if self.to.is_some() && self.verb != switch::Verb::Redirect {
            return invalid(format!("'{}' goes nowhere; only 'redirect' has a next hop", self.verb.as_str()));
        }
        if let Some(Err(error)) = self.to.as_deref().map(str::parse::<NextHop>) {
            return invalid(error.to_string());
        }
        let by = &self.by;
        if by.trim().is_empty() || by.len() > OPERATE_REASON_BYTES_MAX || by.chars().any(char::is_control) {
            return invalid(format!(
                "the reason must be one line of 1 to {OPERATE_REASON_BYTES_MAX} bytes; say it in other words"
            ));
        }
        Ok(())
    }
}

/// Carries out one message's record, whose recipients are found here.
async fn operate(
    queue: &Queue,
    delivery: &OnceLock<Delivery>,
    mut record: OperateRecord,
) -> Result<Share, Refusal> {
    let (key, verb) = (record.message, record.verb);
    queue.may_act()?;
    let found = queue.books(|books| {
        let message = books.message(key)?;
        let standings = (0..).zip(&message.standings);
        let wanted = standings.filter(|(_, standing)| applies(verb, standing.state));
        Some(wanted.map(|(index, _)| index).collect::<Vec<RecipientIndex>>())
    });
    let Some(recipients) = found.flatten() else { return Ok(Share::Absent) };
    let moved = recipients.len() as u64;
    if recipients.is_empty() {
        return Ok(Share::Moved(0));
    }
    record.recipients = recipients;
    queue.operate(record).await?;
    if let Some(delivery) = delivery.get() {
        match verb {
            Verb::Release | Verb::Retry | Verb::Redirect => delivery.hurry(key),
            Verb::Hold | Verb::Delete => delivery.notice(key),
        }
    }
    Ok(Share::Moved(moved))
}

/// Gives one message's recipients up.
async fn give_up(
    queue: &Queue,
    delivery: &OnceLock<Delivery>,
    message: MessageKey,
) -> Result<Share, Refusal> {
    queue.may_act()?;
    let Some(delivery) = delivery.get() else {
        return Err(Refusal::NotActive(*queue.state().borrow()));
    };
    // RFC 3463 3.8: X.7.0, other security or policy status.
    let reply =
        Reply::local(554, EnhancedStatus::new(5, 7, 0), "given up by the operator of the mail system");
    Ok(delivery.give_up(message, &reply).await?.map_or(Share::Absent, Share::Moved))
}

/// What the journal calls it; a bounce is an outcome there.
fn verb(verb: switch::Verb) -> Option<Verb> {
    match verb {
        switch::Verb::Hold => Some(Verb::Hold),
        switch::Verb::Release => Some(Verb::Release),
        switch::Verb::Retry => Some(Verb::Retry),
        switch::Verb::Delete => Some(Verb::Delete),
        switch::Verb::Redirect => Some(Verb::Redirect),
        switch::Verb::Bounce => None,
    }
}

fn applies(verb: Verb, state: RecipientState) -> bool {
    match verb {
        Verb::Hold | Verb::Retry => state == RecipientState::Queued,
        Verb::Release => state == RecipientState::Held,
        Verb::Redirect => matches!(state, RecipientState::Queued | RecipientState::Held),
        Verb::Delete => !state.is_final() && state != RecipientState::OwedSuccess,
    }
}
