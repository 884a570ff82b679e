//! Durations and sizes with their units. A bare number is refused: it says too little.

use std::time::Duration;

/// `300ms`, `2s`, `5m`, `1h`, `5d`. The error says what to write.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let remedy =
        || format!("'{text}' is not a duration; write a whole number and its unit: 300ms, 2s, 5m, 1h, 5d");
    let (number, unit) = split(text).ok_or_else(remedy)?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("'{text}' has no unit; write {text}s for seconds, or use ms, m, h, d")),
        _ => return Err(remedy()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is too long; write less"))
}

/// `10MiB`, `64KiB`, `1GB`. The error says what to write.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let remedy = || {
        format!(
            "'{text}' is not a size; write a whole number and its unit: 64KiB, 10MiB, 1GiB, or kB, MB, GB"
        )
    };
    let (number, unit) = split(text).ok_or_else(remedy)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "" => return Err(format!("'{text}' has no unit; write {text}B for bytes, or use KiB, MiB, GiB")),
        _ => return Err(remedy()),
    };
    number.checked_mul(bytes).ok_or_else(|| format!("'{text}' is too large; write less"))
}

/// The shortest way to write a duration.
pub(crate) fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (span, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if milliseconds > 0 && milliseconds.is_multiple_of(span) {
            return format!("{}{unit}", milliseconds / span);
        }
    }
    format!("{milliseconds}ms")
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_mean_what_they_say() {
        let durations = [
            ("300ms", 300),
            ("2s", 2_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("5d", 432_000_000),
            ("0s", 0),
        ];
        for (text, wanted) in durations {
            assert_eq!(duration(text), Ok(Duration::from_millis(wanted)));
        }
        let sizes = [("10MiB", 10 << 20), ("64KiB", 64 << 10), ("1GB", 1_000_000_000), ("7 B", 7)];
        for (text, wanted) in sizes {
            assert_eq!(size(text), Ok(wanted));
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_the_unit_to_add() {
        assert!(duration("60").unwrap_err().contains("write 60s"));
        assert!(size("1024").unwrap_err().contains("write 1024B"));
        for bad in ["", "s", "1.5s", "-1s", "1 week", "1S", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(bad).is_err(), "{bad:?}");
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(milliseconds in 0u64..10_000_000_000) {
            let span = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&shown(span)), Ok(span));
        }
    }
}
