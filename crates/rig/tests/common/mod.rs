//! A clock for tests of the rig: milliseconds since the first time it was asked.

use std::sync::{Arc, OnceLock};

use mail_model::{Clock, Moment, WallTime};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct Stopwatch(OnceLock<Instant>);

impl Clock for Stopwatch {
    fn now(&self) -> Moment {
        let began = self.0.get_or_init(Instant::now);
        Moment(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        WallTime(self.now().0)
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(Stopwatch::default())
}
