//! Points in time as S3 writes them: HTTP dates, ISO 8601, and the basic form
//! of signatures. No clock lives here: "now" is always handed in.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

/// The last moment that has a four-digit year: 9999-12-31T23:59:59.999Z.
const LAST_MS: u64 = 253_402_300_799_999;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const DAYS_LONG: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
    weekday: usize,
}

impl UnixMs {
    /// From whole seconds since the epoch.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The same moment as the standard library knows it.
    pub fn to_system_time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_MS))
    }

    fn civil(self) -> Civil {
        let ms = self.0.min(LAST_MS);
        let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
        // Days to civil date, after Howard Hinnant's chrono algorithms.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            hour: rest / 3_600_000,
            minute: rest / 60_000 % 60,
            second: rest / 1000 % 60,
            millisecond: rest % 1000,
            weekday: usize::try_from(days % 7).unwrap_or(0),
        }
    }

    /// `Wed, 21 Oct 2015 07:28:00 GMT`, as in Last-Modified.
    pub fn http_date(self) -> String {
        let c = self.civil();
        let month = MONTHS[usize::try_from(c.month - 1).unwrap_or(0) % 12];
        let mut out = String::with_capacity(29);
        let _ = write!(
            out,
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
            DAYS[c.weekday], c.day, month, c.year, c.hour, c.minute, c.second
        );
        out
    }

    /// `2015-10-21T07:28:00.000Z`, as in listings.
    pub fn iso8601(self) -> String {
        let c = self.civil();
        let mut out = String::with_capacity(24);
        let _ = write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second, c.millisecond
        );
        out
    }

    /// `20151021T072800Z`, as in signatures.
    pub fn amz_date(self) -> String {
        let c = self.civil();
        let mut out = String::with_capacity(16);
        let _ = write!(
            out,
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second
        );
        out
    }

    /// Reads `20151021T072800Z`.
    pub fn parse_amz_date(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() != 16 || b[8] != b'T' || b[15] != b'Z' {
            return None;
        }
        from_civil(
            digits(&b[0..4])?,
            digits(&b[4..6])?,
            digits(&b[6..8])?,
            digits(&b[9..11])?,
            digits(&b[11..13])?,
            digits(&b[13..15])?,
        )
    }

    /// Reads an HTTP date in any of the three forms of RFC 9110, section
    /// 5.6.7. Two-digit years below 70 are of the 21st century.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some((weekday, rest)) = text.split_once(", ") {
            let rest = rest.strip_suffix(" GMT").or_else(|| rest.strip_suffix(" UTC"))?;
            if DAYS.contains(&weekday) {
                let mut words = rest.split(' ');
                let day = digits(words.next()?.as_bytes())?;
                let month = month(words.next()?)?;
                let year = words.next()?;
                let time = words.next()?;
                if words.next().is_some() || year.len() != 4 {
                    return None;
                }
                return with_time(digits(year.as_bytes())?, month, day, time);
            }
            if DAYS_LONG.contains(&weekday) {
                let (date, time) = rest.split_once(' ')?;
                let mut words = date.split('-');
                let day = digits(words.next()?.as_bytes())?;
                let month = month(words.next()?)?;
                let year = digits(words.next()?.as_bytes())?;
                let year = if year < 70 { year + 2000 } else { year + 1900 };
                return with_time(year, month, day, time);
            }
            return None;
        }
        let mut words = text.split_ascii_whitespace();
        if !DAYS.contains(&words.next()?) {
            return None;
        }
        let month = month(words.next()?)?;
        let day = digits(words.next()?.as_bytes())?;
        let time = words.next()?;
        let year = words.next()?;
        if words.next().is_some() || year.len() != 4 {
            return None;
        }
        with_time(digits(year.as_bytes())?, month, day, time)
    }
}

fn month(name: &str) -> Option<u64> {
    (1..)
        .zip(MONTHS)
        .find(|(_, known)| *known == name)
        .map(|(number, _)| number)
}

fn with_time(year: u64, month: u64, day: u64, time: &str) -> Option<UnixMs> {
    let b = time.as_bytes();
    if b.len() != 8 || b[2] != b':' || b[5] != b':' {
        return None;
    }
    from_civil(
        year,
        month,
        day,
        digits(&b[0..2])?,
        digits(&b[3..5])?,
        digits(&b[6..8])?,
    )
}

fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    bytes.iter().try_fold(0, |value, b| {
        b.is_ascii_digit().then(|| value * 10 + u64::from(b - b'0'))
    })
}

/// `None` for dates that do not exist or lie before 1970. A leap second
/// counts as the second before it.
fn from_civil(year: u64, month: u64, day: u64, hour: u64, minute: u64, second: u64) -> Option<UnixMs> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || day == 0 || day > month_days {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59);
    Some(UnixMs::from_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_in_every_form() {
        let t = UnixMs(1_445_412_480_123);
        assert_eq!(t.http_date(), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(t.iso8601(), "2015-10-21T07:28:00.123Z");
        assert_eq!(t.amz_date(), "20151021T072800Z");
        assert_eq!(UnixMs(0).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(UnixMs(u64::MAX).iso8601(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn the_three_http_forms_are_read() {
        let expected = Some(UnixMs::from_seconds(784_111_777));
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(UnixMs::parse_http_date(text), expected, "{text}");
        }
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in [
            "",
            "yesterday",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
        ] {
            assert_eq!(UnixMs::parse_http_date(text), None, "{text}");
        }
        for text in [
            "20130230T000000Z",
            "20131301T000000Z",
            "2013-05-24T000000",
            "20130524T00000+Z",
        ] {
            assert_eq!(UnixMs::parse_amz_date(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_second_survives_writing_and_reading(seconds in 0..=LAST_MS / 1000) {
            let t = UnixMs::from_seconds(seconds);
            proptest::prop_assert_eq!(UnixMs::parse_http_date(&t.http_date()), Some(t));
            proptest::prop_assert_eq!(UnixMs::parse_amz_date(&t.amz_date()), Some(t));
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = UnixMs::parse_http_date(&text);
            let _ = UnixMs::parse_amz_date(&text);
        }
    }
}
