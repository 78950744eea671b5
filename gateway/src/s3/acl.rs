//! Access control lists, as far as they are canned: the header and the documents that say one, and whether lists count
//! in a bucket (object ownership).

use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits::XML_TEXT_BYTES_MAX;
use super::xml::XmlReader;

const HEADER: &str = "x-amz-acl";

/// A canned access control list, by its name in `x-amz-acl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannedAcl {
    /// `private`
    Private,
    /// `public-read`
    PublicRead,
    /// `public-read-write`
    PublicReadWrite,
    /// `authenticated-read`
    AuthenticatedRead,
    /// `bucket-owner-read`: of objects; as all users are one account, nobody else is meant.
    BucketOwnerRead,
    /// `bucket-owner-full-control`, likewise.
    BucketOwnerFullControl,
}

impl CannedAcl {
    /// Reads the header; `None` if there is none.
    ///
    /// # Errors
    /// InvalidArgument for a name that S3 does not have; NotImplemented for lists that name services of Amazon's.
    pub(super) fn parse_header(head: &Head<'_>) -> Result<Option<Self>> {
        let Some(name) = head.amz(HEADER)? else {
            return Ok(None);
        };
        Ok(Some(match name {
            "private" => Self::Private,
            "public-read" => Self::PublicRead,
            "public-read-write" => Self::PublicReadWrite,
            "authenticated-read" => Self::AuthenticatedRead,
            "bucket-owner-read" => Self::BucketOwnerRead,
            "bucket-owner-full-control" => Self::BucketOwnerFullControl,
            "aws-exec-read" | "log-delivery-write" => {
                return Err(S3Error::new(
                    ErrorCode::NotImplemented,
                    format!("The canned access control list {name} is not implemented."),
                ));
            }
            other => return Err(S3Error::argument(HEADER, other, "There is no such canned ACL")),
        }))
    }

    /// True if it leaves everything to the owner, which buckets without lists allow.
    pub fn is_owners_alone(self) -> bool {
        matches!(
            self,
            Self::Private | Self::BucketOwnerRead | Self::BucketOwnerFullControl
        )
    }

    /// Reads an `AccessControlPolicy` document that says the same as a canned list: full control for the owner, and
    /// perhaps reading (and writing) for one of S3's groups. `owner` is the owner's canonical id.
    ///
    /// # Errors
    /// MalformedACLError; NotImplemented for grants of which no canned list is made.
    pub fn parse_document(document: &[u8], owner: &str) -> Result<Self> {
        let mut xml = XmlReader::open(document, "AccessControlPolicy").map_err(malformed)?;
        let mut grants = None;
        while let Some(name) = xml.next_child().map_err(malformed)? {
            match name.as_str() {
                "Owner" => expect_owner(&grantee(&mut xml)?, owner)?,
                "AccessControlList" if grants.is_none() => grants = Some(grants_of(&mut xml)?),
                _ => return Err(ErrorCode::MalformedACLError.into()),
            }
        }
        xml.finish().map_err(malformed)?;
        let mut grants = grants.ok_or(ErrorCode::MalformedACLError)?;
        grants.sort();
        grants.dedup();
        let said: Vec<(&str, &str)> = grants
            .iter()
            .map(|(who, what)| (who.as_str(), what.as_str()))
            .collect();
        let own = (owner, "FULL_CONTROL");
        Self::ALL_WITH_GRANTS
            .iter()
            .find(|(_, groups)| {
                let mut expected = groups.to_vec();
                expected.push(own);
                expected.sort_unstable();
                expected == said
            })
            .map(|(canned, _)| *canned)
            .ok_or_else(|| {
                S3Error::new(
                    ErrorCode::NotImplemented,
                    "Grants other than those of a canned access control list are not implemented: use private, \
                     public-read, public-read-write or authenticated-read, or a bucket policy.",
                )
            })
    }

    const ALL_WITH_GRANTS: &[(Self, &[(&str, &str)])] = &[
        (Self::Private, &[]),
        (Self::PublicRead, &[(ALL_USERS, "READ")]),
        (
            Self::PublicReadWrite,
            &[(ALL_USERS, "READ"), (ALL_USERS, "WRITE")],
        ),
        (Self::AuthenticatedRead, &[(AUTHENTICATED_USERS, "READ")]),
    ];

    /// What it grants to groups: their URIs and the permissions.
    pub fn group_grants(self) -> &'static [(&'static str, &'static str)] {
        let found = Self::ALL_WITH_GRANTS.iter().find(|(canned, _)| *canned == self);
        found.map_or(&[], |(_, grants)| grants)
    }
}

/// Everybody.
const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
/// Whoever has an access key.
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
/// Most grants of a list (S3: 100).
const GRANTS_MAX: usize = 100;

fn malformed(_: S3Error) -> S3Error {
    ErrorCode::MalformedACLError.into()
}

fn expect_owner(said: &str, owner: &str) -> Result<()> {
    if said == owner {
        Ok(())
    } else {
        Err(S3Error::new(
            ErrorCode::AccessDenied,
            "The owner of a bucket or object cannot be changed.",
        ))
    }
}

/// (Who, permission) of each grant.
fn grants_of(xml: &mut XmlReader<'_>) -> Result<Vec<(String, String)>> {
    let mut grants = Vec::new();
    while let Some(name) = xml.next_child().map_err(malformed)? {
        if name != "Grant" || grants.len() == GRANTS_MAX {
            return Err(ErrorCode::MalformedACLError.into());
        }
        let (mut who, mut permission) = (None, None);
        while let Some(name) = xml.next_child().map_err(malformed)? {
            let is_second = match name.as_str() {
                "Grantee" => who.replace(grantee(xml)?).is_some(),
                "Permission" => {
                    let text = xml.text(XML_TEXT_BYTES_MAX).map_err(malformed)?;
                    permission.replace(text).is_some()
                }
                _ => true,
            };
            if is_second {
                return Err(ErrorCode::MalformedACLError.into());
            }
        }
        match (who, permission) {
            (Some(who), Some(permission)) => grants.push((who, permission)),
            _ => return Err(ErrorCode::MalformedACLError.into()),
        }
    }
    Ok(grants)
}

/// The id, URI or address that names somebody.
fn grantee(xml: &mut XmlReader<'_>) -> Result<String> {
    let mut named = None;
    while let Some(name) = xml.next_child().map_err(malformed)? {
        let text = xml.text(XML_TEXT_BYTES_MAX).map_err(malformed)?;
        match name.as_str() {
            "ID" | "URI" | "EmailAddress" if named.is_none() => named = Some(text),
            "DisplayName" => {}
            _ => return Err(ErrorCode::MalformedACLError.into()),
        }
    }
    named.ok_or_else(|| ErrorCode::MalformedACLError.into())
}

/// Whether access control lists count in a bucket, by the names of `x-amz-object-ownership`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectOwnership {
    /// They count.
    ObjectWriter,
    /// They count.
    BucketOwnerPreferred,
    /// They do not.
    BucketOwnerEnforced,
}

impl ObjectOwnership {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ObjectWriter => "ObjectWriter",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::ObjectWriter,
            Self::BucketOwnerPreferred,
            Self::BucketOwnerEnforced,
        ];
        all.into_iter().find(|ownership| ownership.as_str() == name)
    }

    /// Reads the header of CreateBucket.
    ///
    /// # Errors
    /// InvalidArgument.
    pub(super) fn parse_header(head: &Head<'_>) -> Result<Option<Self>> {
        const NAME: &str = "x-amz-object-ownership";
        let Some(name) = head.amz(NAME)? else {
            return Ok(None);
        };
        let parsed = Self::parse(name).map(Some);
        parsed.ok_or_else(|| S3Error::argument(NAME, name, "There is no such object ownership"))
    }

    /// Reads an `OwnershipControls` document.
    ///
    /// # Errors
    /// MalformedXML.
    pub fn parse_document(document: &[u8]) -> Result<Self> {
        let mut xml = XmlReader::open(document, "OwnershipControls")?;
        let mut ownership = None;
        while let Some(name) = xml.next_child()? {
            if name != "Rule" || ownership.is_some() {
                return Err(S3Error::malformed_xml());
            }
            while let Some(name) = xml.next_child()? {
                if name != "ObjectOwnership" || ownership.is_some() {
                    return Err(S3Error::malformed_xml());
                }
                let text = xml.text(XML_TEXT_BYTES_MAX)?;
                ownership = Some(Self::parse(&text).ok_or_else(S3Error::malformed_xml)?);
            }
        }
        xml.finish()?;
        ownership.ok_or_else(S3Error::malformed_xml)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::answer::{Owner, access_control_policy};
    use proptest::prelude::*;

    fn owner() -> Owner {
        Owner {
            id: "0a".to_owned(),
            display_name: "<root>".to_owned(),
        }
    }

    #[test]
    fn documents_of_canned_lists_survive_the_round_trip() {
        for (canned, _) in CannedAcl::ALL_WITH_GRANTS {
            let document = access_control_policy(&owner(), *canned).body;
            assert_eq!(CannedAcl::parse_document(&document, "0a"), Ok(*canned));
        }
        for canned in [CannedAcl::BucketOwnerRead, CannedAcl::BucketOwnerFullControl] {
            let document = access_control_policy(&owner(), canned).body;
            assert_eq!(CannedAcl::parse_document(&document, "0a"), Ok(CannedAcl::Private));
        }
    }

    #[test]
    fn other_grants_are_refused_each_with_its_reason() {
        let check = |grants: &str, expected: ErrorCode| {
            let document = format!(
                "<AccessControlPolicy><Owner><ID>0a</ID></Owner><AccessControlList>{grants}</AccessControlList>\
                 </AccessControlPolicy>"
            );
            let refused = CannedAcl::parse_document(document.as_bytes(), "0a").map_err(|error| error.code());
            assert_eq!(refused, Err(expected), "{grants}");
        };
        let own = "<Grant><Grantee><ID>0a</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>";
        let group = |name: &str, permission: &str| {
            format!(
                "<Grant><Grantee><URI>http://acs.amazonaws.com/groups/{name}</URI></Grantee>\
                 <Permission>{permission}</Permission></Grant>"
            )
        };
        check("", ErrorCode::NotImplemented);
        check(&group("global/AllUsers", "READ"), ErrorCode::NotImplemented);
        check(
            &(own.to_owned() + &group("global/AllUsers", "WRITE")),
            ErrorCode::NotImplemented,
        );
        check(
            &(own.to_owned() + &group("s3/LogDelivery", "READ")),
            ErrorCode::NotImplemented,
        );
        check(&own.replace("0a", "0b"), ErrorCode::NotImplemented);
        check("<Grant></Grant>", ErrorCode::MalformedACLError);
        check("<Grants/>", ErrorCode::MalformedACLError);
        check(&(own.to_owned() + "x"), ErrorCode::MalformedACLError);
        let stranger = b"<AccessControlPolicy><Owner><ID>0b</ID></Owner></AccessControlPolicy>";
        let refused = CannedAcl::parse_document(stranger, "0a").map_err(|error| error.code());
        assert_eq!(refused, Err(ErrorCode::AccessDenied));
    }

    #[test]
    fn ownership_is_read() {
        let document = |text: &str| {
            let document = format!("<OwnershipControls><Rule>{text}</Rule></OwnershipControls>");
            ObjectOwnership::parse_document(document.as_bytes()).map_err(|error| error.code())
        };
        assert_eq!(
            document("<ObjectOwnership>BucketOwnerEnforced</ObjectOwnership>"),
            Ok(ObjectOwnership::BucketOwnerEnforced)
        );
        for bad in ["", "<ObjectOwnership>Mine</ObjectOwnership>", "<Other/>"] {
            assert_eq!(document(bad), Err(ErrorCode::MalformedXML), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn strange_documents_never_panic(text in "(<(/?(AccessControlPolicy|AccessControlList|Grant|Grantee|ID|URI|Owner|Permission))>|.){0,30}") {
            let _ = CannedAcl::parse_document(text.as_bytes(), "0a");
            let _ = ObjectOwnership::parse_document(text.as_bytes());
        }
    }
}
