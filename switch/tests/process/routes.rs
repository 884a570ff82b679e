//! What becomes of mail whose route leads nowhere.

use control::switch::{Request, Verb};
use queue_format::books::Balance;
use queue_format::record::RecipientState;
use rig::{Sink, SinkOptions};
use rustix::process::Signal;

use crate::site::{Config, PATIENCE, Site, clock, send_to, until};

fn balance(site: &Site) -> Balance {
    let balance = site.inspect().replay.books.balance();
    assert!(balance.holds, "{balance:?}");
    balance
}

fn held(site: &Site) -> usize {
    let found = site.inspect();
    let standings = found.replay.books.messages().flat_map(|(_, message)| message.standings.into_vec());
    standings.filter(|standing| standing.state == RecipientState::Held).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn discard_deletes_hold_keeps_and_error_refuses_at_rcpt() {
    let site = Site::new(&Config::default());
    let routes = |hold: &str| {
        format!(
            "routes:\n  - {{ match: gone.test, next_hop: discard }}\n  - {{ match: kept.test, next_hop: \"{hold}\" }}\n  \
             - {{ match: no@example.test, next_hop: \"error: 5.1.1 no such user\" }}\n  \
             - {{ match: later@example.test, next_hop: \"error: 4.2.1 moving\" }}\n"
        )
    };
    site.configure_more(&routes("hold"));
    let mut switch = site.start_ready().await;
    let to = ["a@gone.test", "no@example.test", "later@example.test", "b@kept.test"];
    let (replies, last) = send_to(&site, &to).await;
    let said: Vec<String> = replies.iter().map(|reply| format!("{} {}", reply.code, reply.text())).collect();
    assert_eq!(said[1..3], ["550 5.1.1 no such user", "450 4.2.1 moving"], "{said:?}");
    assert_eq!(last.code, 250);
    until("one is deleted and one held", || balance(&site).totals.deleted == 1 && held(&site) == 1).await;
    until("it is in the log", || switch.log().contains("recipient.refused")).await;

    // A release looks the route up again: as long as it says hold, it is held.
    let id: mail_model::MessageId = last.text().rsplit(' ').next().unwrap().parse().unwrap();
    let release = || Request::Operate {
        verb: Verb::Release,
        messages: vec![id.clone()],
        reason: "ann@host.test: a test".to_owned(),
        to: None,
    };
    let times = switch.log().matches("delivery.put_aside").count();
    site.ask(release()).await.unwrap();
    until("it is held again", || switch.log().matches("delivery.put_aside").count() > times).await;
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    site.configure_more(&routes(&sink.address().to_string()));
    switch.signal(Signal::HUP);
    until("the routes are in use", || switch.log().contains("config.reloaded")).await;
    site.ask(release()).await.unwrap();
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let totals = balance(&site).totals;
    assert_eq!((totals.accepted, totals.delivered, totals.deleted, totals.queued()), (2, 1, 1, Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_in_the_queue_whose_route_becomes_an_error_bounces() {
    let returned = Sink::start(SinkOptions { keep_bytes_max: 1 << 20, ..SinkOptions::new(clock()) }).unwrap();
    let site = Site::new(&Config::default());
    site.configure_more("retry: { first: 200ms, max: 200ms }\n");
    let switch = site.start_ready().await;
    assert_eq!(send_to(&site, &["b@example.test"]).await.1.code, 250);
    until("it was tried", || switch.log().contains("delivery.attempt")).await;
    site.configure_more(&format!(
        "retry: {{ first: 200ms, max: 200ms }}\nroutes:\n  - {{ match: client.test, next_hop: \"{}\" }}\n  \
         - {{ match: \"*\", next_hop: \"error: 5.1.2 the domain has moved\" }}\n",
        returned.address()
    ));
    switch.signal(Signal::HUP);
    assert!(returned.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", returned.tally());
    let report = returned.deliveries().remove(0).content.unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("Status: 5.1.2"), "{report}");
    until("the books know", || balance(&site).queued == 0).await;
    assert_eq!(balance(&site).totals.bounced, 1);
}
