//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

use super::authorize::{Need, Said};
use super::errors::undone;
use super::objects_read::{no_such_key, object_name};
use super::{Body, Call};
use crate::directory::bucket_ref;
use crate::error::Error;
use crate::policy::Action;
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
    let tags = Tags::parse_document(&body.document().await?, OBJECT_TAGS_MAX)?;
    set(call, request, Action::PutObjectTagging, tags).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// DeleteObjectTagging.
pub(super) async fn delete(call: &Call<'_>, request: &ObjectTagging) -> Result<Reply> {
    set(call, request, Action::DeleteObjectTagging, Tags::default()).await?;
    Ok(deleted())
}

async fn set(call: &Call<'_>, request: &ObjectTagging, action: Action, tags: Tags) -> Result<()> {
    let said = Said {
        tags: tags.0.clone(),
        ..Said::default()
    };
    let needs = [Need::object(action, &request.bucket, &request.key).saying(said)];
    let changed = call.decided_needing(&request.bucket, &needs, |actor, bucket| {
        let set = TagsRequest {
            actor,
            bucket: bucket_ref(&bucket),
            key: request.key.clone(),
            version: None,
            tags: tags.0.clone(),
        };
        async move { Ok(call.store.set_tags(set).await?) }
    });
    let error = match changed.await {
        Ok(_) => return Ok(()),
        Err(PutError::Failed(Error::Rejected(Rejection::NoSuchKey))) => no_such_key(&request.key),
        Err(error) => undone(error, &WriteCondition::Always),
    };
    Err(call.without_absence_from(&needs, error).await)
}
