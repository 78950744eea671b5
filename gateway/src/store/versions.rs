//! Deleting objects and versions, listing versions, and whether a bucket keeps them.

use super::Store;
use crate::error::Error;
use ullage_model::command::{Actor, BucketRef, Conditions, DeleteObject, Reply, SessionCommand};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{BucketRow, Versioning};
use ullage_model::wire::metad::{Answer, Query, VersionsReply, VersionsRequest};

/// An object, or one version of it, to be deleted.
#[derive(Clone, Debug)]
pub struct DeleteRequest {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The version or delete marker to be removed for good; `None`: what is current.
    pub version: Option<VersionName>,
    /// Conditions on the current version.
    pub conditions: Conditions,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether there was something to delete.
    pub existed: bool,
    /// The delete marker that was made, or the version named.
    pub version: Option<VersionName>,
    /// It is a delete marker.
    pub delete_marker: bool,
}

impl Store {
    /// Deletes an object, or one version of it for good.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn delete(&self, delete: DeleteRequest) -> Result<Deleted, Error> {
        let (actor, bucket) = (delete.actor, delete.bucket);
        let command = SessionCommand::DeleteObject(DeleteObject {
            actor,
            bucket,
            key: delete.key,
            version: delete.version,
            conditions: delete.conditions,
            random: self.engine.around.random.number(),
            now: self.engine.around.clock.wall(),
        });
        match self.submit(command, Some((actor, bucket))).await? {
            Reply::Deleted {
                existed,
                version,
                delete_marker,
            } => Ok(Deleted {
                existed,
                version,
                delete_marker,
            }),
            _ => Err(Error::UnexpectedAnswer("delete object")),
        }
    }

    /// A page of a bucket's versions and delete markers.
    ///
    /// # Errors
    /// As [`Store::head`], when the page is empty.
    pub async fn versions(
        &self,
        bucket: &BucketRow,
        request: VersionsRequest,
    ) -> Result<VersionsReply, Error> {
        let answer = self.query(Query::Versions(request)).await?;
        let page = expect_answer!(answer, Answer::Versions(page) => page, "versions")?;
        if page.versions.is_empty() && page.common_prefixes.is_empty() {
            self.engine.directory.confirm_bucket(bucket).await?;
        }
        Ok(page)
    }

    /// Sets whether a bucket keeps old versions.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn set_versioning(
        &self,
        actor: Actor,
        bucket: BucketRef,
        versioning: Versioning,
    ) -> Result<(), Error> {
        let command = SessionCommand::SetVersioning {
            actor,
            bucket,
            versioning,
        };
        let done = self.submit(command, Some((actor, bucket))).await;
        self.engine.directory.forget(actor.user, bucket.bucket);
        expect_answer!(done?, Reply::Done => (), "set versioning")
    }
}
