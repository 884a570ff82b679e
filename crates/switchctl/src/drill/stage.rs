//! What stands around a drill: the sink, probe mail through the nodes' listeners, the eye on the leases.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mail_model::{Clock, Epoch, Moment, QueueId};
use queue_store::inspect::Depth;
use rig::{
    Backend, Balancer, BalancerOptions, Behaviour, Health, Load, LoadRun, Rate, Rule, Sink, SinkOptions,
    Stage as At,
};

use super::options::Options;
use super::plan::Plan;
use crate::command::{Context, Failure};
use crate::demo::books::is_of;
use crate::demo::leases::Leases;
use crate::exit::Exit;

/// The longest a drill lasts, and so the time for which mail with its address is taken.
const ADDRESS_VALID: Duration = Duration::from_mins(10);
/// Bytes of a probe.
const PROBE_BYTES: usize = 2048;
/// How long the far end takes to answer the final dot, so that some attempts are open at any moment.
const FINAL_REPLY_AFTER: Duration = Duration::from_millis(5);

/// Everything around a drill. It ends when this is dropped.
pub(crate) struct Stage {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: Sink,
    pub(crate) leases: Leases,
    pub(crate) load: LoadRun,
    /// The name of the run in every probe.
    pub(crate) run: String,
    /// The way of probe mail.
    pub(crate) balancer: Balancer,
}

impl Stage {
    /// Opens the sink and lets probe mail begin. Within a tokio runtime.
    pub(crate) fn open(
        context: &Context,
        options: &Options,
        plan: &Plan,
        (id, leases, clock): (u64, Leases, Arc<dyn Clock>),
        own: SocketAddr,
    ) -> Result<Self, Failure> {
        let address = options.sink.unwrap_or_else(|| SocketAddr::new(own.ip(), 0));
        let taking = SinkOptions { address, behaviour: taking(), ..SinkOptions::new(Arc::clone(&clock)) };
        let sink = Sink::start(taking).map_err(|error| {
            Failure::failed(format_args!("open a sink at {address}: {error}; see --sink"))
        })?;
        let backend = |address: &SocketAddr| Backend { address: *address, health: Health::Greeting };
        let balancer = Balancer::start(BalancerOptions::new(plan.targets.iter().map(backend).collect()))?;
        let key = context.settings.drill_key.as_ref().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "the cluster key cannot be read, and probe mail is sealed with it; look at cluster.key_file, or call as root",
            )
        })?;
        let domain = key.domain(sink.address(), clock.wall() + ADDRESS_VALID);
        let run = format!("drill{id:x}");
        let load = Load {
            rate: Rate::PerSecond(options.rate),
            sessions: 10,
            message_size_bytes: PROBE_BYTES,
            // The null path: whatever becomes of a probe, nobody is told.
            sender: String::new(),
            recipients: vec![format!("probe@{domain}")],
            messages_per_connection: 5,
            seed: id,
            ..Load::new(balancer.address(), &run)
        };
        let load = load.start(Arc::clone(&clock));
        Ok(Self { clock, sink, leases, load, run, balancer })
    }

    /// The far end puts every probe off for a while, or takes them as ever.
    pub(crate) fn put_off(&self, put_off: bool) {
        let mut behaviour = taking();
        if put_off {
            behaviour.rules.push(Rule::at(At::Recipient).reply(451, "4.7.1 a drill: not now, try again"));
        }
        self.sink.behave(behaviour);
    }

    /// Probes that `queue` accepted in `last` or before, so far.
    pub(crate) fn accepted_by(&self, queue: &QueueId, last: Epoch) -> usize {
        let probes = self.load.probes();
        let accepted = probes.iter().filter_map(|probe| probe.accepted.as_ref());
        accepted.filter(|accepted| is_of(accepted.id(), queue, last)).count()
    }

    /// When probes that `queue` accepted in `last` or before came to the sink, from `since` on.
    pub(crate) fn deliveries(&self, queue: &QueueId, last: Epoch, since: Moment) -> Vec<Moment> {
        self.sink.inspect(|deliveries| {
            let late = deliveries.iter().filter(|delivery| delivery.at >= since);
            late.filter(|delivery| is_of(delivery.id.as_deref(), queue, last)).map(|d| d.at).collect()
        })
    }
}

/// Recipients in doubt in the whole history of all queues, whatever their next hop: the sums outlive the records they were made
/// of. Attempts to `sink` that never ended are in doubt for whoever owns the queue next; before there was a sink, none are.
pub(crate) fn in_doubt(context: &Context, sink: Option<SocketAddr>) -> Result<u64, Failure> {
    let hop = sink.map(|sink| sink.to_string());
    let mut doubts = 0;
    for queue in context.queues() {
        let seen = context.inspect(&queue, Depth::Books).map_err(Failure::failed)?;
        let books = &seen.replay.books;
        let ours = books.open_attempts().filter(|doubt| Some(&doubt.next_hop) == hop.as_ref());
        doubts += books.totals().in_doubt + ours.map(|doubt| doubt.recipients.len() as u64).sum::<u64>();
    }
    Ok(doubts)
}

fn taking() -> Behaviour {
    Behaviour::with(Rule::at(At::FinalDot).after(FINAL_REPLY_AFTER))
}
