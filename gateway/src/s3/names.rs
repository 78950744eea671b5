//! S3's rules for the names of general purpose buckets.

use super::error::{ErrorCode, Result, S3Error};

const PREFIXES_TAKEN: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const SUFFIXES_TAKEN: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Checks a bucket's name.
///
/// # Errors
/// InvalidBucketName, naming the bucket.
pub fn check_bucket_name(name: &str) -> Result<()> {
    if is_bucket_name(name) {
        Ok(())
    } else {
        Err(S3Error::from(ErrorCode::InvalidBucketName).with("BucketName", name))
    }
}

fn is_bucket_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'-'))
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !looks_like_ipv4(name)
        && !PREFIXES_TAKEN.iter().any(|prefix| name.starts_with(prefix))
        && !SUFFIXES_TAKEN.iter().any(|suffix| name.ends_with(suffix))
}

/// Four groups of digits, also those no address has (`999.1.1.1`).
fn looks_like_ipv4(name: &str) -> bool {
    name.split('.').count() == 4
        && name
            .split('.')
            .all(|group| group.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for name in [
            "abc",
            "my.bucket-1",
            "1a2",
            "a--b",
            "a.b.c.d",
            &"a".repeat(63),
            "1.2.3",
        ] {
            assert!(is_bucket_name(name), "{name}");
        }
    }

    #[test]
    fn bad_names() {
        for name in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-abc",
            "abc-",
            ".abc",
            "abc.",
            "a..b",
            "192.168.5.4",
            "999.1.1.1",
            "xn--abc",
            "sthree-abc",
            "amzn-s3-demo-x",
            "abc-s3alias",
            "abc--ol-s3",
            "abc.mrap",
            "abc--x-s3",
            "abc--table-s3",
            "bücket",
            "a b",
            "a/b",
            &"a".repeat(64),
        ] {
            assert!(!is_bucket_name(name), "{name}");
        }
    }
}
