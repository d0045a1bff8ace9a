//! The day that an input gives for itself, in the forms in which inputs write it.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt};
use serde_json::Value;

/// No date is longer.
const MAX_CHARS: usize = 64;
/// Numbers from here on are milliseconds since 1970, smaller ones seconds: both are in this century.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// The day of a date or time, `YYYY-MM-DD`: of ISO 8601 (with a time or without, with an offset or without), or of
/// RFC 2822 as in mails. Where there is an offset the day is that of UTC. None for anything else, and outside of the years
/// 1970 to 9998.
pub fn day(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() > MAX_CHARS {
        return None;
    }
    let time = text.parse::<Timestamp>().or_else(|_| fmt::rfc2822::parse(text).map(|zoned| zoned.timestamp()));
    let date = match time {
        Ok(time) => date_of(time),
        Err(_) => text.parse::<DateTime>().ok()?.date(),
    };
    written(date)
}

/// The day of a JSON value: a string as [`day`] reads it, or a number of seconds or milliseconds since 1970.
pub(super) fn day_of_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => day(text),
        Value::Number(number) => {
            let number = number.as_i64().or_else(|| number.as_f64().map(|n| n as i64))?;
            day_of_seconds(if number >= MILLISECONDS_FROM { number / 1000 } else { number })
        }
        _ => None,
    }
}

/// The day of a time in seconds since 1970, in UTC.
pub(super) fn day_of_seconds(seconds: i64) -> Option<String> {
    written(date_of(Timestamp::from_second(seconds).ok()?))
}

fn date_of(time: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(time).date()
}

fn written(date: Date) -> Option<String> {
    (1970..=9998).contains(&date.year()).then(|| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_the_forms_that_inputs_have() {
        for (text, expected) in [
            ("2026-01-31", Some("2026-01-31")),
            (" 2026-01-31T12:30:00 ", Some("2026-01-31")),
            ("2026-01-31 12:30", Some("2026-01-31")),
            ("2026-01-31T23:30:00-05:00", Some("2026-02-01")),
            ("2026-01-31t00:30:00.250z", Some("2026-01-31")),
            ("Sat, 31 Jan 2026 00:30:00 +0200", Some("2026-01-30")),
            ("31 Jan 2026 12:00 GMT", Some("2026-01-31")),
            ("20260131", Some("2026-01-31")),
            ("31/01/2026", None),
            ("January 2026", None),
            ("2026-02-30", None),
            ("1601-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(day(text).as_deref(), expected, "{text}");
        }
        assert_eq!(day(&"2".repeat(1000)), None);
        for (value, expected) in [
            (serde_json::json!(1_769_862_600), Some("2026-01-31")),
            (serde_json::json!(1_769_862_600_000_i64), Some("2026-01-31")),
            (serde_json::json!(1_769_862_600.5), Some("2026-01-31")),
            (serde_json::json!(1e300), None),
            (serde_json::json!("2026-01-31"), Some("2026-01-31")),
            (serde_json::json!(["2026-01-31"]), None),
        ] {
            assert_eq!(day_of_value(&value).as_deref(), expected, "{value}");
        }
    }
}
