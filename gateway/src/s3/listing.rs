//! The requests of the three listings. Where a page ends and what common
//! prefixes there are is decided by whoever reads the table.

use super::conditions;
use super::error::{Result, S3Error};
use super::head::Head;
use super::limits;
use super::operation::bucket;
use super::token::Position;

/// ListBuckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only names that begin so.
    pub prefix: Option<String>,
    /// Most buckets to list; S3 pages only if asked to.
    pub max_buckets: Option<u32>,
    /// Where to go on.
    pub after: Option<Position>,
    /// Only buckets of this region.
    pub bucket_region: Option<String>,
}

/// What both listings of objects ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingScope {
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin so; "" for all.
    pub prefix: String,
    /// Keys are rolled up at the first of these after the prefix.
    pub delimiter: Option<String>,
    /// Most entries (keys and common prefixes) of the page: 0 to 1000.
    pub max_keys: u32,
    /// `encoding-type=url`: keys are percent-encoded in the answer.
    pub encode_urls: bool,
}

/// ListObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjects {
    /// What to list.
    pub scope: ListingScope,
    /// Only what comes after this key or common prefix; "" from the start.
    pub marker: String,
}

/// ListObjectsV2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjectsV2 {
    /// What to list.
    pub scope: ListingScope,
    /// The token as sent, to be echoed.
    pub continuation_token: Option<String>,
    /// What the token says; it wins over `start_after`.
    pub after: Option<Position>,
    /// Only what comes after this key.
    pub start_after: Option<String>,
    /// Whether the answer names owners.
    pub fetch_owner: bool,
}

impl ListBuckets {
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        conditions::refuse_all(head)?;
        let max_buckets = match head.parameter("max-buckets")? {
            None => None,
            Some(text) => {
                let number = digits(text).filter(|n| (1..=limits::LIST_BUCKETS_MAX).contains(n));
                Some(number.ok_or_else(|| {
                    S3Error::argument(
                        "max-buckets",
                        text,
                        "Argument max-buckets must be an integer between 1 and 10000",
                    )
                })?)
            }
        };
        Ok(Self {
            prefix: owned(head, "prefix")?,
            max_buckets,
            after: position(head)?,
            bucket_region: owned(head, "bucket-region")?,
        })
    }
}

impl ListObjects {
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        Ok(Self {
            scope: scope(head)?,
            marker: owned(head, "marker")?.unwrap_or_default(),
        })
    }
}

impl ListObjectsV2 {
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        Ok(Self {
            scope: scope(head)?,
            continuation_token: owned(head, "continuation-token")?,
            after: position(head)?,
            start_after: owned(head, "start-after")?,
            fetch_owner: match head.parameter("fetch-owner")? {
                None | Some("" | "false") => false,
                Some("true") => true,
                Some(other) => {
                    return Err(S3Error::argument(
                        "fetch-owner",
                        other,
                        "fetch-owner must be true or false",
                    ));
                }
            },
        })
    }
}

/// What every listing of keys asks for.
pub(super) fn scope(head: &Head<'_>) -> Result<ListingScope> {
    conditions::refuse_all(head)?;
    let max_keys = match head.parameter("max-keys")? {
        None | Some("") => limits::LIST_KEYS_MAX,
        // More than a page holds is cut to a page, as in S3.
        Some(text) => digits(text)
            .filter(|n| i32::try_from(*n).is_ok())
            .map(|n| n.min(limits::LIST_KEYS_MAX))
            .ok_or_else(|| {
                S3Error::argument(
                    "max-keys",
                    text,
                    "Provided max-keys not an integer or within integer range",
                )
            })?,
    };
    Ok(ListingScope {
        bucket: bucket(head)?,
        prefix: owned(head, "prefix")?.unwrap_or_default(),
        delimiter: owned(head, "delimiter")?.filter(|text| !text.is_empty()),
        max_keys,
        encode_urls: encode_urls(head)?,
    })
}

/// `encoding-type`
pub(super) fn encode_urls(head: &Head<'_>) -> Result<bool> {
    match head.parameter("encoding-type")? {
        None | Some("") => Ok(false),
        Some("url") => Ok(true),
        Some(other) => Err(S3Error::argument(
            "encoding-type",
            other,
            "Invalid Encoding Method specified in Request",
        )),
    }
}

/// The position a continuation token names. An empty token is refused, as S3 does.
fn position(head: &Head<'_>) -> Result<Option<Position>> {
    head.parameter("continuation-token")?
        .map(Position::decode)
        .transpose()
}

/// A parameter that names a key, or a part of one.
pub(super) fn owned(head: &Head<'_>, name: &'static str) -> Result<Option<String>> {
    let value = head.parameter(name)?;
    // Nothing in a bucket is longer than a key.
    if let Some(text) = value.filter(|text| text.len() > 4 * limits::KEY_BYTES_MAX) {
        return Err(S3Error::argument(
            name,
            &text[..text.floor_char_boundary(64)],
            "The parameter is too long",
        ));
    }
    Ok(value.map(str::to_owned))
}

/// A number without sign.
pub(super) fn digits(text: &str) -> Option<u32> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}
