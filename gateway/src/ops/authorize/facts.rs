//! What conditions of policies may ask of a request.

use super::Need;
use crate::policy::{Action, ConditionKey, Fact, Facts, Principal};
use crate::s3::sigv4::Scheme;
use crate::s3::{Head, UnixMs};
use std::borrow::Cow;
use std::net::IpAddr;
use ullage_model::namespace::rows::Metadata;

/// A request, as far as policies see it. Only what the connection or the signature vouches for, or what acts: no
/// header says where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestFacts<'a> {
    /// Its head, as it came.
    pub(crate) head: &'a Head<'a>,
    /// The head that acts: the same, or the one that a form's fields come to.
    pub(crate) acting: &'a Head<'a>,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// When it came.
    pub(crate) now: UnixMs,
    /// Where its signature stands; none of an anonymous caller.
    pub(crate) scheme: Option<Scheme>,
}

/// The facts of one need.
#[derive(Debug)]
pub(super) struct NeedFacts<'a> {
    pub(super) request: &'a RequestFacts<'a>,
    pub(super) principal: &'a Principal<'a>,
    pub(super) need: &'a Need,
    /// The object, once it is known.
    pub(super) object: Option<&'a Metadata>,
}

impl NeedFacts<'_> {
    /// A header that acts, or the query parameter that a presigner made of it. One that stands twice is refused by
    /// whoever reads it.
    fn amz(&self, name: &'static str) -> Fact<'_> {
        Fact::of(self.request.acting.amz(name).ok().flatten())
    }

    /// A tag of the object that the need is about, if it is about one that is there.
    fn existing_tag(&self, name: &str) -> Fact<'_> {
        match self.object {
            _ if !self.need.of_existing || !self.need.action.knows_object_tags() => Fact::Absent,
            None => Fact::Unknown,
            Some(object) => {
                let found = object.tags.iter().find(|(key, _)| key == name);
                Fact::of(found.map(|(_, value)| value.as_str()))
            }
        }
    }

    fn header(&self, name: &'static str) -> Fact<'_> {
        Fact::of(self.request.head.header(name).ok().flatten())
    }

    /// A parameter of a listing.
    fn listing(&self, name: &str) -> Fact<'_> {
        let lists = matches!(
            self.need.action,
            Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads
        );
        let parameter = self.request.head.parameter(name).ok().flatten();
        Fact::of(parameter.filter(|_| lists && self.need.key.is_none()))
    }
}

fn owned<'a>(text: impl Into<String>) -> Fact<'a> {
    Fact::One(Cow::Owned(text.into()))
}

impl Facts for NeedFacts<'_> {
    fn fact(&self, key: &ConditionKey) -> Fact<'_> {
        let said = &self.need.said;
        match key {
            ConditionKey::SourceIp => owned(self.request.peer.to_string()),
            // The S3 listener speaks plain HTTP only; whoever ends TLS in front of it is another client.
            ConditionKey::SecureTransport => Fact::One(Cow::Borrowed("false")),
            ConditionKey::CurrentTime => owned(self.request.now.iso8601()),
            ConditionKey::EpochTime => owned(self.request.now.seconds().to_string()),
            ConditionKey::Username => Fact::of(self.principal.name()),
            ConditionKey::Userid => Fact::of(self.principal.id()),
            ConditionKey::PrincipalArn => Fact::of(self.principal.arn()),
            ConditionKey::Referer => self.header("referer"),
            ConditionKey::UserAgent => self.header("user-agent"),
            ConditionKey::Prefix => self.listing("prefix"),
            ConditionKey::Delimiter => self.listing("delimiter"),
            ConditionKey::MaxKeys => self.listing("max-keys"),
            ConditionKey::VersionId => Fact::of(said.version.as_deref()),
            ConditionKey::Acl => self.amz("x-amz-acl"),
            ConditionKey::CopySource => Fact::of(said.copy_source.as_deref()),
            ConditionKey::MetadataDirective => self.amz("x-amz-metadata-directive"),
            ConditionKey::ContentSha256 => match (self.amz("x-amz-content-sha256"), self.request.scheme) {
                // What is signed beforehand does not know its payload, whether it says so or not.
                (Fact::Absent, Some(Scheme::Presigned | Scheme::Form)) => {
                    Fact::One(Cow::Borrowed("UNSIGNED-PAYLOAD"))
                }
                (said, _) => said,
            },
            ConditionKey::SignatureVersion => Fact::of(self.request.scheme.map(|_| "AWS4-HMAC-SHA256")),
            ConditionKey::AuthType => Fact::of(self.request.scheme.map(|scheme| match scheme {
                Scheme::Header => "REST-HEADER",
                Scheme::Presigned => "REST-QUERY-STRING",
                Scheme::Form => "POST",
            })),
            ConditionKey::StorageClass => self.amz("x-amz-storage-class"),
            ConditionKey::ServerSideEncryption => self.amz("x-amz-server-side-encryption"),
            ConditionKey::LocationConstraint => Fact::of(said.location.as_deref()),
            ConditionKey::RequestObjectTag(name) => {
                let found = said.tags.iter().find(|(key, _)| key == name);
                Fact::of(found.map(|(_, value)| value.as_str()))
            }
            ConditionKey::ExistingObjectTag(name) => self.existing_tag(name),
            ConditionKey::RequestObjectTagKeys if said.tags.is_empty() => Fact::Absent,
            ConditionKey::RequestObjectTagKeys => {
                let names = said.tags.iter().map(|(key, _)| Cow::Borrowed(key.as_str()));
                Fact::Many(names.collect())
            }
        }
    }
}
