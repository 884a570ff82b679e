//! Domains to which nothing is sent for some time.
//!
//! The order goes to the owner of each queue, which must be a switch of this node; what is suspended is read from the disk, so
//! that it is seen wherever the queue is.

use std::time::Duration;

use control::Program;
use control::switch::{Answer, Request, SUSPENSIONS_FILE, Suspension};
use daemon_kit::SystemClock;
use mail_model::{Clock, QueueId, WallTime};
use routing::DomainPattern;
use serde_json::json;

use crate::command::{Context, Failure, Outcome, misfit};
use crate::exit::Exit;
use crate::operate::{OPERATE_WITHIN, by, owner};
use crate::output::{Listing, time};

/// Begins it, in every queue of this node.
pub(crate) fn suspend(context: &Context, domain: &DomainPattern, span: Duration, reason: &str) -> Outcome {
    let for_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (domain, reason) = (domain.to_string(), by(context, reason));
    ask_all(context, &Request::Suspend { domain, for_ms, reason })
}

/// Ends it.
pub(crate) fn resume(context: &Context, domain: &DomainPattern, reason: &str) -> Outcome {
    let (domain, reason) = (domain.to_string(), by(context, reason));
    ask_all(context, &Request::Unsuspend { domain, reason })
}

fn ask_all(context: &Context, request: &Request) -> Outcome {
    let mut listing = Listing::new("mailswitch.queue.suspension/1", &["queue", "done"]);
    for queue in context.queues() {
        match ask(context, &queue, request.clone()) {
            Ok(message) => listing.row(vec![json!(queue), json!(message)]),
            Err(why) => listing.lacks(queue.to_string(), &why),
        }
    }
    let nothing = listing.is_empty();
    let exit = context.show(&listing)?;
    Ok(if exit == Exit::Partial && nothing { Exit::Failed } else { exit })
}

fn ask(context: &Context, queue: &QueueId, request: Request) -> Result<String, String> {
    let node = owner(context, queue)?;
    match context.ask(&node, &Program::Switch(queue.clone()), request, OPERATE_WITHIN) {
        Ok(Answer::Done { message }) => Ok(message),
        Ok(
            Answer::Status(_)
            | Answer::Ready(_)
            | Answer::Operated(_)
            | Answer::Traced(_)
            | Answer::Metrics { .. },
        ) => Err(misfit().message),
        Err(failure) => Err(failure.message),
    }
}

/// What is suspended now, in every queue.
pub(crate) fn suspended(context: &Context) -> Outcome {
    let mut listing =
        Listing::new("mailswitch.queue.suspended/1", &["queue", "domain", "until", "ordered_by"]);
    let now = SystemClock.wall();
    for queue in context.queues() {
        match read(context, &queue) {
            Ok(found) => {
                for one in found.into_iter().filter(|one| WallTime(one.until_ms) > now) {
                    listing.row(vec![
                        json!(queue),
                        json!(one.domain),
                        time(WallTime(one.until_ms)),
                        json!(one.by),
                    ]);
                }
            }
            Err(failure) => listing.lacks(queue.to_string(), &failure.message),
        }
    }
    context.show(&listing)
}

fn read(context: &Context, queue: &QueueId) -> Result<Vec<Suspension>, Failure> {
    let file = context.queue_dir(queue).join(SUSPENSIONS_FILE);
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format_args!("{}: {error}", file.display()));
    match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(&error)),
    }
}
