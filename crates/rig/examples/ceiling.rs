//! How fast the rig itself is, client to sink with nothing between: no measurement through it can show more.
//!
//! `cargo run --release -p rig --example ceiling -- [messages] [bytes] [sessions]`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;
use std::time::Duration;

use mail_model::{Clock, Moment, WallTime};
use rig::{Balance, Load, Rate, Sink, SinkOptions};
use tokio::time::Instant;

#[derive(Debug)]
struct Stopwatch(Instant);

impl Clock for Stopwatch {
    fn now(&self) -> Moment {
        Moment(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        WallTime(self.now().0)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let (total, bytes, sessions) = (number(100_000)?, number(4096)?, number(50)?);
    let clock: Arc<dyn Clock> = Arc::new(Stopwatch(Instant::now()));
    let sink = Sink::start(SinkOptions::new(Arc::clone(&clock)))?;
    let mut load = Load::new(sink.address(), "ceiling");
    load.rate = Rate::Unlimited;
    load.sessions = usize::try_from(sessions)?;
    load.message_size_bytes = usize::try_from(bytes)?;
    load.messages_per_connection = 1000;
    load.total = Some(total);

    let began = clock.now();
    let probes = load.start(Arc::clone(&clock)).finish(Duration::from_mins(10)).await;
    let took = clock.now().since(began);
    let balance = sink.inspect(|deliveries| Balance::close("ceiling", &probes, deliveries));
    let per_second = u128::from(balance.accepted) * 1000 / took.as_millis().max(1);
    println!("{} messages of {bytes} bytes, {sessions} sessions: {per_second} messages/s", balance.accepted);
    println!("whole: {}, violations: {}", balance.is_whole(), sink.violations().len());
    Ok(())
}
