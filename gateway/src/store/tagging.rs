//! Changing tags.

use super::Store;
use crate::error::Error;
use ullage_model::command::{Actor, BucketRef, Reply, Seen, SessionCommand, SetObjectTags};
use ullage_model::ids::VersionName;

/// Tags that an object shall have.
#[derive(Clone, Debug)]
pub struct TagsRequest {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The version; `None` for the current one.
    pub version: Option<VersionName>,
    /// What was seen of it, if it was decided by that.
    pub seen: Option<Seen>,
    /// All of them: keys and values.
    pub tags: Vec<(String, String)>,
}

impl Store {
    /// Replaces all tags of an object; answers how the version that was changed is named, if it is at all.
    ///
    /// # Errors
    /// `Rejected(NoSuchKey)` and other refusals, or that the metadata service does not answer.
    pub async fn set_tags(&self, set: TagsRequest) -> Result<Option<VersionName>, Error> {
        let settings = (set.actor, set.bucket);
        let command = SessionCommand::SetObjectTags(SetObjectTags {
            actor: set.actor,
            bucket: set.bucket,
            key: set.key,
            version: set.version,
            seen: set.seen,
            tags: set.tags,
        });
        let reply = self.submit(command, Some(settings)).await?;
        expect_answer!(reply, Reply::Changed { name, .. } => name, "set tags")
    }
}
