//! One message to one next hop: claim, ATTEMPT, connection, transaction, OUTCOME.

use std::sync::Arc;
use std::time::Duration;

use mail_model::{
    AttemptNumber, EnhancedStatus, Epoch, Moment, RecipientIndex, Reply, ReplyClass, TAKEN_BEFORE,
};
use queue_format::record::{Failure, MessageKey, OperateRecord, OutcomeRecord, Verb, Verdict};
use queue_store::{Announced, AppendError, ContentError, Refusal};
use routing::{HostPort, NextHop};
use schedule::{Outcome, Task};
use settings::DoubleBounce;
use smtp::transaction::{Completion, ConnectionState, RecipientResult};

use super::care::{self, Care};
use super::connection::Connection;
use super::context::{Context, Phase};
use super::destination::Destination;
use super::plan::{self, Work};
use super::transfer::{Content, Ended, Transfer};
use super::verdict::{Judge, Sentence};
use super::walk::Walk;
use super::{handovers, octets};

/// How long to wait after a failure that is our own.
const OWN_FAILURE: Duration = Duration::from_secs(5);
/// How long to wait until a record that found no space is written again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// A recipient without a route waits as after so many attempts: only a new configuration can help it.
const NO_ROUTE_ATTEMPTS: u32 = 3;

/// A task, with the connection of the worker that does it.
pub(crate) struct Attempt<'a> {
    pub(crate) context: &'a Arc<Context>,
    pub(crate) connection: &'a mut Option<Connection>,
}

/// What a transaction came to.
struct Tried {
    results: Vec<(RecipientIndex, RecipientResult)>,
    reach: Outcome,
    /// The host that decided, if one did.
    remote: Option<String>,
    /// Its connection was under TLS.
    secured: bool,
    /// It sends notifications of success itself.
    dsn: bool,
    damage: Option<ContentError>,
}

impl Tried {
    /// No host gave service. If there will never be one, the recipients fail.
    fn unreached(context: &Context, work: &Work, reply: &Reply) -> Self {
        let (results, reach) = if reply.class() == ReplyClass::Permanent {
            let failed = |index: &RecipientIndex| (*index, RecipientResult::Failed(reply.clone()));
            (work.recipients.iter().map(failed).collect(), Outcome::Reached)
        } else {
            (deferred(&work.recipients, reply), Outcome::Unreachable(context.random()))
        };
        Self { results, reach, remote: None, secured: false, dsn: false, damage: None }
    }
}

impl Attempt<'_> {
    /// Does `task`; answers what was learnt about its destination.
    pub(crate) async fn carry_out(&mut self, task: &Task<Destination, MessageKey>) -> Outcome {
        let Some(work) = plan::claim(self.context, task.item, &task.destination) else {
            // Gone, or not due yet, or to be taken elsewhere by now.
            self.context.notice(task.item);
            return Outcome::Untried;
        };
        if work.care != Care::Usual {
            return self.take_care(work, &task.destination).await;
        }
        match &task.destination {
            Destination::Hop(..) | Destination::NoRoute if task.expired => self.give_up(work).await,
            Destination::Hop(hop, _) => self.deliver(work, &task.destination, hop).await,
            Destination::NoRoute | Destination::Bounce => self.without_route(work).await,
            Destination::Error(refusal) => self.refuse(work, &refusal.reply()).await,
            Destination::Discard => {
                let by = "switch: its route says discard";
                self.put_aside(work, Verb::Delete, by, &task.destination).await
            }
            Destination::Hold => {
                let by = "switch: its route says hold";
                self.put_aside(work, Verb::Hold, by, &task.destination).await
            }
        }
    }

    /// Nobody knows what became of its last attempt, and it is not just tried again.
    async fn take_care(&mut self, work: Work, destination: &Destination) -> Outcome {
        let context = self.context;
        let (care, recipients) = (work.care, work.recipients.len());
        let id = context.queue.message_id(work.key);
        context.counters.doubtful.add([care.as_str()], recipients as u64);
        let Some(by) = care.by() else {
            tracing::warn!(event = "delivery.doubt", %id, recipients, action = care.as_str(), next_hop = %destination);
            return self.refuse(work, &care::doubt()).await;
        };
        if !self.operate(&work, Verb::Hold, by).await {
            return self.later(&work, destination);
        }
        if care == Care::Crashed {
            let crashes = context.settings.load().delivery.crash_hold;
            tracing::error!(event = "delivery.crash_held", %id, recipients, crashes, next_hop = %destination);
        } else {
            tracing::warn!(event = "delivery.doubt", %id, recipients, action = care.as_str(), next_hop = %destination);
        }
        context.claims.release(work.key, &work.recipients);
        // The others of this message may need another care.
        context.notice(work.key);
        Outcome::Untried
    }

    /// The lifetime is over, and the destination has not been reached for long: not even tried.
    async fn give_up(&mut self, work: Work) -> Outcome {
        let never =
            || Reply::local(451, EnhancedStatus::new(4, 4, 7), "the next host was not reached in time");
        let reply = work.last_reply.clone().unwrap_or_else(never);
        self.without_attempt(work, 1, &reply).await
    }

    async fn without_route(&mut self, work: Work) -> Outcome {
        // RFC 3463 3.5: unable to route.
        let reply = Reply::local(451, EnhancedStatus::new(4, 4, 4), "no route is known for this address");
        self.without_attempt(work, NO_ROUTE_ATTEMPTS, &reply).await
    }

    /// Its route says so: bounced, or put off if that is for now.
    async fn refuse(&mut self, work: Work, reply: &Reply) -> Outcome {
        let result = |index: &RecipientIndex| {
            let said = if reply.class() == ReplyClass::Permanent {
                RecipientResult::Failed(reply.clone())
            } else {
                RecipientResult::Deferred(reply.clone())
            };
            (*index, said)
        };
        let results = work.recipients.iter().map(result).collect();
        let tried = Tried {
            results,
            reach: Outcome::Untried,
            remote: None,
            secured: false,
            dsn: false,
            damage: None,
        };
        let attempts = work.attempts.saturating_add(1).max(NO_ROUTE_ATTEMPTS);
        self.conclude(work, None, attempts, tried, self.context.clock.now()).await
    }

    /// Deletes or holds what goes nowhere. Nobody is told but the log.
    async fn put_aside(
        &mut self,
        work: Work,
        verb: Verb,
        by: &'static str,
        destination: &Destination,
    ) -> Outcome {
        let context = self.context;
        let id = context.queue.message_id(work.key);
        let recipients = work.recipients.len();
        if self.operate(&work, verb, by).await {
            context.claims.release(work.key, &work.recipients);
            let said = if verb == Verb::Hold { "hold" } else { "discard" };
            tracing::info!(event = "delivery.put_aside", %id, recipients, route = said);
            return Outcome::Untried;
        }
        self.later(&work, destination)
    }

    async fn operate(&self, work: &Work, verb: Verb, by: &str) -> bool {
        self.operate_on(work.key, work.recipients.clone(), verb, by).await
    }

    async fn operate_on(
        &self,
        message: MessageKey,
        recipients: Vec<RecipientIndex>,
        verb: Verb,
        by: &str,
    ) -> bool {
        let (at, by) = (self.context.clock.wall(), by.to_owned());
        let operate = OperateRecord { message, verb, recipients, at, by, to: None };
        self.context.queue.operate(operate).await.is_ok()
    }

    async fn without_attempt(&mut self, work: Work, attempts: u32, reply: &Reply) -> Outcome {
        let results = deferred(&work.recipients, reply);
        let tried = Tried {
            results,
            reach: Outcome::Untried,
            remote: None,
            secured: false,
            dsn: false,
            damage: None,
        };
        self.conclude(work, None, attempts, tried, self.context.clock.now()).await
    }

    async fn deliver(&mut self, work: Work, destination: &Destination, hop: &Arc<NextHop>) -> Outcome {
        let began = self.context.clock.now();
        let mut content = match self.content(work.key).await {
            Ok(content) => content,
            Err(ContentError::Damaged { segment, offset }) => {
                self.hold(work, &ContentError::Damaged { segment, offset }).await;
                return Outcome::Untried;
            }
            Err(ContentError::Unreadable { .. }) => return self.later(&work, destination),
        };
        let queue = &self.context.queue;
        let (recipients, started) = (work.recipients.clone(), self.context.clock.wall());
        let announced = queue.announce_attempt(work.key, recipients, hop.to_string(), started).await;
        let Ok(mut attempt) = announced else { return self.later(&work, destination) };
        // While the record is on its way to the disk the envelope goes to the peer: only a final dot waits for it.
        let tried = match connected(self.context, self.connection.take(), hop).await {
            Ok((session, walk)) => {
                self.transact(&work, hop, (session, walk), &mut content, &mut attempt).await
            }
            Err(reply) => Tried::unreached(self.context, &work, &reply),
        };
        let Ok(number) = attempt.durable().await else { return self.later(&work, destination) };
        let attempt = Some((queue.epoch(), number));
        let attempts = work.attempts.saturating_add(1);
        self.conclude(work, attempt, attempts, tried, began).await
    }

    async fn content(&self, key: MessageKey) -> Result<Content, ContentError> {
        let unreadable = || ContentError::Unreadable {
            segment: mail_model::SegmentId::default(),
            what: "gone".to_owned(),
        };
        if let Some(body) = self.context.recent.take(key) {
            return Ok(Content::held(body));
        }
        let mut last = unreadable();
        // Between the look into the books and the read a message may have moved to a younger segment.
        for _ in 0..2 {
            match Content::open(self.context.queue.content(key).ok_or_else(unreadable)?).await {
                Err(error @ ContentError::Unreadable { .. }) => last = error,
                done @ (Ok(_) | Err(ContentError::Damaged { .. })) => return done,
            }
        }
        tracing::warn!(event = "delivery.unreadable", id = %self.context.queue.message_id(key), error = %last);
        Err(last)
    }

    /// Gives the recipients back, to be tried again soon: the fault is ours.
    fn later(&self, work: &Work, destination: &Destination) -> Outcome {
        self.context.claims.release(work.key, &work.recipients);
        if self.context.is_running() {
            self.context.put_off(destination, work.key, OWN_FAILURE);
        }
        Outcome::Untried
    }

    async fn transact(
        &mut self,
        work: &Work,
        hop: &Arc<NextHop>,
        (mut session, mut walk): (Connection, Option<Walk>),
        content: &mut Content,
        attempt: &mut Announced,
    ) -> Tried {
        let settings = self.context.settings.load_full();
        let (cluster, id) = (&settings.cluster.id, self.context.queue.message_id(work.key));
        let name = handovers::name(cluster, &id, work.received);
        loop {
            let known = &self.context.handovers;
            let over = if session.extensions.once { known.over(&session.host) } else { Vec::new() };
            let (queue, peer) = (&self.context.queue, session.extensions);
            let envelope = octets::fitting(queue, work.key, &work.envelope, &work.recipients, &peer).await;
            let transfer = Transfer {
                connection: &mut session,
                timeouts: &settings.limits.send,
                phase: self.context.phase.subscribe(),
                queue: &self.context.queue,
                attempt: &mut *attempt,
                name: &name,
                over: &over,
                heard: false,
                damage: None,
            };
            let (completion, damage) = match transfer.run(&envelope, &work.recipients, content).await {
                Ended::Done(completion) => (completion, None),
                Ended::Damaged(error, completion) => (completion, Some(error)),
                // It died while it waited: nobody's fault, and no attempt of its own.
                Ended::Stale => {
                    known.not_told(&session.host, over);
                    match fresh(self.context, hop).await {
                        Ok((connection, rest)) => {
                            (session, walk) = (connection, Some(rest));
                            continue;
                        }
                        Err(reply) => return Tried::unreached(self.context, work, &reply),
                    }
                }
            };
            if session.extensions.once {
                self.note_handover(work, &session.host, &name, &completion);
            }
            let lost = completion.connection == ConnectionState::MustClose;
            let nobody = completion.results.iter().all(|(_, r)| matches!(r, RecipientResult::Deferred(_)));
            let ours = damage.is_some() || *self.context.phase.borrow() == Phase::Stopped;
            if lost
                && nobody
                && !ours
                && content.is_whole()
                && let Ok(next) = further(self.context, hop, &mut walk, &session.host).await
            {
                // It broke off before it took anything: the next host may do better.
                session = next;
                continue;
            }
            let reach = match (lost && nobody, ours) {
                (true, false) => Outcome::Unreachable(self.context.random()),
                (true, true) => Outcome::Untried,
                (false, _) => Outcome::Reached,
            };
            let (remote, secured, dsn) =
                (Some(session.remote()), session.is_secured(), session.extensions.dsn);
            if !lost && session.may_serve(settings.delivery.cache.messages) {
                *self.connection = Some(session);
            } else {
                session.close();
            }
            return Tried { results: completion.results, reach, remote, secured, dsn, damage };
        }
    }

    /// `host` knows repeats. It has the message now, or had it, or may have it.
    fn note_handover(&self, work: &Work, host: &HostPort, name: &str, completion: &Completion) {
        let context = self.context;
        let may_have = |result: &RecipientResult| match result {
            RecipientResult::Delivered(_) | RecipientResult::InDoubt(_) => true,
            RecipientResult::Deferred(_) | RecipientResult::Failed(_) => false,
        };
        if completion.results.iter().any(|(_, result)| may_have(result)) {
            context.handovers.made(work.key, host, name);
        }
        let had = |result: &RecipientResult| match result {
            RecipientResult::Delivered(reply) => reply.text.starts_with(TAKEN_BEFORE),
            RecipientResult::InDoubt(_) | RecipientResult::Deferred(_) | RecipientResult::Failed(_) => false,
        };
        let recipients = completion.results.iter().filter(|(_, result)| had(result)).count();
        if recipients > 0 {
            context.counters.doubts_settled.add(recipients as u64);
            let id = context.queue.message_id(work.key);
            tracing::info!(event = "delivery.doubt_settled", %id, recipients, %host);
        }
    }

    /// Tells the journal, and whoever else wants to know.
    async fn conclude(
        &mut self,
        work: Work,
        attempt: Option<(Epoch, AttemptNumber)>,
        attempts: u32,
        tried: Tried,
        began: Moment,
    ) -> Outcome {
        let context = self.context;
        let settings = context.settings.load_full();
        let policy = plan::policy(&work.envelope, settings.retry);
        let now = context.clock.wall();
        let delay = policy.delay(attempts, context.random());
        let judge = Judge {
            envelope: &work.envelope,
            received: work.received,
            now,
            policy,
            delay,
            dsn_passed_on: tried.dsn,
            bounces: &settings.bounces,
        };
        let mut sentence = judge.pass(tried.results);
        let doubles = std::mem::take(&mut sentence.doubles);
        let relay = tried.remote.as_deref().map(|remote| (remote, tried.secured));
        log(context, &work, &sentence, relay, began);
        count(context, &sentence);
        context.counters.attempted(context.clock.now().since(began));
        if let Some(remote) = &tried.remote {
            let mut remotes = context.remotes.lock();
            remotes.extend(sentence.owed.iter().map(|index| ((work.key, *index), remote.clone())));
        }
        let lazily = sentence.is_all_delivered();
        let outcome = OutcomeRecord { message: work.key, attempt, at: now, groups: sentence.groups };
        if lazily {
            if context.queue.settle_lazily(outcome).await.is_ok() {
                context.claims.settle(work.key, work.recipients);
            }
            if work.others {
                context.notice(work.key);
            }
            return tried.reach;
        }
        // What is tried again is read from the books: they must know first.
        if settle(context, outcome).await.is_ok() {
            if let Some(error) = tried.damage {
                self.hold(work, &error).await;
                return tried.reach;
            }
            if !doubles.is_empty() {
                self.end_doubles(&work, doubles, settings.bounces.double).await;
            }
            context.claims.release(work.key, &work.recipients);
            context.notice(work.key);
        }
        tried.reach
    }

    /// Mail without a sender failed for good: nobody can be told, but the log.
    async fn end_doubles(&self, work: &Work, doubles: Vec<RecipientIndex>, policy: DoubleBounce) {
        let context = self.context;
        let id = context.queue.message_id(work.key);
        let recipients = doubles.len();
        let to = doubles.first().and_then(|index| work.envelope.recipients.get(usize::from(*index)));
        let to = to.map(|recipient| recipient.address.to_string()).unwrap_or_default();
        tracing::warn!(event = "bounce.double", %id, %to, recipients, policy = policy.as_str());
        context.counters.double_bounces.add(recipients as u64);
        if policy == DoubleBounce::Hold {
            let by = "switch: it has no sender to tell that it failed";
            self.operate_on(work.key, doubles, Verb::Hold, by).await;
        }
    }

    /// Sets recipients aside whose content is damaged: a wrong byte is never delivered, and a person must look.
    async fn hold(&self, work: Work, error: &ContentError) {
        let context = self.context;
        let id = context.queue.message_id(work.key);
        tracing::error!(event = "delivery.held", %id, recipients = work.recipients.len(), %error);
        if self.operate(&work, Verb::Hold, "switch: the content is damaged").await {
            context.claims.release(work.key, &work.recipients);
        }
    }
}

/// A connection to `hop`: the worker's own, one that waits, or a new one, and then with the hosts that come after it.
async fn connected(
    context: &Context,
    own: Option<Connection>,
    hop: &Arc<NextHop>,
) -> Result<(Connection, Option<Walk>), Reply> {
    // It was used a moment ago. One that was closed since is found out by the transaction, before anything is lost.
    let own = own.filter(Connection::is_settled);
    let idle = context.settings.load().delivery.cache.idle;
    match own.or_else(|| context.pool.take(hop, idle, context.clock.now())) {
        Some(mut connection) => {
            connection.let_watch(&context.tracers, hop);
            Ok((connection, None))
        }
        None => fresh(context, hop).await.map(|(connection, walk)| (connection, Some(walk))),
    }
}

/// A new connection to the first host of `hop` that gives service.
async fn fresh(context: &Context, hop: &NextHop) -> Result<(Connection, Walk), Reply> {
    let mut walk = Walk::of(context, hop).await?;
    let connection = walk.next(context).await?;
    Ok((connection, walk))
}

/// A new connection to the next host of `hop` after `host`, which broke off.
async fn further(
    context: &Context,
    hop: &NextHop,
    walk: &mut Option<Walk>,
    host: &HostPort,
) -> Result<Connection, Reply> {
    let mut rest = match walk.take() {
        Some(walk) => walk,
        None => Walk::of(context, hop).await?.after(host),
    };
    let connection = rest.next(context).await;
    *walk = Some(rest);
    connection
}

fn deferred(recipients: &[RecipientIndex], reply: &Reply) -> Vec<(RecipientIndex, RecipientResult)> {
    recipients.iter().map(|index| (*index, RecipientResult::Deferred(reply.clone()))).collect()
}

/// Writes an outcome. On a full disk it waits: until it is written the recipients stay claimed.
async fn settle(context: &Context, outcome: OutcomeRecord) -> Result<(), Refusal> {
    loop {
        match context.queue.settle(outcome.clone()).await {
            Err(Refusal::Full | Refusal::Append(AppendError::Full)) => tokio::time::sleep(FULL_WAIT).await,
            done => return done,
        }
    }
}

fn count(context: &Context, sentence: &Sentence) {
    context.counters.delivered.add(sentence.delivered);
    context.counters.bounced.add(sentence.failed);
    context.counters.deferred.add(sentence.deferred + sentence.in_doubt);
    for group in &sentence.groups {
        let result = match group.verdict {
            Verdict::Delivered | Verdict::DeliveredOwed => "delivered",
            Verdict::Deferred { .. } => "deferred",
            Verdict::InDoubt { .. } | Verdict::InDoubtHeld => "in_doubt",
            Verdict::Failed { how: Failure::Bounced, .. } => "bounced",
            Verdict::Failed { how: Failure::Expired, .. } => "expired",
        };
        let reply = group.reply.as_ref().map_or("none", |reply| match reply.class() {
            ReplyClass::Positive | ReplyClass::Intermediate => "2xx",
            ReplyClass::Transient => "4xx",
            ReplyClass::Permanent => "5xx",
        });
        context.counters.outcomes.add([result, reply], group.recipients.len() as u64);
    }
}

fn log(context: &Context, work: &Work, sentence: &Sentence, relay: Option<(&str, bool)>, began: Moment) {
    let to = work.recipients.first().and_then(|index| work.envelope.recipients.get(usize::from(*index)));
    tracing::info!(
        event = "delivery.attempt",
        id = %context.queue.message_id(work.key),
        from = %work.envelope.reverse_path,
        to = %to.map(|recipient| recipient.address.to_string()).unwrap_or_default(),
        relay = relay.map_or("none", |(relay, _)| relay),
        tls = relay.is_some_and(|(_, secured)| secured),
        delivered = sentence.delivered,
        deferred = sentence.deferred,
        failed = sentence.failed,
        in_doubt = sentence.in_doubt,
        attempts = work.attempts + 1,
        delay_ms = context.clock.wall().since(work.received).as_millis(),
        took_ms = context.clock.now().since(began).as_millis(),
        reply = %sentence.first_reply().map(ToString::to_string).unwrap_or_default(),
    );
}
