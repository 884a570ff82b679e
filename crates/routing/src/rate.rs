//! How many messages in what time: `100/min`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no rate; write a number and a unit of time: 10/s, 100/min, 1000/h or 5000/d")]
pub struct RateError(String);

/// A number of messages in a second, a minute, an hour or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

impl Unit {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Day => "d",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

impl Rate {
    /// The time from one message to the next; at least 1 ms.
    #[must_use]
    pub fn interval(self) -> Duration {
        (Duration::from_secs(self.unit.seconds()) / self.count.max(1)).max(Duration::from_millis(1))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.as_str())
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let fault = || RateError(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(fault)?;
        let unit = Unit::ALL.into_iter().find(|known| known.as_str() == unit.trim()).ok_or_else(fault)?;
        let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count));
        Ok(Self { count: count.ok_or_else(fault)?, unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_time_from_one_message_to_the_next() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("100/min").unwrap().interval(), Duration::from_millis(600));
        assert_eq!(rate("5000/s").unwrap().interval(), Duration::from_millis(1));
        assert_eq!(rate(" 1 / d").unwrap().to_string(), "1/d");
        for wrong in ["", "100", "0/s", "-1/s", "1/year", "1/", "/s"] {
            assert_eq!(rate(wrong), Err(RateError(wrong.to_owned())));
        }
    }
}
