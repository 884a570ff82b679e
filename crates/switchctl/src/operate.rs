//! Operators' verbs on messages: hold, release, retry, redirect, bounce, delete.
//!
//! A plan is read from the disk and shown, then confirmed, then carried out by the owner of each queue, on whatever node that
//! is. It does not matter if the plan is old by then: the owner moves what is still there to move.
//!
//! Never: a change that was not confirmed, on a terminal or with `--yes`.

mod choice;
mod plan;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use control::Program;
use control::switch::{Answer, OPERATE_MESSAGES_MAX, Operated, Request, Verb};
use mail_model::MessageId;
use routing::NextHop;
use serde_json::json;

pub(crate) use self::choice::Choice;
use self::plan::Plan;
pub(crate) use self::plan::owner;
use crate::command::{Context, Failure, Outcome, complain, misfit};
use crate::exit::Exit;
use crate::output::Listing;

/// How long a switch may take for one request.
pub(crate) const OPERATE_WITHIN: Duration = Duration::from_mins(1);
/// The longest reason: with who ordered it, it must fit into the request.
const REASON_BYTES_MAX: usize = 500;

/// What is ordered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) verb: Verb,
    /// For a redirection: to where; `None` for the route's own next hop.
    pub(crate) to: Option<&'a str>,
}

/// Plans, confirms, carries out.
pub(crate) fn run(context: &Context, verb: Verb, choice: &Choice, reason: &str) -> Outcome {
    order(context, Order { verb, to: None }, choice, reason)
}

/// Sends messages elsewhere.
pub(crate) fn redirect(context: &Context, to: Option<&NextHop>, choice: &Choice, reason: &str) -> Outcome {
    let to = to.map(ToString::to_string);
    order(context, Order { verb: Verb::Redirect, to: to.as_deref() }, choice, reason)
}

fn order(context: &Context, order: Order<'_>, choice: &Choice, reason: &str) -> Outcome {
    let verb = order.verb;
    let plan = Plan::make(context, verb, choice)?;
    for id in &plan.absent {
        complain(format_args!(
            "{id} is not in the queue: it was delivered, bounced or deleted, or never was"
        ))?;
    }
    if choice.dry_run {
        let exit = plan.show(context, verb)?;
        complain("dry run: nothing was changed")?;
        return Ok(ending(&plan, exit, false));
    }
    if !choice.yes {
        let exit = plan.show(context, verb)?;
        if plan.count() == 0 {
            return Ok(ending(&plan, exit, false));
        }
        confirm(verb, &plan)?;
    }
    let mut listing = Listing::new(
        "mailswitch.queue.operated/1",
        &["queue", "messages", "recipients", "unchanged", "absent"],
    );
    listing.with("verb", json!(verb.as_str()));
    let mut gone = false;
    let by = by(context, reason);
    for (queue, (node, ids)) in &plan.messages {
        let program = Program::Switch(queue.clone());
        let (done, fault) = carry_out(
            |request| context.ask(node, &program, request, OPERATE_WITHIN),
            order,
            ids,
            &by,
            |so_far| {
                // What is done at once needs no word on the way.
                if ids.len() > OPERATE_MESSAGES_MAX {
                    complain(format_args!("queue {queue}: {so_far} of {} messages", ids.len())).ok();
                }
            },
        );
        gone |= done.absent > 0;
        let asked = ids.len() as u64;
        let unchanged = asked.saturating_sub(done.messages).saturating_sub(done.absent);
        match fault {
            None => listing.row(vec![
                json!(queue),
                json!(done.messages),
                json!(done.recipients),
                json!(unchanged),
                json!(done.absent),
            ]),
            Some(why) => listing.lacks(
                queue.to_string(),
                &format!("{why} (of {asked} messages {} are known to be done)", done.messages),
            ),
        }
    }
    for (queue, why) in &plan.missing {
        listing.lacks(queue.to_string(), why);
    }
    listing.with("absent", json!(plan.absent));
    let nothing = listing.is_empty();
    let exit = context.show(&listing)?;
    let exit = if exit == Exit::Partial && nothing { Exit::Failed } else { exit };
    // What terms found and has left meanwhile was not asked for by name.
    Ok(ending(&plan, exit, gone && !choice.filter().ids().is_empty()))
}

fn ending(plan: &Plan, exit: Exit, gone: bool) -> Exit {
    if exit == Exit::Ok && (gone || !plan.absent.is_empty()) { Exit::NotFound } else { exit }
}

/// Asks the owner of a queue, in as many requests as it takes. What was done, and why it ended early if it did.
fn carry_out(
    ask: impl Fn(Request) -> Result<Answer, Failure>,
    order: Order<'_>,
    ids: &[MessageId],
    by: &str,
    mut progress: impl FnMut(usize),
) -> (Operated, Option<String>) {
    let (mut done, mut asked) = (Operated::default(), 0);
    for batch in ids.chunks(OPERATE_MESSAGES_MAX) {
        let to = order.to.map(str::to_owned);
        let request =
            Request::Operate { verb: order.verb, messages: batch.to_vec(), reason: by.to_owned(), to };
        match ask(request) {
            Ok(Answer::Operated(more)) => {
                done.messages += more.messages;
                done.recipients += more.recipients;
                done.absent += more.absent;
                asked += batch.len();
                progress(asked);
            }
            Ok(
                Answer::Status(_)
                | Answer::Ready(_)
                | Answer::Done { .. }
                | Answer::Traced(_)
                | Answer::Metrics { .. },
            ) => {
                return (done, Some(misfit().message));
            }
            Err(failure) => return (done, Some(failure.message)),
        }
    }
    (done, None)
}

fn confirm(verb: Verb, plan: &Plan) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "nothing was changed: there is no terminal to ask on; add --yes to do it, or --dry-run to look",
        ));
    }
    let (word, count) = (verb.as_str(), plan.count());
    write!(io::stderr().lock(), "{word} {count} messages ({} recipients)? [y/N] ", plan.recipients)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::failed("nothing was changed"))
}

/// Who orders it, and why, for the audit.
pub(crate) fn by(context: &Context, reason: &str) -> String {
    format!("{}: {reason}", context.operator())
}

/// A reason from the command line.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > REASON_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("a reason is one line of 1 to {REASON_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}
