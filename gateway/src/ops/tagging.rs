//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

use super::authorize::Need;
use super::objects_read::look_at;
use super::versioning::{change_undone, shown, version_name};
use super::{Body, Call};
use crate::directory::bucket_ref;
use crate::policy::Action;
use crate::s3::Reply;
use crate::s3::answer::{deleted, tagging};
use crate::s3::error::Result;
use crate::s3::limits::OBJECT_TAGS_MAX;
use crate::s3::operation::ObjectRequest;
use crate::s3::tagging::Tags;
use crate::store::TagsRequest;
use http::StatusCode;

/// GetObjectTagging.
pub(super) async fn get(call: &Call<'_>, request: &ObjectRequest) -> Result<Reply> {
    let (found, _) = look_at(call, "GET", request.named(), None).await?;
    let reply = tagging(&Tags(found.version.metadata.tags));
    Ok(reply.with_version(shown(found.name)))
}

/// PutObjectTagging.
pub(super) async fn put(call: &Call<'_>, body: Body<'_>, request: &ObjectRequest) -> Result<Reply> {
    call.require_bucket(&request.bucket).await?;
    let tags = Tags::parse_document(&body.document().await?, OBJECT_TAGS_MAX)?;
    let actions = (Action::PutObjectTagging, Action::PutObjectVersionTagging);
    let version = set(call, request, actions, "PUT", tags).await?;
    Ok(Reply::empty(StatusCode::OK).with_version(version))
}

/// DeleteObjectTagging.
pub(super) async fn delete(call: &Call<'_>, request: &ObjectRequest) -> Result<Reply> {
    let actions = (Action::DeleteObjectTagging, Action::DeleteObjectVersionTagging);
    let version = set(call, request, actions, "DELETE", Tags::default()).await?;
    Ok(deleted().with_version(version))
}

/// Replaces the tags; answers how the version that has them now is named.
async fn set(
    call: &Call<'_>,
    request: &ObjectRequest,
    actions: (Action, Action),
    method: &'static str,
    tags: Tags,
) -> Result<Option<String>> {
    let version_id = request.version_id.as_deref();
    let version = version_name(version_id)?;
    let mut need = Need::version(actions, &request.bucket, &request.key, version_id);
    need.said.tags.clone_from(&tags.0);
    let needs = [need];
    let object = (request.key.as_str(), version);
    let changed = call.decided_change(&request.bucket, object, &needs, |actor, bucket, seen| {
        let set = TagsRequest {
            actor,
            bucket: bucket_ref(&bucket),
            key: request.key.clone(),
            version,
            seen,
            tags: tags.0.clone(),
        };
        async move { Ok(call.store.set_tags(set).await?) }
    });
    let error = match changed.await {
        Ok(changed) => return Ok(shown(changed)),
        Err(error) => change_undone(error, method, &request.key, version_id),
    };
    Err(call.without_absence_from(&needs, error).await)
}
