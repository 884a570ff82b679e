//! `switchctl doctor`: everything that commonly goes wrong with a node, looked at, each with what to do about it.
//!
//! | module | looks at |
//! |---|---|
//! | `files` | key, folders, disk, how fast it is durable, fencing |
//! | `machine` | ports, open files, names |
//! | `certificates` | how long they hold |
//! | `peers` | the programs, the other nodes, versions, clocks |
//!
//! Looks only. The one thing it writes is a file of its own beside the queues, which it removes.

mod certificates;
mod files;
mod finding;
mod machine;
mod peers;

use serde_json::json;

use self::finding::Findings;
use crate::command::{Context, Outcome};
use crate::exit::Exit;
use crate::fscheck;
use crate::lights::Light;
use crate::output::Listing;

/// Looks at everything. Ends with 1 if something is bad; a warning ends with 0.
pub(crate) fn run(context: &Context) -> Outcome {
    let mut findings = Findings::default();
    findings.ok(
        "configuration",
        format_args!("node {} of cluster {}", context.settings.node.id, context.settings.cluster.id),
    );
    for fault in &context.table_faults {
        findings.bad("configuration", fault, "mend the table; until then what needs it is put off with 451");
    }
    files::look(&context.settings, &mut findings);
    fitness(context, &mut findings);
    machine::look(context, &mut findings);
    certificates::look(&context.settings, &mut findings);
    peers::look(context, &mut findings);
    let mut listing = Listing::new("mailswitch.doctor/1", &["check", "state", "found", "remedy"]);
    for finding in findings.all() {
        listing.row(vec![
            json!(finding.check),
            json!(finding::word(finding.light)),
            json!(finding.found),
            json!(finding.remedy),
        ]);
    }
    context.show(&listing)?;
    let bad = findings.all().iter().any(|finding| finding.light == Light::Red);
    Ok(if bad { Exit::Failed } else { Exit::Ok })
}

/// What the last fscheck of this node found.
fn fitness(context: &Context, findings: &mut Findings) {
    if context.settings.cluster.nodes.len() == 1 {
        return findings.ok("fscheck", "not needed: this node stands alone");
    }
    let (light, found) = fscheck::last(context);
    let remedy = format!("switchctl fscheck {} --peer NODE", context.settings.queue.dir.display());
    findings.add("fscheck", light, &found, &remedy);
}
