//! Buckets and users as cached by this gateway. Absence is never cached. What a cached entry decides is checked
//! again by every command, which names the versions of the settings; reads name none, so entries are looked up
//! again after a while.

use crate::error::Error;
use crate::keeper::Keeper;
use crate::limits::{CACHED_SETTINGS, SETTINGS_KEPT};
use crate::session::Surroundings;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use ullage_model::command::{Actor, BucketRef};
use ullage_model::ids::{BucketId, UserId};
use ullage_model::namespace::rows::{BucketRow, UserRow};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{Answer, Query};
use zeroize::Zeroizing;

/// A user as known by one of its access keys.
pub struct User {
    /// Its row.
    pub row: UserRow,
    /// The secret that belongs to the access key.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.row.user)
    }
}

impl User {
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

#[derive(Debug)]
struct Cache<T> {
    entries: RwLock<HashMap<String, (Duration, Arc<T>)>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
        }
    }
}

impl<T> Cache<T> {
    fn get(&self, name: &str, now: Duration) -> Option<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (at, entry) = entries.get(name)?;
        (now.saturating_sub(*at) < SETTINGS_KEPT).then(|| Arc::clone(entry))
    }

    fn put(&self, name: &str, now: Duration, entry: T) -> Arc<T> {
        let entry = Arc::new(entry);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CACHED_SETTINGS {
            entries.retain(|_, (at, _)| now.saturating_sub(*at) < SETTINGS_KEPT);
        }
        if entries.len() < CACHED_SETTINGS {
            entries.insert(name.to_owned(), (now, Arc::clone(&entry)));
        }
        entry
    }

    fn remove(&self, name: &str) {
        self.entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    fn forget(&self, is_meant: impl Fn(&T) -> bool) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, entry)| !is_meant(entry));
    }
}

/// Cached settings.
#[derive(Debug)]
pub struct Directory {
    around: Arc<Surroundings>,
    keeper: Arc<Keeper>,
    buckets: Cache<BucketRow>,
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
    pub async fn bucket(&self, name: &str) -> Result<Arc<BucketRow>, Error> {
        match self.buckets.get(name, self.around.clock.monotonic()) {
            Some(row) => Ok(row),
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
        let query = Query::AccessKey(access_key.to_owned());
        let Answer::AccessKey(found) = self.keeper.session().query(query).await?.answer else {
            return Err(Error::UnexpectedAnswer("an access key"));
        };
        let Some((key_row, row)) = found else {
            self.users.remove(access_key);
            return Err(Rejection::NoSuchAccessKey.into());
        };
        let secret = self.around.kek.open_secret(access_key, &key_row.sealed_secret)?;
        Ok(self
            .users
            .put(access_key, self.around.clock.monotonic(), User { row, secret }))
    }

    /// Settings of one of these changed: they are looked up afresh next time.
    pub fn forget(&self, user: UserId, bucket: BucketId) {
        self.buckets.forget(|row| row.bucket == bucket);
        self.users.forget(|it| it.row.user == user);
    }

    /// The bucket of this name changed or went.
    pub fn forget_bucket(&self, name: &str) {
        self.buckets.remove(name);
    }

    /// The access key changed or went.
    pub fn forget_access_key(&self, access_key: &str) {
        self.users.remove(access_key);
    }

    async fn look_up_bucket(&self, name: &str) -> Result<Arc<BucketRow>, Error> {
        let query = Query::Bucket(name.to_owned());
        let Answer::Bucket(row) = self.keeper.session().query(query).await?.answer else {
            return Err(Error::UnexpectedAnswer("a bucket"));
        };
        let Some(row) = row else {
            self.buckets.remove(name);
            return Err(Rejection::NoSuchBucket.into());
        };
        Ok(self.buckets.put(name, self.around.clock.monotonic(), row))
    }
}
