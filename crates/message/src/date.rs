//! Dates as mail writes them. RFC 5322 3.3.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mail_model::WallTime;

/// `Tue, 24 Nov 2026 17:02:01 +0000`. A time that no calendar has becomes the first of 1970.
pub(crate) fn date(at: WallTime) -> String {
    let time =
        i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    time.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_in_utc_and_says_so() {
        assert_eq!(date(WallTime(1_700_000_000_000)), "Tue, 14 Nov 2023 22:13:20 +0000");
        assert_eq!(date(WallTime(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(date(WallTime(u64::MAX)), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
