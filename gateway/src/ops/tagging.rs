//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

use super::errors::undone;
use super::objects_read::{no_such_key, object_name};
use super::{Body, Call};
use crate::directory::bucket_ref;
use crate::error::Error;
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::answer::{deleted, tagging};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::Result;
use crate::s3::limits::OBJECT_TAGS_MAX;
use crate::s3::tagging::{ObjectTagging, Tags};
use crate::store::TagsRequest;
use http::StatusCode;
use ullage_model::rejection::Rejection;

/// GetObjectTagging.
pub(super) async fn get(call: &Call<'_>, request: &ObjectTagging) -> Result<Reply> {
    let version = call.decided(&request.bucket, |_, bucket| async move {
        let name = object_name(call, &bucket, &request.key);
        Ok(call.store.head(&bucket, &name).await?)
    });
    let version = version
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let found = version.found().ok_or_else(|| no_such_key(&request.key))?;
    Ok(tagging(&Tags(found.version.metadata.tags)))
}

/// PutObjectTagging.
pub(super) async fn put(call: &Call<'_>, body: Body<'_>, request: &ObjectTagging) -> Result<Reply> {
    call.bucket(&request.bucket).await?;
    let tags = Tags::parse_document(&body.document().await?, OBJECT_TAGS_MAX)?;
    set(call, request, tags).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// DeleteObjectTagging.
pub(super) async fn delete(call: &Call<'_>, request: &ObjectTagging) -> Result<Reply> {
    set(call, request, Tags::default()).await?;
    Ok(deleted())
}

async fn set(call: &Call<'_>, request: &ObjectTagging, tags: Tags) -> Result<()> {
    let changed = call.decided(&request.bucket, |actor, bucket| {
        let set = TagsRequest {
            actor,
            bucket: bucket_ref(&bucket),
            key: request.key.clone(),
            version: None,
            tags: tags.0.clone(),
        };
        async move { Ok(call.store.set_tags(set).await?) }
    });
    changed.await.map_err(|error| match error {
        PutError::Failed(Error::Rejected(Rejection::NoSuchKey)) => no_such_key(&request.key),
        error => undone(error, &WriteCondition::Always),
    })?;
    Ok(())
}
