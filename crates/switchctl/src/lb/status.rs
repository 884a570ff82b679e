//! What a balancer would see of every node now, looked at from here.

use std::net::SocketAddr;

use control::heartbeatd::{Answer, HeartbeatdStatus, Request};
use serde_json::json;

use super::probe;
use super::site::{Place, Service, Site};
use crate::command::{Context, Outcome};
use crate::output::Listing;

/// What this node's heartbeatd sees, if it answers.
pub(super) fn view(context: &Context) -> Option<HeartbeatdStatus> {
    match context.ask_heartbeatd(Request::Status) {
        Ok(Answer::Status(view)) => Some(*view),
        Ok(Answer::Done { .. } | Answer::Records(_)) | Err(_) => None,
    }
}

/// A row for each port of each node.
pub(crate) fn status(context: &Context) -> Outcome {
    let site = Site::of(&context.settings, view(context).as_ref());
    let columns = ["node", "address", "greeting", "health", "agent", "takes_mail"];
    let mut listing = Listing::new("mailswitch.lb.status/1", &columns);
    for place in &site.places {
        if context.only.as_ref().is_some_and(|only| *only != place.node) {
            continue;
        }
        let health = site.health.map(|port| health(SocketAddr::new(place.address, port)));
        let agent = site.agent.map(|port| probe::ask(SocketAddr::new(place.address, port), b""));
        let mut reached = false;
        for service in &site.services {
            let greeting = greeting(place, service);
            reached |= greeting.is_ok();
            let greets = greeting.as_ref().is_ok_and(|line| service.implicit_tls || line.starts_with("220"));
            let healthy =
                health.as_ref().is_none_or(|health| health.as_ref().is_ok_and(|line| line == "200"));
            listing.row(vec![
                json!(place.node),
                json!(SocketAddr::new(place.address, service.port).to_string()),
                json!(said(greeting)),
                json!(health.clone().map(said)),
                json!(agent.clone().map(said)),
                json!(greets && healthy),
            ]);
        }
        if !reached {
            listing.lacks(format!("node {}", place.node), &"no port of it takes connections");
        }
    }
    context.show(&listing)
}

fn greeting(place: &Place, service: &Service) -> Result<String, String> {
    let address = SocketAddr::new(place.address, service.port);
    if service.implicit_tls { probe::connects(address) } else { probe::greeting(address, service.proxy) }
}

/// `200`, or the status with the reasons of the body.
fn health(address: SocketAddr) -> Result<String, String> {
    let answer = probe::ask(address, b"GET /health/ready HTTP/1.0\r\n\r\n")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or("no HTTP");
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let reasons: Vec<&str> = body
        .pointer("/reasons")
        .and_then(|r| r.as_array())
        .into_iter()
        .flatten()
        .filter_map(|r| r.as_str())
        .collect();
    if status == "200" || reasons.is_empty() {
        return Ok(status.to_owned());
    }
    Ok(format!("{status} {}", reasons.join("; ")))
}

fn said(answer: Result<String, String>) -> String {
    answer.map_or_else(|why| format!("none: {why}"), |line| line.trim().to_owned())
}
