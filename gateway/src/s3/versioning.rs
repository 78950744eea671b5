//! Versioning as a client writes it: whether a bucket keeps old versions, which version is meant, and
//! ListObjectVersions.

use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits;
use super::listing::{ListingScope, owned, scope};
use super::xml::XmlReader;

/// `Status` of a bucket's versioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersioningStatus {
    /// Old versions are kept.
    Enabled,
    /// No more versions are kept; those there stay.
    Suspended,
}

impl VersioningStatus {
    /// As it stands in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Suspended => "Suspended",
        }
    }

    /// Reads the body of PutBucketVersioning.
    ///
    /// # Errors
    /// MalformedXML; IllegalVersioningConfigurationException without a status; NotImplemented for MFA delete.
    pub fn parse_document(document: &[u8]) -> Result<Self> {
        let mut xml = XmlReader::open(document, "VersioningConfiguration")?;
        let (mut status, mut mfa_delete) = (None, None);
        while let Some(name) = xml.next_child()? {
            let text = xml.text(limits::XML_TEXT_BYTES_MAX)?;
            let repeated = match (name.as_str(), text.trim()) {
                ("Status", "Enabled") => status.replace(Self::Enabled).is_some(),
                ("Status", "Suspended") => status.replace(Self::Suspended).is_some(),
                ("MfaDelete", "Enabled") => {
                    return Err(S3Error::new(
                        ErrorCode::NotImplemented,
                        "MFA delete is not implemented: versioning without it is.",
                    ));
                }
                ("MfaDelete", "Disabled") => mfa_delete.replace(()).is_some(),
                _ => return Err(S3Error::malformed_xml()),
            };
            if repeated {
                return Err(S3Error::malformed_xml());
            }
        }
        xml.finish()?;
        status.ok_or_else(|| ErrorCode::IllegalVersioningConfigurationException.into())
    }
}

/// `versionId`: opaque here.
///
/// # Errors
/// InvalidArgument for an empty one, or one that is longer than any.
pub(super) fn version_id(head: &Head<'_>) -> Result<Option<String>> {
    let value = head.parameter("versionId")?;
    value
        .map(|text| check_version_id(text).map(str::to_owned))
        .transpose()
}

/// A version's id as a client may write it.
///
/// # Errors
/// As [`version_id`].
pub(super) fn check_version_id(text: &str) -> Result<&str> {
    if text.is_empty() {
        let message = "Version id cannot be the empty string";
        return Err(S3Error::argument("versionId", text, message));
    }
    if text.len() > limits::VERSION_ID_BYTES_MAX {
        return Err(invalid_version_id(&text[..text.floor_char_boundary(64)]));
    }
    Ok(text)
}

/// The refusal of what names no version, whatever there is.
pub fn invalid_version_id(text: &str) -> S3Error {
    S3Error::argument("versionId", text, "Invalid version id specified")
}

/// ListObjectVersions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjectVersions {
    /// What to list.
    pub scope: ListingScope,
    /// Only what comes after this key or common prefix; "" from the start.
    pub key_marker: String,
    /// With a key marker: also the versions of that key after this one.
    pub version_id_marker: Option<String>,
}

impl ListObjectVersions {
    /// Reads the request.
    ///
    /// # Errors
    /// InvalidArgument.
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        const MARKER: &str = "version-id-marker";
        let key_marker = owned(head, "key-marker")?.unwrap_or_default();
        let version_id_marker = owned(head, MARKER)?;
        if let Some(marker) = &version_id_marker {
            if key_marker.is_empty() {
                let message = "A version-id marker cannot be specified without a key marker.";
                return Err(S3Error::argument(MARKER, marker, message));
            }
            if marker.is_empty() {
                let message = "A version-id marker cannot be empty.";
                return Err(S3Error::argument(MARKER, marker, message));
            }
        }
        Ok(Self {
            scope: scope(head)?,
            key_marker,
            version_id_marker,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::Operation;
    use super::super::testing::request;
    use super::*;

    fn status(document: &str) -> std::result::Result<VersioningStatus, ErrorCode> {
        VersioningStatus::parse_document(document.as_bytes()).map_err(|error| error.code())
    }

    #[test]
    fn documents_are_read_strictly() {
        let with = |inner: &str| {
            status(&format!(
                "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}\
                 </VersioningConfiguration>"
            ))
        };
        assert_eq!(with("<Status>Enabled</Status>"), Ok(VersioningStatus::Enabled));
        assert_eq!(
            with("<MfaDelete>Disabled</MfaDelete><Status>Suspended</Status>"),
            Ok(VersioningStatus::Suspended)
        );
        assert_eq!(
            with("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"),
            Err(ErrorCode::NotImplemented)
        );
        assert_eq!(with(""), Err(ErrorCode::IllegalVersioningConfigurationException));
        for wrong in [
            "<Status>Off</Status>",
            "<Status>Enabled</Status><Status>Enabled</Status>",
            "<Other/>",
        ] {
            assert_eq!(with(wrong), Err(ErrorCode::MalformedXML), "{wrong}");
        }
        assert_eq!(status("<Other/>"), Err(ErrorCode::MalformedXML));
    }

    fn list(target: &str) -> Result<ListObjectVersions> {
        request("GET", target, &[]).map(|request| match request.operation {
            Operation::ListObjectVersions(list) => list,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn listings_are_read_with_both_markers_or_the_keys_alone() {
        let whole = list(
            "/buck?versions&prefix=a%2F&delimiter=%2F&key-marker=a%2Fb&version-id-marker=null&max-keys=5&encoding-type=url",
        );
        let expected = ListObjectVersions {
            scope: ListingScope {
                bucket: "buck".into(),
                prefix: "a/".into(),
                delimiter: Some("/".into()),
                max_keys: 5,
                encode_urls: true,
            },
            key_marker: "a/b".into(),
            version_id_marker: Some("null".into()),
        };
        assert_eq!(whole, Ok(expected));
        assert!(list("/buck?versions=&key-marker=k").is_ok());
        for target in [
            "/buck?versions&version-id-marker=null",
            "/buck?versions&key-marker=k&version-id-marker=",
            "/buck?versions&max-keys=-1",
        ] {
            let refused = list(target).map_err(|error| error.code());
            assert_eq!(refused, Err(ErrorCode::InvalidArgument), "{target}");
        }
    }

    #[test]
    fn a_version_is_named_or_not_but_never_by_nothing() {
        let named = |target: &str| {
            request("GET", target, &[]).map(|request| match request.operation {
                Operation::GetObject(read) => read.version_id,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(named("/buck/k"), Ok(None));
        assert_eq!(named("/buck/k?versionId=null"), Ok(Some("null".to_owned())));
        for target in [
            "/buck/k?versionId=",
            &format!("/buck/k?versionId={}", "a".repeat(2000)),
        ] {
            let refused = named(target).map_err(|error| error.code());
            assert_eq!(refused, Err(ErrorCode::InvalidArgument));
        }
    }
}
