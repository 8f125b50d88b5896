//! Formats numbers, times and durations for sentences.

use std::time::{Duration, UNIX_EPOCH};

use std::fmt::Display;

/// `1 session`, `2 sessions`: a count with a noun whose plural ends in s.
#[must_use]
pub fn counted(count: impl Display, what: &str) -> String {
    let number = count.to_string();
    let s = if number == "1" { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// An epoch second as text, relative to `now`: `16:02:24Z (51 s ago)`, with the date if that is another day.
pub(crate) fn when(second: u64, now: u64) -> String {
    // The last second with a four-digit year: another replica may send any number.
    const LAST_SECOND: u64 = 253_402_300_799;
    const DAY: u64 = 24 * 3600;
    let since = Duration::from_secs(second.min(LAST_SECOND));
    let written = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    let time = if second / DAY == now / DAY { written.get(11..).unwrap_or(&written) } else { &written };
    match now.checked_sub(second) {
        Some(ago) => format!("{time} ({} ago)", span(ago)),
        None => format!("{time} (in {})", span(second - now)),
    }
}

/// A duration as text: in seconds below two minutes.
pub(crate) fn span(seconds: u64) -> String {
    if seconds < 120 {
        return format!("{seconds} s");
    }
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_date_only_on_another_day() {
        assert_eq!(when(1_795_481_235, 1_795_481_286), "00:47:15Z (51 s ago)");
        assert_eq!(when(1_795_481_235, 1_795_481_234 + 86_401), "2026-11-24T00:47:15Z (1day ago)");
        assert_eq!(when(1_795_481_235, 1_795_481_230), "00:47:15Z (in 5 s)");
        assert!(when(u64::MAX, 0).starts_with("9999-12-31T23:59:59Z (in "), "{}", when(u64::MAX, 0));
    }
}
