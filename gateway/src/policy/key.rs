//! Condition keys: what a policy may ask of a request, and who answers.

use super::{PolicyError, Result};
use std::borrow::Cow;
use std::fmt;

/// What a request says of a condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// Nothing.
    Absent,
    /// It is not known yet: the object that the request is about has not been looked up.
    Unknown,
    /// This.
    One(Cow<'a, str>),
    /// A set, which may be empty; only of keys that are sets.
    Many(Vec<Cow<'a, str>>),
}

impl<'a> Fact<'a> {
    /// A fact of what may be there.
    pub fn of(value: Option<impl Into<Cow<'a, str>>>) -> Self {
        value.map_or(Self::Absent, |value| Self::One(value.into()))
    }
}

/// Who knows a request. Numbers are decimal, times ISO 8601 or seconds, truths `true` or `false`.
pub trait Facts: fmt::Debug {
    /// What the request says of `key`.
    fn fact(&self, key: &ConditionKey) -> Fact<'_>;
}

/// What kind of value a key has, which says by which operators it may be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    /// A time.
    Date,
    /// A time as seconds, which is a number too.
    Epoch,
    Truth,
    Address,
    Arn,
    /// A set of texts.
    Set,
}

const REQUEST_OBJECT_TAG: &str = "s3:RequestObjectTag";
const EXISTING_OBJECT_TAG: &str = "s3:ExistingObjectTag";

macro_rules! keys {
    ($($(#[$doc:meta])* $variant:ident $name:literal $kind:ident;)*) => {
        /// A condition key.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum ConditionKey {
            $($(#[$doc])* $variant,)*
            /// The value of a tag that the request sets: `s3:RequestObjectTag/` and the tag's key.
            RequestObjectTag(String),
            /// The value of a tag that the object has: `s3:ExistingObjectTag/` and the tag's key.
            ExistingObjectTag(String),
        }

        impl ConditionKey {
            /// Keys with a fixed name.
            const NAMED: &[(&str, Self, Kind)] = &[$(($name, Self::$variant, Kind::$kind)),*];

            /// Its name; of a tag's, the part before the tag's key.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::RequestObjectTag(_) => REQUEST_OBJECT_TAG,
                    Self::ExistingObjectTag(_) => EXISTING_OBJECT_TAG,
                }
            }

            pub(super) fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant => Kind::$kind,)*
                    Self::RequestObjectTag(_) | Self::ExistingObjectTag(_) => Kind::Text,
                }
            }
        }
    };
}

keys! {
    /// The address that the request came from.
    SourceIp "aws:SourceIp" Address;
    /// Whether the request came by TLS.
    SecureTransport "aws:SecureTransport" Truth;
    /// When it came.
    CurrentTime "aws:CurrentTime" Date;
    /// When it came, in seconds since 1970.
    EpochTime "aws:EpochTime" Epoch;
    /// The user's name; neither root nor an anonymous caller has one.
    Username "aws:username" Text;
    /// The caller's canonical id.
    Userid "aws:userid" Text;
    /// The caller's ARN.
    PrincipalArn "aws:PrincipalArn" Arn;
    /// The header Referer.
    Referer "aws:Referer" Text;
    /// The header User-Agent.
    UserAgent "aws:UserAgent" Text;
    /// Which keys a listing asks for.
    Prefix "s3:prefix" Text;
    /// How a listing groups keys.
    Delimiter "s3:delimiter" Text;
    /// How many keys a listing asks for.
    MaxKeys "s3:max-keys" Number;
    /// The version named.
    VersionId "s3:VersionId" Text;
    /// The canned access control list asked for.
    Acl "s3:x-amz-acl" Text;
    /// `bucket/key` of a copy's source.
    CopySource "s3:x-amz-copy-source" Text;
    /// COPY or REPLACE.
    MetadataDirective "s3:x-amz-metadata-directive" Text;
    /// What the signature says of the body.
    ContentSha256 "s3:x-amz-content-sha256" Text;
    /// Which kind of signature.
    SignatureVersion "s3:signatureversion" Text;
    /// Where the signature stands.
    AuthType "s3:authType" Text;
    /// The storage class asked for.
    StorageClass "s3:x-amz-storage-class" Text;
    /// The encryption asked for.
    ServerSideEncryption "s3:x-amz-server-side-encryption" Text;
    /// The region asked for.
    LocationConstraint "s3:LocationConstraint" Text;
    /// Keys of the tags that the request sets.
    RequestObjectTagKeys "s3:RequestObjectTagKeys" Set;
}

impl ConditionKey {
    /// The key of this name, whatever the case of its letters.
    ///
    /// # Errors
    /// For names that are not known here.
    pub(super) fn parse(name: &str) -> Result<Self> {
        // A tag's key is case-sensitive, the name in front of it is not.
        if let Some((family, tag)) = name.split_once('/').filter(|(_, tag)| !tag.is_empty()) {
            if family.eq_ignore_ascii_case(REQUEST_OBJECT_TAG) {
                return Ok(Self::RequestObjectTag(tag.to_owned()));
            }
            if family.eq_ignore_ascii_case(EXISTING_OBJECT_TAG) {
                return Ok(Self::ExistingObjectTag(tag.to_owned()));
            }
        }
        let known = Self::NAMED
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name));
        known
            .map(|(_, key, _)| key.clone())
            .ok_or_else(|| PolicyError::new(format!("Policy has an invalid condition key: {name}.")))
    }

    /// True if a policy may write `${key}`: keys with one value, which is known before anything is looked up.
    pub(super) fn is_variable(&self) -> bool {
        self.kind() != Kind::Set && !matches!(self, Self::ExistingObjectTag(_))
    }
}
