//! The one place where it is decided who may do what.
//!
//! An operation is one or more actions on buckets and objects ([`needs`]). Each is judged by the caller's policy, the
//! bucket's policy and the bucket's access control list, in the order of [`crate::policy`]; what an object's own list
//! grants, and what policies make of its tags, is known when the object is ([`Sight`]). The root user may do everything.
//!
//! Handlers get a bucket's row by no other way than [`Call::bucket`] and its kin, which judge under the very row they
//! answer: a command that names the row's version is refused if anything of it changed since.

mod acl;
mod facts;
mod needs;
mod sight;

pub(crate) use facts::RequestFacts;
pub(crate) use needs::Needs;
pub(super) use needs::{DELETE, Need, Said};
pub(super) use sight::Sight;

use super::{Call, check_owner, identify, no_such_bucket, owner, s3_error};
use crate::directory::{Bucket, User};
use crate::error::Error;
use crate::limits::STALE_SETTINGS_RETRIES;
use crate::policy::{Action, Ask, Decision, Policies, Policy, Principal, evaluate};
use crate::put::PutError;
use crate::s3::S3Error;
use crate::s3::error::{ErrorCode, Result};
use facts::NeedFacts;
use std::future::Future;
use std::sync::Arc;
use ullage_model::command::Actor;
use ullage_model::namespace::rows::{ANONYMOUS_USER, Metadata, ROOT_USER};
use ullage_model::rejection::Rejection;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The user, and the version of its settings under which it is authorized.
    pub(crate) actor: Actor,
    kind: CallerKind,
}

#[derive(Clone, Debug)]
enum CallerKind {
    Root,
    User(Arc<User>),
    Anonymous,
}

impl Caller {
    /// The holder of the gateway's root keys.
    pub(crate) fn root() -> Self {
        Self::without_settings(CallerKind::Root, ROOT_USER)
    }

    /// Whoever sent a request without credentials.
    pub(crate) fn anonymous() -> Self {
        Self::without_settings(CallerKind::Anonymous, ANONYMOUS_USER)
    }

    fn without_settings(kind: CallerKind, user: ullage_model::ids::UserId) -> Self {
        let actor = Actor {
            user,
            settings_version: 0,
        };
        Self { actor, kind }
    }

    /// A user who holds an access key.
    pub(crate) fn user(user: &Arc<User>) -> Self {
        Self {
            actor: user.actor(),
            kind: CallerKind::User(Arc::clone(user)),
        }
    }

    /// True for the holder of the gateway's root keys.
    pub(crate) fn is_root(&self) -> bool {
        matches!(self.kind, CallerKind::Root)
    }

    /// True for one without credentials.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.kind, CallerKind::Anonymous)
    }

    /// What policies know it as; `id` is its canonical id.
    fn principal<'a>(&'a self, id: &'a str) -> Principal<'a> {
        match &self.kind {
            CallerKind::Root => Principal::Root { id },
            CallerKind::User(user) => Principal::User {
                name: &user.row.name,
                id,
            },
            CallerKind::Anonymous => Principal::Anonymous,
        }
    }

    fn policy(&self) -> Option<&Policy> {
        match &self.kind {
            CallerKind::User(user) => user.policy(),
            CallerKind::Root | CallerKind::Anonymous => None,
        }
    }
}

/// What became of one need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// It depends on the object: its own list could grant it, or a policy asks for its tags.
    ByObject,
    Denied,
}

/// Judges one need under a bucket's settings; `None` for what concerns no bucket that is there. With the `object` it
/// does not depend on it any more.
fn judge(
    request: &RequestFacts<'_>,
    caller: &Caller,
    bucket: Option<&Bucket>,
    need: &Need,
    object: Option<&Metadata>,
) -> Verdict {
    if caller.is_root() {
        return Verdict::Allowed;
    }
    let id = owner(caller.actor.user).id;
    let principal = caller.principal(&id);
    let facts = NeedFacts {
        request,
        principal: &principal,
        need,
        object,
    };
    let ask = Ask {
        principal: &principal,
        action: need.action,
        resource: &need.resource(),
        facts: &facts,
    };
    let access = bucket.map(|bucket| bucket.row.access);
    let policies = Policies {
        user: caller.policy(),
        bucket: bucket.and_then(Bucket::policy),
        restricted: bucket.is_some_and(Bucket::keeps_out_public) && caller.is_anonymous(),
        acl: access.is_some_and(|access| acl::bucket_grants(access, caller, need.action)),
    };
    let list_decides = |access| match object {
        None if acl::object_may_grant(access, need.action) => Verdict::ByObject,
        Some(object) if acl::object_grants(access, object.acl, caller, need.action) => Verdict::Allowed,
        _ => Verdict::Denied,
    };
    match evaluate(&ask, policies) {
        Decision::Allowed => Verdict::Allowed,
        Decision::Denied => Verdict::Denied,
        Decision::NotAllowed => access.map_or(Verdict::Denied, list_decides),
        Decision::Open if object.is_none() => Verdict::ByObject,
        Decision::Open => Verdict::Denied,
    }
}

fn denied() -> S3Error {
    ErrorCode::AccessDenied.into()
}

impl Call<'_> {
    /// What the operation needs, as far as its head says it.
    pub(super) fn needs(&self) -> &[Need] {
        match &self.needs {
            Needs::Of(needs) => needs,
            Needs::ByHandler => &[],
        }
    }

    /// What the operation needs but for reading an object, which [`Call::source`] judges.
    fn writes(&self) -> Vec<&Need> {
        let needs = self.needs().iter();
        needs.filter(|need| !acl::is_read(need.action)).collect()
    }

    /// Judges all of `needs` that concern this bucket.
    ///
    /// # Errors
    /// AccessDenied, also if nothing was asked of the bucket: then nobody thought about it.
    fn authorize<'n>(
        &self,
        caller: &Caller,
        bucket: &Bucket,
        needs: impl IntoIterator<Item = &'n Need>,
    ) -> Result<()> {
        match self.judge_all(caller, bucket, needs) {
            Verdict::Allowed => Ok(()),
            Verdict::ByObject | Verdict::Denied => Err(denied()),
        }
    }

    /// As [`Call::authorize`] for all that the operation needs. Under the very settings of the admission that is known.
    fn authorize_all(&self, caller: &Caller, bucket: &Arc<Bucket>) -> Result<()> {
        if self.was_admitted(caller, bucket) {
            return Ok(());
        }
        self.authorize(caller, bucket, self.needs())
    }

    /// Whether this caller was allowed everything when it was admitted, and nothing changed since: a judgement depends on
    /// nothing but the request, the caller's settings and the bucket's.
    fn was_admitted(&self, caller: &Caller, bucket: &Arc<Bucket>) -> bool {
        let admitted = self.admitted.get();
        caller.actor == self.caller.actor && admitted.is_some_and(|admitted| Arc::ptr_eq(admitted, bucket))
    }

    fn judge_all<'n>(
        &self,
        caller: &Caller,
        bucket: &Bucket,
        needs: impl IntoIterator<Item = &'n Need>,
    ) -> Verdict {
        let of_bucket = needs.into_iter().filter(|need| need.bucket == bucket.row.name);
        let verdicts = of_bucket.map(|need| judge(&self.request, caller, Some(bucket), need, None));
        let worst = verdicts.reduce(|one, other| match (one, other) {
            (Verdict::Denied, _) | (_, Verdict::Denied) => Verdict::Denied,
            (Verdict::ByObject, _) | (_, Verdict::ByObject) => Verdict::ByObject,
            (Verdict::Allowed, Verdict::Allowed) => Verdict::Allowed,
        });
        worst.unwrap_or(Verdict::Denied)
    }

    /// The bucket of this name, whoever asks.
    ///
    /// # Errors
    /// NoSuchBucket; AccessDenied for another owner's than the client expects.
    async fn look_up(&self, name: &str, expected_owner: Option<&str>) -> Result<Arc<Bucket>> {
        let found = self.store.directory().bucket(name).await;
        let bucket = found.map_err(|error| match error {
            Error::Rejected(Rejection::NoSuchBucket) => no_such_bucket(name),
            other => s3_error(other),
        })?;
        check_owner(expected_owner, &bucket)?;
        Ok(bucket)
    }

    /// The bucket of this name, if the caller may do there what the operation does.
    ///
    /// # Errors
    /// NoSuchBucket; AccessDenied.
    pub(super) async fn bucket(&self, name: &str) -> Result<Arc<Bucket>> {
        let bucket = self.look_up(name, self.expected_owner.as_deref()).await?;
        self.authorize_all(&self.caller, &bucket)?;
        Ok(bucket)
    }

    /// Refuses early where there is no such bucket, for operations whose needs their documents say.
    ///
    /// # Errors
    /// NoSuchBucket; AccessDenied for another owner's than the client expects.
    pub(super) async fn require_bucket(&self, name: &str) -> Result<()> {
        self.look_up(name, self.expected_owner.as_deref()).await.map(drop)
    }

    /// Refuses early what is refused anyway: before a body is asked for. What is allowed here is judged again if the
    /// settings are others by the time that the command names them.
    ///
    /// # Errors
    /// NoSuchBucket; AccessDenied.
    pub(super) async fn admit(&self) -> Result<()> {
        let Some(first) = self.needs().first() else {
            return Ok(());
        };
        let bucket = self
            .look_up(&first.bucket, self.expected_owner.as_deref())
            .await?;
        match self.judge_all(&self.caller, &bucket, self.needs()) {
            Verdict::Allowed => {
                // A call is admitted once.
                let _ = self.admitted.set(bucket);
                Ok(())
            }
            Verdict::ByObject => Ok(()),
            Verdict::Denied => Err(denied()),
        }
    }

    /// Judges a need that showed only while the operation was done.
    ///
    /// # Errors
    /// AccessDenied.
    pub(super) fn require(&self, caller: &Caller, bucket: &Bucket, need: &Need) -> Result<()> {
        self.authorize(caller, bucket, [need])
    }

    /// Whether the caller may list a bucket: who may not is not told which buckets and keys there are.
    pub(super) async fn may_list(&self, name: &str) -> Result<bool> {
        let bucket = self.look_up(name, None).await?;
        let need = Need::bucket(Action::ListBucket, name);
        Ok(self.authorize(&self.caller, &bucket, &[need]).is_ok())
    }

    /// Refuses anonymous callers, before their body is asked for.
    ///
    /// # Errors
    /// AccessDenied.
    pub(super) fn require_identity(&self) -> Result<()> {
        if self.caller.is_anonymous() {
            Err(denied())
        } else {
            Ok(())
        }
    }

    /// Whether the caller may see all buckets, or only those that it may list.
    ///
    /// # Errors
    /// AccessDenied for anonymous callers.
    pub(super) fn may_see_all_buckets(&self) -> Result<bool> {
        let need = Need::bucket(Action::ListAllMyBuckets, "");
        self.require_identity()?;
        Ok(judge(&self.request, &self.caller, None, &need, None) == Verdict::Allowed)
    }

    /// `error`, or AccessDenied in place of "there is no such object" for a caller who may not list the buckets that
    /// the operation is about.
    pub(super) async fn without_absence(&self, error: S3Error) -> S3Error {
        self.without_absence_from(self.needs(), error).await
    }

    /// As [`Call::without_absence`], for needs that the handler found.
    pub(super) async fn without_absence_from(&self, needs: &[Need], error: S3Error) -> S3Error {
        // MethodNotAllowed: what was asked for is a delete marker.
        let absent = [
            ErrorCode::NoSuchKey,
            ErrorCode::NoSuchVersion,
            ErrorCode::MethodNotAllowed,
        ];
        if !absent.contains(&error.code()) {
            return error;
        }
        for need in needs {
            match self.may_list(&need.bucket).await {
                Ok(true) => {}
                Ok(false) => return denied(),
                Err(other) => return other,
            }
        }
        error
    }

    /// The caller as it is now, after its settings changed under a decision.
    async fn caller_now(&self) -> Result<Caller> {
        match self.access_key {
            Some(access_key) => Ok(identify(self.shared, self.store, access_key).await?.caller()),
            None => Ok(Caller::anonymous()),
        }
    }

    /// Looks up and authorizes again, after the settings of the caller or of the bucket changed under a
    /// decision.
    ///
    /// # Errors
    /// As the request itself would have been refused.
    pub(super) async fn decide_anew(&self, bucket: &str) -> Result<(Caller, Arc<Bucket>)> {
        let caller = self.caller_now().await?;
        let bucket = self.look_up(bucket, self.expected_owner.as_deref()).await?;
        self.authorize(&caller, &bucket, self.writes())?;
        Ok((caller, bucket))
    }

    /// As [`Call::decided`], for making a bucket: `needs` are judged without one.
    pub(super) async fn decided_without_bucket<T, F>(
        &self,
        needs: &[Need],
        act: impl Fn(Actor) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let allowed = |caller: &Caller| {
            let verdicts = needs
                .iter()
                .map(|need| judge(&self.request, caller, None, need, None));
            let is_allowed = verdicts.fold(!needs.is_empty(), |all, it| all && it == Verdict::Allowed);
            is_allowed
                .then_some(caller.actor)
                .ok_or_else(|| PutError::Refused(denied()))
        };
        let mut actor = allowed(&self.caller)?;
        for _ in 0..STALE_SETTINGS_RETRIES {
            match act(actor).await {
                Err(PutError::Failed(Error::StaleSettings)) => {}
                other => return other,
            }
            let caller = self.caller_now().await.map_err(PutError::Refused)?;
            actor = allowed(&caller)?;
        }
        act(actor).await
    }

    /// Lets `act` decide under the present settings, and again when they changed under it, within bounds.
    ///
    /// # Errors
    /// What `act` fails with, and what looking up the bucket does.
    pub(super) async fn decided<T, F>(
        &self,
        bucket: &str,
        act: impl Fn(Actor, Arc<Bucket>) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let judged = |caller: &Caller, bucket: &Arc<Bucket>| self.authorize_all(caller, bucket);
        self.under_settings(bucket, judged, |caller, bucket, ()| act(caller.actor, bucket))
            .await
    }

    /// As [`Call::decided`], with needs that only the body or the store tells.
    pub(super) async fn decided_needing<T, F>(
        &self,
        bucket: &str,
        needs: &[Need],
        act: impl Fn(Actor, Arc<Bucket>) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let judged = |caller: &Caller, bucket: &Arc<Bucket>| self.authorize(caller, bucket, needs);
        self.under_settings(bucket, judged, |caller, bucket, ()| act(caller.actor, bucket))
            .await
    }

    /// As [`Call::decided`], for writes that also read elsewhere: `act` needs to know who asks.
    pub(super) async fn decided_as<T, F>(
        &self,
        bucket: &str,
        act: impl Fn(Caller, Arc<Bucket>) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let writes = self.writes();
        let judged =
            |caller: &Caller, bucket: &Arc<Bucket>| self.authorize(caller, bucket, writes.iter().copied());
        self.under_settings(bucket, judged, |caller, bucket, ()| act(caller, bucket))
            .await
    }

    async fn under_settings<T, J, F>(
        &self,
        bucket: &str,
        judged: impl Fn(&Caller, &Arc<Bucket>) -> Result<J>,
        act: impl Fn(Caller, Arc<Bucket>, J) -> F,
    ) -> std::result::Result<T, PutError<S3Error>>
    where
        F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
    {
        let expected_owner = self.expected_owner.as_deref();
        let mut caller = self.caller.clone();
        let mut tries = 0;
        loop {
            let row = self
                .look_up(bucket, expected_owner)
                .await
                .map_err(PutError::Refused)?;
            let judgement = judged(&caller, &row).map_err(PutError::Refused)?;
            match act(caller, row, judgement).await {
                Err(PutError::Failed(Error::StaleSettings)) if tries < STALE_SETTINGS_RETRIES => tries += 1,
                other => return other,
            }
            caller = self.caller_now().await.map_err(PutError::Refused)?;
        }
    }
}
