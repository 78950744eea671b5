//! Values that conditions compare: numbers, times, addresses, truths, ARNs.

use crate::s3::UnixMs;
use std::net::IpAddr;

/// A decimal number.
pub(super) fn number(text: &str) -> Option<f64> {
    let valid = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    let number: f64 = text.trim().parse().ok()?;
    (text.trim().bytes().all(valid) && number.is_finite()).then_some(number)
}

/// `true` or `false`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A time in milliseconds since 1970: seconds, or one of the W3C's forms of ISO 8601 (`2013`, `2013-12`,
/// `2013-12-31`, `2013-12-31T23:59Z`, `2013-12-31T23:59:59Z`, with a fraction, with an offset).
pub(super) fn date(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.len() > 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1000);
    }
    let (day, time) = match text.split_once(['T', 't']) {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let mut fields = day.split('-');
    let year = digits(fields.next()?, 4)?;
    let month = fields.next().map_or(Some(1), |text| digits(text, 2))?;
    let day = fields.next().map_or(Some(1), |text| digits(text, 2))?;
    if fields.next().is_some() {
        return None;
    }
    let (clock, offset_minutes) = match time {
        None => ("00:00:00", 0),
        Some(time) => zone(time)?,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut fields = clock.split(':');
    let hour = digits(fields.next()?, 2)?;
    let minute = if time.is_some() {
        digits(fields.next()?, 2)?
    } else {
        0
    };
    let second = fields.next().map_or(Some(0), |text| digits(text, 2))?;
    let stamp = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
    let whole = UnixMs::parse_amz_date(&stamp)?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = i64::try_from(whole.seconds()).ok()?;
    seconds
        .checked_sub(offset_minutes.checked_mul(60)?)?
        .checked_mul(1000)?
        .checked_add(ms)
}

/// The clock of `23:59:59+01:00` and its offset in minutes. A time without a zone is none.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, offset) = time.split_at(at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let minutes = digits(hours, 2)? * 60 + digits(minutes, 2)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    Some((clock, sign * i64::from(minutes)))
}

fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Addresses that begin alike: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let bits = match bits {
            None => most,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most)?
            }
            Some(_) => return None,
        };
        Some(Self { address, bits })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(network) ^ u32::from(address);
                differ.checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = u128::from(network) ^ u128::from(address);
                differ.checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// True for so many addresses that naming them restricts nothing (Amazon, "The meaning of public": broader than
    /// /8, for IPv6 than /32).
    pub(super) fn is_broad(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.bits < 8,
            IpAddr::V6(_) => self.bits < 32,
        }
    }
}

/// The address of a fact.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// The six parts of an ARN.
pub(super) fn arn_parts(text: &str) -> Option<[&str; 6]> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next();
    let parts = [next()?, next()?, next()?, next()?, next()?, next()?];
    (parts[0] == "arn").then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_in_all_forms() {
        let day = 1_388_448_000_000;
        for (text, expected) in [
            ("2013-12-31", Some(day)),
            ("2013-12", Some(day - 30 * 86_400_000)),
            ("2014", Some(day + 86_400_000)),
            ("2013-12-31T00:00Z", Some(day)),
            ("2013-12-31T01:02:03Z", Some(day + 3_723_000)),
            ("2013-12-31T01:02:03.5Z", Some(day + 3_723_500)),
            ("2013-12-31T01:00:00+01:00", Some(day)),
            ("2013-12-30T23:00:00-01:00", Some(day)),
            ("1388448000", Some(day)),
            ("2013-12-31T01:02:03", None),
            ("2013-13-31", None),
            ("2013-02-30", None),
            ("2013-12-31-01", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        let check = |network: &str, address: &str, expected: bool| {
            let network = Network::parse(network).unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                expected,
                "{network:?} {address}"
            );
        };
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "192.0.3.0", false);
        check("192.0.2.9", "192.0.2.9", true);
        check("192.0.2.9", "192.0.2.8", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("::/0", "2001:db8:1::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        for bad in [
            "192.0.2.0/33",
            "192.0.2/24",
            "x",
            "",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "::/129",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[-0-9TZ:.+/a-f]{0,40}|.{0,40}") {
            let _ = (number(&text), truth(&text), date(&text), Network::parse(&text), arn_parts(&text));
        }
    }
}
