//! Buckets and users as cached by this gateway. Absence is never cached. What a cached entry decides is checked
//! again by every command, which names the versions of the settings; reads name none, so entries are looked up
//! again after a while.

use crate::error::Error;
use crate::keeper::Keeper;
use crate::limits::{CACHED_DOCUMENT_BYTES, CACHED_SETTINGS, SETTINGS_KEPT};
use crate::policy::{Policy, PolicyKind};
use crate::s3::cors::CorsRules;
use crate::session::Surroundings;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tracing::{error, warn};
use ullage_model::command::{Actor, BucketRef};
use ullage_model::ids::{BucketId, UserId};
use ullage_model::namespace::rows::{BucketDocumentKind, BucketRow, UserPolicy, UserRow};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{Answer, BucketSettings, Query};
use zeroize::Zeroizing;

/// A user as known by one of its access keys.
pub struct User {
    /// Its row.
    pub row: UserRow,
    /// The secret that belongs to the access key.
    pub secret: Zeroizing<String>,
    document: Option<Readable>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.row.user)
    }
}

impl User {
    fn new(row: UserRow, secret: Zeroizing<String>) -> Self {
        let document = match &row.policy {
            UserPolicy::Document(text) => Some(Readable::new(text, PolicyKind::User, &row.name)),
            UserPolicy::ReadWrite | UserPolicy::ReadOnly | UserPolicy::None => None,
        };
        Self {
            row,
            secret,
            document,
        }
    }

    /// Its policy, if it has any.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        match &self.row.policy {
            UserPolicy::ReadWrite => Some(Policy::read_write()),
            UserPolicy::ReadOnly => Some(Policy::read_only()),
            UserPolicy::None => None,
            UserPolicy::Document(_) => self.document.as_ref().map(Readable::policy),
        }
    }

    /// What commands name.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor {
            user: self.row.user,
            settings_version: self.row.settings_version,
        }
    }
}

/// What commands name of a bucket.
#[must_use]
pub fn bucket_ref(row: &BucketRow) -> BucketRef {
    BucketRef {
        bucket: row.bucket,
        settings_version: row.settings_version,
    }
}

/// A bucket: its row, and the documents by which requests are judged.
#[derive(Debug)]
pub struct Bucket {
    /// Its row.
    pub row: BucketRow,
    /// Its CORS rules.
    pub cors: Option<CorsRules>,
    policy: Option<Readable>,
    policy_is_public: bool,
}

/// A policy as it was stored, read once. What cannot be read shuts everybody out but root, who can replace it.
#[derive(Debug)]
enum Readable {
    Policy(Policy),
    Unreadable,
}

impl Readable {
    fn new(text: &str, kind: PolicyKind<'_>, whose: &str) -> Self {
        match Policy::parse(text, kind) {
            Ok(policy) => Self::Policy(policy),
            Err(error) => {
                error!(%error, whose, "a stored policy cannot be read and denies everything");
                Self::Unreadable
            }
        }
    }

    fn policy(&self) -> &Policy {
        match self {
            Self::Policy(policy) => policy,
            Self::Unreadable => Policy::deny_everything(),
        }
    }
}

impl Bucket {
    fn new(settings: BucketSettings) -> Self {
        let BucketSettings { row, documents } = settings;
        let (mut cors, mut policy) = (None, None);
        for (kind, text) in documents {
            match kind {
                BucketDocumentKind::Cors => cors = read_cors(&row, &text),
                BucketDocumentKind::Policy => {
                    policy = Some(Readable::new(&text, PolicyKind::Bucket(&row.name), &row.name));
                }
                // Requests are not judged by it, so it does not come along.
                BucketDocumentKind::Tagging => {}
            }
        }
        let policy_is_public = policy.as_ref().is_some_and(|policy| policy.policy().is_public());
        Self {
            row,
            cors,
            policy,
            policy_is_public,
        }
    }

    /// Whether its policy would let in the public, and its settings do not let it: then the policy grants anonymous
    /// callers nothing.
    #[must_use]
    pub fn keeps_out_public(&self) -> bool {
        let block = self.row.access.block.unwrap_or_default();
        block.restrict_public_buckets && self.policy_is_public
    }

    /// Its policy, as of the row's settings version.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref().map(Readable::policy)
    }
}

/// Rules that this gateway cannot read, because a newer one wrote them, allow nothing.
fn read_cors(row: &BucketRow, text: &str) -> Option<CorsRules> {
    let read = CorsRules::parse(text.as_bytes());
    read.inspect_err(|error| warn!(bucket = row.name, %error, "a bucket's CORS rules cannot be read"))
        .ok()
}

impl Deref for Bucket {
    type Target = BucketRow;

    fn deref(&self) -> &BucketRow {
        &self.row
    }
}

#[derive(Debug)]
struct Cached<T> {
    at: Duration,
    entry: Arc<T>,
    document_bytes: usize,
}

#[derive(Debug)]
struct Entries<T> {
    by_name: HashMap<String, Cached<T>>,
    /// Of all entries together.
    document_bytes: usize,
    /// Raised whenever something is known to have changed: what was asked for before is not kept.
    changes: u64,
}

/// When a look-up began: its answer is as old as that, and may be overtaken by a change.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Duration,
    changes: u64,
}

impl<T> Entries<T> {
    fn retain(&mut self, is_kept: impl Fn(&Cached<T>) -> bool) {
        self.by_name.retain(|_, cached| is_kept(cached));
        self.document_bytes = self.by_name.values().map(|cached| cached.document_bytes).sum();
    }

    fn remove(&mut self, name: &str) {
        if let Some(gone) = self.by_name.remove(name) {
            self.document_bytes -= gone.document_bytes;
        }
    }

    fn fits(&self, document_bytes: usize) -> bool {
        self.by_name.len() < CACHED_SETTINGS
            && self.document_bytes.saturating_add(document_bytes) <= CACHED_DOCUMENT_BYTES
    }
}

/// What was looked up lately, bounded in entries and in bytes of their documents.
#[derive(Debug)]
struct Cache<T>(RwLock<Entries<T>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(RwLock::new(Entries {
            by_name: HashMap::new(),
            document_bytes: 0,
            changes: 0,
        }))
    }
}

impl<T> Cache<T> {
    fn get(&self, name: &str, now: Duration) -> Option<Arc<T>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let cached = entries.by_name.get(name)?;
        (now.saturating_sub(cached.at) < SETTINGS_KEPT).then(|| Arc::clone(&cached.entry))
    }

    fn asked(&self, at: Duration) -> Asked {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Asked {
            at,
            changes: entries.changes,
        }
    }

    fn put(&self, name: &str, asked: Asked, entry: T, document_bytes: usize) -> Arc<T> {
        let (entry, at) = (Arc::new(entry), asked.at);
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = entries.by_name.get(name).is_some_and(|cached| cached.at > at);
        if asked.changes != entries.changes || is_newer {
            return entry;
        }
        entries.remove(name);
        if !entries.fits(document_bytes) {
            entries.retain(|cached| at.saturating_sub(cached.at) < SETTINGS_KEPT);
        }
        if entries.fits(document_bytes) {
            let cached = Cached {
                at,
                entry: Arc::clone(&entry),
                document_bytes,
            };
            entries.by_name.insert(name.to_owned(), cached);
            entries.document_bytes += document_bytes;
        }
        entry
    }

    /// It is not there.
    fn remove(&self, name: &str) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(name);
    }

    /// It changed.
    fn forget_name(&self, name: &str) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.changes += 1;
        entries.remove(name);
    }

    /// These changed.
    fn forget(&self, is_meant: impl Fn(&T) -> bool) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.changes += 1;
        entries.retain(|cached| !is_meant(&cached.entry));
    }
}

/// Cached settings.
#[derive(Debug)]
pub struct Directory {
    around: Arc<Surroundings>,
    keeper: Arc<Keeper>,
    buckets: Cache<Bucket>,
    users: Cache<User>,
}

impl Directory {
    /// Nothing cached yet.
    #[must_use]
    pub fn new(around: Arc<Surroundings>, keeper: Arc<Keeper>) -> Self {
        Self {
            around,
            keeper,
            buckets: Cache::default(),
            users: Cache::default(),
        }
    }

    /// The bucket of this name.
    ///
    /// # Errors
    /// `Rejected(NoSuchBucket)`, or when the metadata service does not answer.
    pub async fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Error> {
        match self.buckets.get(name, self.around.clock.monotonic()) {
            Some(bucket) => Ok(bucket),
            None => self.look_up_bucket(name).await,
        }
    }

    /// Whether `row` is still the bucket of its name; the cache is fresh afterwards.
    ///
    /// # Errors
    /// `Rejected(NoSuchBucket)` when there is none of that name any more, `StaleSettings` when it is another one.
    pub async fn confirm_bucket(&self, row: &BucketRow) -> Result<(), Error> {
        let now = self.look_up_bucket(&row.name).await?;
        if now.bucket == row.bucket {
            Ok(())
        } else {
            Err(Error::StaleSettings)
        }
    }

    /// The user of this access key, with the key's secret.
    ///
    /// # Errors
    /// `Rejected(NoSuchAccessKey)`; when the secret was sealed under another key; or when the metadata service
    /// does not answer.
    pub async fn user(&self, access_key: &str) -> Result<Arc<User>, Error> {
        if let Some(user) = self.users.get(access_key, self.around.clock.monotonic()) {
            return Ok(user);
        }
        let asked = self.users.asked(self.around.clock.monotonic());
        let query = Query::AccessKey(access_key.to_owned());
        let Answer::AccessKey(found) = self.keeper.session().query(query).await?.answer else {
            return Err(Error::UnexpectedAnswer("an access key"));
        };
        let Some((key_row, row)) = found else {
            self.users.remove(access_key);
            return Err(Rejection::NoSuchAccessKey.into());
        };
        let secret = self.around.kek.open_secret(access_key, &key_row.sealed_secret)?;
        let document_bytes = match &row.policy {
            UserPolicy::Document(text) => text.len(),
            UserPolicy::ReadWrite | UserPolicy::ReadOnly | UserPolicy::None => 0,
        };
        let user = User::new(row, secret);
        Ok(self.users.put(access_key, asked, user, document_bytes))
    }

    /// Settings of one of these changed: they are looked up afresh next time.
    pub fn forget(&self, user: UserId, bucket: BucketId) {
        self.buckets.forget(|it| it.row.bucket == bucket);
        self.users.forget(|it| it.row.user == user);
    }

    /// The user changed.
    pub fn forget_user(&self, user: UserId) {
        self.users.forget(|it| it.row.user == user);
    }

    /// The bucket of this name changed or went.
    pub fn forget_bucket(&self, name: &str) {
        self.buckets.forget_name(name);
    }

    /// The access key changed or went.
    pub fn forget_access_key(&self, access_key: &str) {
        self.users.forget_name(access_key);
    }

    async fn look_up_bucket(&self, name: &str) -> Result<Arc<Bucket>, Error> {
        let asked = self.buckets.asked(self.around.clock.monotonic());
        let query = Query::Bucket(name.to_owned());
        let Answer::Bucket(found) = self.keeper.session().query(query).await?.answer else {
            return Err(Error::UnexpectedAnswer("a bucket"));
        };
        let Some(settings) = found else {
            self.buckets.remove(name);
            return Err(Rejection::NoSuchBucket.into());
        };
        let document_bytes = settings.documents.iter().map(|(_, text)| text.len()).sum();
        let bucket = Bucket::new(settings);
        Ok(self.buckets.put(name, asked, bucket, document_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Cache};
    use std::time::Duration;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_that_a_change_overtook_is_used_once_and_not_kept() {
        let cache = Cache::<u8>::default();
        let asked = cache.asked(Duration::ZERO);
        cache.forget_name("bucket");
        assert_eq!(*cache.put("bucket", asked, 1, 0), 1);
        assert_eq!(cache.get("bucket", SOON), None);
        let asked = cache.asked(SOON);
        cache.put("bucket", asked, 2, 0);
        // One that was asked for before comes late.
        let earlier = Asked {
            at: Duration::ZERO,
            ..asked
        };
        cache.put("bucket", earlier, 1, 0);
        assert_eq!(cache.get("bucket", SOON).as_deref(), Some(&2));
        cache.remove("other");
        let asked = cache.asked(SOON);
        cache.remove("another");
        cache.put("kept", asked, 3, 0);
        assert_eq!(
            cache.get("kept", SOON).as_deref(),
            Some(&3),
            "absence is no change"
        );
    }
}
