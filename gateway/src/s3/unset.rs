//! Features of S3 that a bucket here never has: nothing sets them, so a question about one is answered as S3 answers it
//! of a bucket on which it was never set, and taking one away finds it gone. Setting one is refused, but for encryption as
//! it is anyway.

use super::answer::{Reply, deleted};
use super::error::{ErrorCode, Result, S3Error};
use super::limits::XML_TEXT_BYTES_MAX;
use super::route::OperationName;
use super::xml::{XmlReader, XmlWriter};

const ENCRYPTION: &str = "ServerSideEncryptionConfiguration";

/// A feature that S3 has and no bucket here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The API reference documents them by these names.
pub enum Feature {
    Accelerate,
    Analytics,
    Encryption,
    IntelligentTiering,
    Inventory,
    LegalHold,
    Lifecycle,
    Logging,
    Metrics,
    Notification,
    ObjectLock,
    Replication,
    RequestPayment,
    Retention,
    Website,
}

/// What an operation on such a feature comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An element without content.
    Empty(&'static str),
    /// A list without entries.
    EmptyList(&'static str),
    /// Every object is encrypted, whatever is asked for, with keys that are the store's own.
    EncryptedByStore,
    /// Nobody else pays.
    OwnerPays,
    Absent(ErrorCode),
    /// Of an object, in a bucket whose objects are not locked.
    NoLock,
    /// It is not there, which is what was asked for.
    Deleted,
}

/// An operation on a feature that was never set.
#[derive(Debug, PartialEq, Eq)]
pub struct Unset {
    /// The operation.
    pub name: OperationName,
    /// What it is about.
    pub feature: Feature,
    /// Whether it takes the feature away, where there is one.
    pub deletes: bool,
    parameters: &'static [&'static str],
    outcome: Outcome,
}

const fn get(
    name: OperationName,
    feature: Feature,
    parameters: &'static [&'static str],
    outcome: Outcome,
) -> Unset {
    Unset {
        name,
        feature,
        deletes: false,
        parameters,
        outcome,
    }
}

const fn delete(name: OperationName, feature: Feature, parameters: &'static [&'static str]) -> Unset {
    Unset {
        deletes: true,
        ..get(name, feature, parameters, Outcome::Deleted)
    }
}

#[rustfmt::skip]
static TABLE: &[Unset] = {
    use Feature as F;
    use OperationName as N;
    use Outcome::{Absent, Empty, EmptyList, EncryptedByStore, NoLock, OwnerPays};
    const NO_SUCH: Outcome = Absent(ErrorCode::NoSuchConfiguration);
    &[
        get(N::GetBucketAccelerateConfiguration, F::Accelerate, &["accelerate"], Empty("AccelerateConfiguration")),
        get(N::GetBucketEncryption, F::Encryption, &["encryption"], EncryptedByStore),
        get(N::GetBucketLifecycleConfiguration, F::Lifecycle, &["lifecycle"], Absent(ErrorCode::NoSuchLifecycleConfiguration)),
        get(N::GetBucketLogging, F::Logging, &["logging"], Empty("BucketLoggingStatus")),
        get(N::GetBucketNotificationConfiguration, F::Notification, &["notification"], Empty("NotificationConfiguration")),
        get(N::GetObjectLockConfiguration, F::ObjectLock, &["object-lock"], Absent(ErrorCode::ObjectLockConfigurationNotFoundError)),
        get(N::GetBucketReplication, F::Replication, &["replication"], Absent(ErrorCode::ReplicationConfigurationNotFoundError)),
        get(N::GetBucketRequestPayment, F::RequestPayment, &["requestPayment"], OwnerPays),
        get(N::GetBucketWebsite, F::Website, &["website"], Absent(ErrorCode::NoSuchWebsiteConfiguration)),

        get(N::GetBucketAnalyticsConfiguration, F::Analytics, &["analytics", "id"], NO_SUCH),
        get(N::GetBucketIntelligentTieringConfiguration, F::IntelligentTiering, &["intelligent-tiering", "id"], NO_SUCH),
        get(N::GetBucketInventoryConfiguration, F::Inventory, &["inventory", "id"], NO_SUCH),
        get(N::GetBucketMetricsConfiguration, F::Metrics, &["metrics", "id"], NO_SUCH),
        get(N::ListBucketAnalyticsConfigurations, F::Analytics, &["analytics"], EmptyList("ListBucketAnalyticsConfigurationResult")),
        get(N::ListBucketIntelligentTieringConfigurations, F::IntelligentTiering, &["intelligent-tiering"], EmptyList("ListBucketIntelligentTieringConfigurationsOutput")),
        get(N::ListBucketInventoryConfigurations, F::Inventory, &["inventory"], EmptyList("ListInventoryConfigurationsResult")),
        get(N::ListBucketMetricsConfigurations, F::Metrics, &["metrics"], EmptyList("ListMetricsConfigurationsResult")),

        get(N::GetObjectLegalHold, F::LegalHold, &["legal-hold", "versionId"], NoLock),
        get(N::GetObjectRetention, F::Retention, &["retention", "versionId"], NoLock),

        delete(N::DeleteBucketEncryption, F::Encryption, &["encryption"]),
        delete(N::DeleteBucketLifecycle, F::Lifecycle, &["lifecycle"]),
        delete(N::DeleteBucketReplication, F::Replication, &["replication"]),
        delete(N::DeleteBucketWebsite, F::Website, &["website"]),
    ]
};

impl Unset {
    /// The row of an operation that is one of these.
    pub fn of(name: OperationName) -> Option<&'static Self> {
        TABLE.iter().find(|row| row.name == name)
    }

    /// The parameters that it reads.
    pub(super) fn parameters(&self) -> &'static [&'static str] {
        self.parameters
    }

    /// The answer for a bucket that is there.
    ///
    /// # Errors
    /// S3's where there is nothing to show.
    pub fn answer(&self, bucket: &str) -> Result<Reply> {
        match self.outcome {
            Outcome::Empty(root) => Ok(document(root, |_| ())),
            Outcome::EmptyList(root) => Ok(document(root, |xml| xml.boolean("IsTruncated", false))),
            Outcome::EncryptedByStore => Ok(document(ENCRYPTION, encryption)),
            Outcome::OwnerPays => Ok(document("RequestPaymentConfiguration", |xml| {
                xml.text("Payer", "BucketOwner");
            })),
            Outcome::Absent(code) => Err(S3Error::from(code).with("BucketName", bucket)),
            Outcome::NoLock => Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "Bucket is missing Object Lock Configuration",
            )),
            Outcome::Deleted => Ok(deleted()),
        }
    }
}

fn document(root: &str, content: impl FnOnce(&mut XmlWriter)) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root(root);
    content(&mut xml);
    xml.close(root);
    Reply::xml(xml.finish())
}

fn encryption(xml: &mut XmlWriter) {
    xml.open("Rule");
    xml.open("ApplyServerSideEncryptionByDefault");
    xml.text("SSEAlgorithm", "AES256");
    xml.close("ApplyServerSideEncryptionByDefault");
    xml.boolean("BucketKeyEnabled", false);
    xml.close("Rule");
}

/// Reads the body of PutBucketEncryption, which may ask for nothing but what is done anyway.
///
/// # Errors
/// MalformedXML; InvalidEncryptionAlgorithmError for what is no algorithm; NotImplemented for all that is not done anyway.
pub fn check_encryption(document: &[u8]) -> Result<()> {
    let mut xml = XmlReader::open(document, ENCRYPTION)?;
    let mut algorithm = None;
    while let Some(name) = xml.next_child()? {
        if name != "Rule" || algorithm.is_some() {
            return Err(S3Error::malformed_xml());
        }
        while let Some(name) = xml.next_child()? {
            match name.as_str() {
                "ApplyServerSideEncryptionByDefault" if algorithm.is_none() => {
                    algorithm = algorithm_by_default(&mut xml)?;
                }
                "BucketKeyEnabled" if xml.text(XML_TEXT_BYTES_MAX)?.trim() == "false" => {}
                other => return Err(other_encryption(other)),
            }
        }
    }
    xml.finish()?;
    match algorithm.as_deref() {
        Some("AES256") => Ok(()),
        Some(kms @ ("aws:kms" | "aws:kms:dsse")) => Err(other_encryption(kms)),
        Some(_) => Err(ErrorCode::InvalidEncryptionAlgorithmError.into()),
        None => Err(S3Error::malformed_xml()),
    }
}

fn algorithm_by_default(xml: &mut XmlReader<'_>) -> Result<Option<String>> {
    let mut algorithm = None;
    while let Some(name) = xml.next_child()? {
        if name != "SSEAlgorithm" || algorithm.is_some() {
            return Err(other_encryption(&name));
        }
        algorithm = Some(xml.text(XML_TEXT_BYTES_MAX)?);
    }
    Ok(algorithm)
}

fn other_encryption(what: &str) -> S3Error {
    S3Error::new(
        ErrorCode::NotImplemented,
        format!("Everything is encrypted with AES256 and keys of the store; {what} is not implemented."),
    )
}

#[cfg(test)]
mod tests {
    use super::super::route::ROUTES;
    use super::*;

    #[test]
    fn each_is_answered_from_one_row_and_offered() {
        for row in TABLE {
            let rows = TABLE.iter().filter(|other| other.name == row.name);
            assert_eq!(rows.count(), 1, "{:?}", row.name);
            let route = ROUTES.iter().find(|route| route.operation == row.name);
            assert!(route.is_some_and(|route| route.offered), "{:?}", row.name);
            assert_eq!(
                row.deletes,
                row.name.as_str().starts_with("Delete"),
                "{:?}",
                row.name
            );
        }
    }

    #[test]
    fn no_other_encryption_can_be_set_than_there_is() {
        const PLAIN: &str = "<DEFAULT><SSEAlgorithm>AES256</SSEAlgorithm></DEFAULT>";
        let check = |text: &str| {
            let text = text.replace("DEFAULT", "ApplyServerSideEncryptionByDefault");
            let document = format!("<{ENCRYPTION}>{text}</{ENCRYPTION}>");
            check_encryption(document.as_bytes()).map_err(|error| error.code())
        };
        let shown = document(ENCRYPTION, encryption);
        assert_eq!(check_encryption(&shown.body), Ok(()), "what is shown");
        let rule = |text: &str| format!("<Rule>{text}</Rule>");
        let other = Err(ErrorCode::NotImplemented);
        let malformed = Err(ErrorCode::MalformedXML);
        for (text, expected) in [
            (rule(PLAIN), Ok(())),
            (
                rule(&format!("<BucketKeyEnabled>false</BucketKeyEnabled>{PLAIN}")),
                Ok(()),
            ),
            (
                rule(&format!("{PLAIN}<BucketKeyEnabled>true</BucketKeyEnabled>")),
                other,
            ),
            (rule(&format!("{PLAIN}<BlockedEncryptionTypes/>")), other),
            (rule(&PLAIN.replace("AES256", "aws:kms")), other),
            (
                rule(&PLAIN.replace("</DEF", "<KMSMasterKeyID>k</KMSMasterKeyID></DEF")),
                other,
            ),
            (
                rule(&PLAIN.replace("AES256", "ROT13")),
                Err(ErrorCode::InvalidEncryptionAlgorithmError),
            ),
            (rule(&format!("{PLAIN}{PLAIN}")), other),
            (format!("{}{}", rule(PLAIN), rule(PLAIN)), malformed),
            (rule(""), malformed),
            (String::new(), malformed),
            (PLAIN.to_owned(), malformed),
        ] {
            assert_eq!(check(&text), expected, "{text}");
        }
    }
}
