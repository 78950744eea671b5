//! Bounds of the values that a command brings along. A gateway checks them first and answers in S3's words;
//! here they keep rows and log entries small whatever a gateway does.

use crate::limits::{
    KEY_BYTES_MAX, NAME_BYTES_MAX, SYSTEM_HEADERS_BYTES_MAX, TAG_KEY_CHARACTERS_MAX,
    TAG_VALUE_CHARACTERS_MAX, TAGS_PER_OBJECT, USER_METADATA_BYTES_MAX, WRAPPED_KEY_BYTES_MAX,
};
use crate::namespace::rows::{Checksum, ChecksumAlgorithm, Metadata, WrappedKey};
use crate::rejection::Rejection;

fn invalid(what: impl Into<String>) -> Rejection {
    Rejection::Invalid(what.into())
}

/// An object key: 1 to `limits::KEY_BYTES_MAX` bytes, any of them.
///
/// # Errors
/// `Invalid`.
pub fn check_key(key: &str) -> Result<(), Rejection> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        Ok(())
    } else {
        Err(invalid(format!("a key of {} bytes", key.len())))
    }
}

/// A name of `what` (user, access key): 1 to `limits::NAME_BYTES_MAX` bytes.
///
/// # Errors
/// `Invalid`.
pub fn check_name(what: &str, name: &str) -> Result<(), Rejection> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) {
        Ok(())
    } else {
        Err(invalid(format!("a {what} of {} bytes", name.len())))
    }
}

/// Headers, user metadata and tags: names are not empty, and each kind is bounded: headers and metadata in bytes
/// of names and values, tags as [`check_tags`] says.
///
/// # Errors
/// `Invalid`, or `Size` for user metadata that is too long.
pub fn check_metadata(metadata: &Metadata) -> Result<(), Rejection> {
    let bytes = |pairs: &[(String, String)]| -> usize {
        pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    };
    if metadata
        .headers
        .iter()
        .chain(&metadata.user)
        .any(|(name, _)| name.is_empty())
    {
        return Err(invalid("metadata without a name"));
    }
    if bytes(&metadata.headers) > SYSTEM_HEADERS_BYTES_MAX {
        return Err(Rejection::Size(format!(
            "{} bytes of headers, more than {SYSTEM_HEADERS_BYTES_MAX}",
            bytes(&metadata.headers)
        )));
    }
    if bytes(&metadata.user) > USER_METADATA_BYTES_MAX {
        return Err(Rejection::Size(format!(
            "{} bytes of user metadata, more than {USER_METADATA_BYTES_MAX}",
            bytes(&metadata.user)
        )));
    }
    check_tags(&metadata.tags)
}

/// Tags: bounded in number and in characters, each key once.
///
/// # Errors
/// `Invalid`.
pub fn check_tags(tags: &[(String, String)]) -> Result<(), Rejection> {
    if tags.len() > TAGS_PER_OBJECT {
        return Err(invalid(format!(
            "{} tags, more than {TAGS_PER_OBJECT}",
            tags.len()
        )));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if !(1..=TAG_KEY_CHARACTERS_MAX).contains(&key.chars().count()) {
            return Err(invalid(format!(
                "a tag's key of {} characters",
                key.chars().count()
            )));
        }
        if value.chars().count() > TAG_VALUE_CHARACTERS_MAX {
            return Err(invalid(format!(
                "a tag's value of {} characters, more than {TAG_VALUE_CHARACTERS_MAX}",
                value.chars().count()
            )));
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(invalid("a tag's key is there twice"));
        }
    }
    Ok(())
}

/// A checksum is as long as its algorithm says.
///
/// # Errors
/// `Invalid`.
pub fn check_checksum(checksum: Option<&Checksum>) -> Result<(), Rejection> {
    let Some(checksum) = checksum else { return Ok(()) };
    let bytes = match checksum.algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    };
    if checksum.value.len() == bytes {
        Ok(())
    } else {
        Err(invalid(format!("a checksum of {} bytes", checksum.value.len())))
    }
}

/// A wrapped key or sealed secret is bounded.
///
/// # Errors
/// `Invalid`.
pub fn check_wrapped_key(key: &WrappedKey) -> Result<(), Rejection> {
    if key.bytes.len() <= WRAPPED_KEY_BYTES_MAX {
        Ok(())
    } else {
        Err(invalid(format!("a wrapped key of {} bytes", key.bytes.len())))
    }
}
