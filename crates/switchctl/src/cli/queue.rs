//! `switchctl queue`: what waits, and verbs on it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use control::switch::Verb;
use mail_model::MessageId;
use routing::{DomainPattern, NextHop};

use super::common::Common;
use crate::command::Outcome;
use crate::filter::{self, Filter, Term};
use crate::output::Format;
use crate::watch::Watch;
use crate::{operate, queue, suspend};

/// What the help of every verb on messages ends with.
const VERB_HELP: &str = "\
Name messages by ID, or choose them by terms: to:ADDRESS from:ADDRESS (@example.test for all of a domain), age:>1h, \
state:queued|held|owed, reply~TEXT, node:NODE, size:>1MiB; or say --all.

It acts on every waiting recipient of a message, and goes to the node whose switch owns the queue. What it would touch is shown \
and must be confirmed, on a terminal or with --yes. Exit codes: 0 all done, 1 nothing done, 2 not confirmed, 3 some queues \
were not reached, 7 an ID is not in the queue.";

#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// How much waits, by queue; or by destination or sender, and age.
    #[command(after_help = filter::HELP)]
    Summary {
        /// What to count; everything if not said.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
        /// What a row is about.
        #[arg(long, value_enum, default_value_t)]
        by: queue::By,
        #[command(flatten)]
        watch: Watch,
    },
    /// Messages that wait, oldest first.
    #[command(visible_alias = "search", after_help = filter::HELP)]
    List {
        /// Which; every message if not said.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
        #[command(flatten)]
        watch: Watch,
    },
    /// One message: envelope, recipients, what was said.
    Show {
        /// Its id, as in the 250 reply.
        id: MessageId,
    },
    /// One message's content, as it will be sent.
    Cat {
        /// Its id, as in the 250 reply.
        id: MessageId,
    },
    /// Write messages into a folder: ID.eml and, with the envelope, ID.json. They stay in the queue. Exit codes: 0 all written, 1 none
    /// could be, 3 some could not be read, or some queues.
    #[command(after_help = filter::HELP)]
    Export {
        /// The folder; it is made.
        folder: PathBuf,
        /// Which; every message if not said.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
        /// Only count what would be written.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take every NAME.eml of a folder into this node's queue, by way of its maildrop. NAME.json says the envelope; without one
    /// the header does. Exit codes: 0 all taken, 1 none, 3 some.
    Import {
        /// The folder.
        folder: PathBuf,
        /// Which, by to: from: and size:; every message if not said.
        #[arg(value_name = "TERM")]
        what: Vec<Term>,
        /// Only look, and say what would be taken.
        #[arg(long)]
        dry_run: bool,
        /// It is a Postfix spool (/var/spool/postfix), or a queue of one, which `postcat` reads. Messages on hold are left,
        /// unless their queue is named. That Postfix must be stopped. Its files stay.
        #[arg(long)]
        postfix: bool,
    },
    /// Take the messages of a queue directory that belongs to no node of this cluster (from a backup, or of a node that was
    /// given up) into this node's queue, by way of its maildrop. Messages get new ids. The directory is renamed to DIR.adopting, and
    /// to DIR.adopted when nothing is left in it; DIR.adopted-ids says which messages were taken, and none is taken twice.
    #[command(after_help = filter::HELP)]
    Adopt {
        /// The queue's directory.
        dir: PathBuf,
        /// Which, by any term but node:; every message if not said. The others can be adopted later.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
        /// Only look, and say what would be taken.
        #[arg(long)]
        dry_run: bool,
    },
    /// Read every byte of a queue and say what is not as it was written. Touches nothing.
    Fsck {
        /// A queue's directory; all queues of the configuration if not said.
        dir: Option<PathBuf>,
    },
    /// Who owns each queue.
    Owner {
        #[command(flatten)]
        watch: Watch,
    },
    /// Set messages aside: they are not tried until they are released. An attempt that runs is finished.
    #[command(after_help = VERB_HELP)]
    Hold(Order),
    /// Try held messages again, at once.
    #[command(after_help = VERB_HELP)]
    Release(Order),
    /// Try messages at once, whatever their time and whatever is known of their next hop.
    #[command(after_help = VERB_HELP)]
    Retry(Order),
    /// Send messages to another next hop from now on, whatever their route says.
    #[command(after_help = VERB_HELP)]
    Redirect {
        /// Where to, as in a route: `10.0.0.1, mx.example.test:2525`, `mx`, `lmtp://host:24`. The TLS policy is `may`.
        #[arg(
            long,
            value_name = "NEXT_HOP",
            required_unless_present = "to_route",
            conflicts_with = "to_route"
        )]
        to: Option<NextHop>,
        /// By their route again.
        #[arg(long)]
        to_route: bool,
        #[command(flatten)]
        order: Order,
    },
    /// Begin no attempt for a domain (`.example.test`: all below it) for some time; without one, say which are suspended.
    Suspend {
        /// The domain.
        #[arg(requires = "span")]
        domain: Option<DomainPattern>,
        /// For how long: 30m, 2h, 1d.
        #[arg(long = "for", value_parser = settings::parse_duration, value_name = "D")]
        span: Option<Duration>,
        /// Why, for the record.
        #[arg(long, value_parser = operate::reason, default_value = "ordered by an operator")]
        reason: String,
    },
    /// Serve a suspended domain again, at once.
    Resume {
        /// The domain, as it was suspended.
        domain: DomainPattern,
        /// Why, for the record.
        #[arg(long, value_parser = operate::reason, default_value = "ordered by an operator")]
        reason: String,
    },
    /// Give messages up: their senders are told that they could not be delivered. An attempt that runs is finished.
    #[command(after_help = VERB_HELP)]
    Bounce(Order),
    /// Take messages out of the queue for good, with every recipient that waits. Nobody is told.
    #[command(after_help = VERB_HELP)]
    Delete {
        #[command(flatten)]
        choice: operate::Choice,
        /// Why, for the record.
        #[arg(long, value_parser = operate::reason)]
        reason: String,
    },
}

impl Queue {
    /// How often it is to be asked again, if it is.
    pub(super) fn watched(&self) -> Option<Duration> {
        if let Self::Summary { watch, .. } | Self::List { watch, .. } | Self::Owner { watch } = self {
            watch.every
        } else {
            None
        }
    }
}

/// What a verb is about, and why.
#[derive(Debug, Args)]
pub(super) struct Order {
    #[command(flatten)]
    choice: operate::Choice,
    /// Why, for the record.
    #[arg(long, value_parser = operate::reason, default_value = "ordered by an operator")]
    reason: String,
}

pub(super) fn run(common: &Common, verb: &Queue) -> Outcome {
    if let Queue::Fsck { dir: Some(dir) } = verb {
        return queue::fsck_dir(common.output, dir);
    }
    let context = &common.context()?;
    match verb {
        Queue::Summary { what, by, .. } => queue::summary(context, Filter::new(what), *by),
        Queue::List { what, .. } if context.format == Format::PostqueueJson => {
            queue::postqueue_json(context, Filter::new(what))
        }
        Queue::List { what, .. } => queue::list(context, Filter::new(what)),
        Queue::Export { folder, what, dry_run } => {
            queue::export(context, folder, Filter::new(what), *dry_run)
        }
        Queue::Import { folder, what, postfix: true, dry_run } => {
            queue::import_postfix(context, folder, Filter::new(what), *dry_run)
        }
        Queue::Import { folder, what, postfix: false, dry_run } => {
            queue::import(context, folder, Filter::new(what), *dry_run)
        }
        Queue::Adopt { dir, what, dry_run } => queue::adopt(context, dir, Filter::new(what), *dry_run),
        Queue::Show { id } => queue::show(context, id),
        Queue::Cat { id } => queue::cat(context, id),
        Queue::Fsck { .. } => queue::fsck_all(context),
        Queue::Owner { .. } => queue::owner(context),
        Queue::Hold(order) => operate::run(context, Verb::Hold, &order.choice, &order.reason),
        Queue::Release(order) => operate::run(context, Verb::Release, &order.choice, &order.reason),
        Queue::Retry(order) => operate::run(context, Verb::Retry, &order.choice, &order.reason),
        Queue::Redirect { to, order, .. } => {
            operate::redirect(context, to.as_ref(), &order.choice, &order.reason)
        }
        Queue::Suspend { domain: Some(domain), span, reason } => {
            suspend::suspend(context, domain, span.unwrap_or_default(), reason)
        }
        Queue::Suspend { domain: None, .. } => suspend::suspended(context),
        Queue::Resume { domain, reason } => suspend::resume(context, domain, reason),
        Queue::Bounce(order) => operate::run(context, Verb::Bounce, &order.choice, &order.reason),
        Queue::Delete { choice, reason } => operate::run(context, Verb::Delete, choice, reason),
    }
}
