//! Leave to do something with an object that is there, as far as it can be given before the object is known: its own
//! access control list may grant it, and policies may ask for its tags.

use super::{Caller, Need, RequestFacts, Verdict, acl, denied, judge};
use crate::directory::Bucket;
use crate::error::Error;
use crate::get::{Lookup, ObjectName};
use crate::ops::Call;
use crate::put::PutError;
use crate::s3::S3Error;
use crate::s3::error::Result;
use std::future::Future;
use std::sync::Arc;
use ullage_model::command::{Actor, Seen};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{Metadata, VersionRow};
use ullage_model::rejection::Rejection;

/// Leave to do something with an object that is there: complete only when its own access control list and its tags
/// are known.
#[derive(Debug)]
#[must_use = "what was found must be checked before it is answered or changed"]
pub(in crate::ops) struct Sight<'a> {
    request: RequestFacts<'a>,
    caller: Caller,
    bucket: Arc<Bucket>,
    /// What depends on the object.
    needs: Vec<Need>,
}

impl Sight<'_> {
    /// Checks an object that was found.
    ///
    /// # Errors
    /// AccessDenied.
    pub(in crate::ops) fn check(&self, metadata: &Metadata) -> Result<()> {
        let mut needs = self.needs.iter();
        let allows = |need| {
            let object = Some(metadata);
            judge(&self.request, &self.caller, Some(&self.bucket), need, object) == Verdict::Allowed
        };
        if needs.all(allows) { Ok(()) } else { Err(denied()) }
    }

    /// `found`, if it may be read or is nothing that could.
    ///
    /// # Errors
    /// AccessDenied.
    pub(in crate::ops) fn check_found<T>(
        &self,
        found: Lookup<T>,
        version: impl Fn(&T) -> &VersionRow,
    ) -> std::result::Result<Lookup<T>, PutError<S3Error>> {
        if let Lookup::Found(found) = &found {
            self.check(&version(found).metadata).map_err(PutError::Refused)?;
        }
        Ok(found)
    }
}

impl<'a> Call<'a> {
    /// The bucket of a copy's source and leave to read there.
    ///
    /// # Errors
    /// NoSuchBucket; AccessDenied.
    pub(in crate::ops) async fn source(
        &self,
        name: &str,
        expected_owner: Option<&str>,
        caller: &Caller,
    ) -> Result<(Arc<Bucket>, Sight<'a>)> {
        let bucket = self.look_up(name, expected_owner).await?;
        let reads = self.needs().iter().filter(|need| acl::is_read(need.action));
        let sight = self.sight(caller, &bucket, reads)?;
        Ok((bucket, sight))
    }

    /// Leave to do all of `needs` that concern this bucket, if the object agrees.
    fn sight<'n>(
        &self,
        caller: &Caller,
        bucket: &Arc<Bucket>,
        needs: impl IntoIterator<Item = &'n Need>,
    ) -> Result<Sight<'a>> {
        let (mut asked, mut open) = (false, Vec::new());
        for need in needs.into_iter().filter(|need| need.bucket == bucket.row.name) {
            asked = true;
            match judge(&self.request, caller, Some(bucket), need, None) {
                Verdict::Allowed => {}
                Verdict::ByObject => open.push(need.clone()),
                Verdict::Denied => return Err(denied()),
            }
        }
        // If nothing was asked of the bucket, then nobody thought about it.
        asked.then_some(()).ok_or_else(denied)?;
        Ok(self.sight_of(caller, bucket, open))
    }

    /// Leave that depends on the object in these needs, and in nothing else any more.
    fn sight_of(&self, caller: &Caller, bucket: &Arc<Bucket>, needs: Vec<Need>) -> Sight<'a> {
        Sight {
            request: self.request,
            caller: caller.clone(),
            bucket: Arc::clone(bucket),
            needs,
        }
    }

    /// As [`Call::require`], of an object that was found.
    ///
    /// # Errors
    /// AccessDenied.
    pub(in crate::ops) fn require_of(
        &self,
        caller: &Caller,
        bucket: &Arc<Bucket>,
        need: &Need,
        object: &Metadata,
    ) -> Result<()> {
        self.sight(caller, bucket, [need])?.check(object)
    }

    /// As [`Call::decided`], for reads of an object: what was read must pass the [`Sight`].
    pub(in crate::ops) async fn decided_sight<T, F>(
        &self,
        bucket: &str,
        act: impl Fn(Arc<Bucket>, Sight<'a>) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let judged = |caller: &Caller, bucket: &Arc<Bucket>| {
            if self.was_admitted(caller, bucket) {
                return Ok(self.sight_of(caller, bucket, Vec::new()));
            }
            self.sight(caller, bucket, self.needs())
        };
        self.under_settings(bucket, judged, |_, bucket, sight| act(bucket, sight))
            .await
    }

    /// As [`Call::decided_needing`], for changes of an object that is there: `act` is given what was seen of it, which
    /// its command must name, where the decision depends on that.
    pub(in crate::ops) async fn decided_change<T, F>(
        &self,
        bucket: &str,
        (key, version): (&str, Option<VersionName>),
        needs: &[Need],
        act: impl Fn(Actor, Arc<Bucket>, Option<Seen>) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let judged = |caller: &Caller, bucket: &Arc<Bucket>| self.sight(caller, bucket, needs);
        let act = &act;
        self.under_settings(bucket, judged, |caller, bucket, sight| async move {
            let seen = self.see((key, version), &sight).await?;
            act(caller.actor, bucket, seen).await
        })
        .await
    }

    /// Looks at the object, if something depends on it.
    async fn see(
        &self,
        (key, version): (&str, Option<VersionName>),
        sight: &Sight<'_>,
    ) -> std::result::Result<Option<Seen>, PutError<S3Error>> {
        if sight.needs.is_empty() {
            return Ok(None);
        }
        let name = ObjectName {
            bucket: sight.bucket.row.bucket,
            key: key.to_owned(),
            version,
            request_id: self.request_id,
        };
        let refused = match (self.store.head(&sight.bucket, &name).await?, version) {
            (Lookup::Found(found), _) => {
                let version = found.version;
                sight.check(&version.metadata).map_err(PutError::Refused)?;
                return Ok(Some(Seen {
                    version: version.version,
                    tags: version.metadata.tags,
                }));
            }
            (_, None) => Rejection::NoSuchKey,
            (Lookup::Nothing, Some(_)) => Rejection::NoSuchVersion,
            (Lookup::DeleteMarker(_), Some(_)) => Rejection::DeleteMarker,
        };
        Err(Error::Rejected(refused).into())
    }
}
