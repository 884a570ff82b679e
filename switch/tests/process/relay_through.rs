//! From a client through the switch to a next hop, with the books of both ends.

use std::time::Duration;

use rig::{Balance, Load, Rate, Sink, SinkOptions};
use rustix::process::Signal;

use crate::site::{Config, PATIENCE, Site, clock};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_delivered_once_over_an_orderly_restart() {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let mut switch = site.start_ready().await;
    let load = Load { rate: Rate::PerSecond(200), ..Load::new(site.smtp, "through") };
    let run = load.start(clock());
    let mut tally = run.watch();
    for accepted in [100, 200] {
        tokio::time::timeout(PATIENCE, tally.wait_for(|tally| tally.accepted >= accepted))
            .await
            .unwrap()
            .unwrap();
        switch.signal(Signal::TERM);
        assert_eq!(switch.ended().await, 0);
        switch = site.start_ready().await;
    }
    tokio::time::timeout(PATIENCE, tally.wait_for(|tally| tally.accepted >= 300)).await.unwrap().unwrap();
    run.stop();
    let probes = run.finish(Duration::from_secs(10)).await;
    let accepted = probes.iter().filter(|probe| probe.accepted.is_some()).count() as u64;
    assert!(
        sink.wait_for(|tally| tally.probes >= accepted, PATIENCE).await,
        "{:?} of {accepted}",
        sink.tally()
    );

    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let balance = Balance::close("through", &probes, &sink.deliveries());
    assert!(balance.is_whole(), "{balance:?}");
    let totals = site.inspect().replay.books.totals();
    assert_eq!((totals.queued(), totals.in_doubt, balance.duplicates), (Some(0), 0, 0), "{balance:?}");
    assert_eq!(sink.violations(), []);
}
