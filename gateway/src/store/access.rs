//! Changing who may reach buckets and objects.

use super::Store;
use crate::error::Error;
use ullage_model::command::{Actor, BucketRef, Reply, Seen, SessionCommand};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{BucketAccess, CannedAcl};

impl Store {
    /// Changes who may reach a bucket.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn set_bucket_access(
        &self,
        actor: Actor,
        bucket: BucketRef,
        access: BucketAccess,
    ) -> Result<(), Error> {
        let command = SessionCommand::SetBucketAccess {
            actor,
            bucket,
            access,
        };
        let set = self.submit(command, Some((actor, bucket))).await;
        self.engine.directory.forget(actor.user, bucket.bucket);
        expect_answer!(set?, Reply::Done => (), "set a bucket's access")
    }

    /// Changes who may reach an object, or one version of it, if that is still as it was `seen`; answers how the
    /// version that was changed is named, if it is at all.
    ///
    /// # Errors
    /// `Rejected(NoSuchKey)` and other refusals, or that the metadata service does not
    /// answer.
    pub async fn set_object_acl(
        &self,
        (actor, bucket): (Actor, BucketRef),
        (key, version): (String, Option<VersionName>),
        seen: Option<Seen>,
        acl: CannedAcl,
    ) -> Result<Option<VersionName>, Error> {
        let command = SessionCommand::SetObjectAcl {
            actor,
            bucket,
            key,
            version,
            seen,
            acl,
        };
        let reply = self.submit(command, Some((actor, bucket))).await?;
        expect_answer!(reply, Reply::Changed { name, .. } => name, "set an object's access")
    }
}
