//! What operators ask and change: users, keys, classes, and what the FAT says.

use super::Store;
use crate::error::Error;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::rows::{ClassRow, CopyPlace, LeaseRow, LeaseVendorRow, RoomRow, VendorRow};
use ullage_model::ids::{CopyId, UserId, VendorId};
use ullage_model::limits::LIST_PAGE_KEYS_MAX;
use ullage_model::namespace::rows::{BucketRow, Quota, UserPolicy, UserRow, VersionRow};
use ullage_model::wire::enrol::{InviteRequest, JoinToken};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{Answer, Query, StatusReply, UserObjectsAfter};

/// A page of a user's objects: (bucket name, key, version), and where to go on.
pub type UserObjects = (Vec<(String, String, VersionRow)>, Option<UserObjectsAfter>);

impl Store {
    /// Makes a user with its first access key, whose secret is sealed under the KEK.
    ///
    /// # Errors
    /// `Rejected(UserExists)`, or that the metadata service does not answer.
    pub async fn create_user(
        &self,
        name: &str,
        policy: UserPolicy,
        access_key: &str,
        secret: &str,
    ) -> Result<UserId, Error> {
        let around = &self.engine.around;
        let command = SessionCommand::CreateUser {
            name: name.to_owned(),
            policy,
            access_key: access_key.to_owned(),
            sealed_secret: around.kek.seal_secret(access_key, secret, &*around.random),
        };
        let reply = self.submit(command, None).await?;
        expect_answer!(reply, Reply::User(user) => user, "create user")
    }

    /// Changes what a user may do. This gateway knows at once, others within [`crate::limits::SETTINGS_KEPT`] for
    /// reads, and for writes at once too.
    ///
    /// # Errors
    /// `Rejected(NoSuchUser)`, or that the metadata service does not answer.
    pub async fn set_user_policy(&self, user: UserId, policy: UserPolicy) -> Result<(), Error> {
        let command = SessionCommand::SetUserPolicy { user, policy };
        let set = self.submit(command, None).await;
        self.engine.directory.forget_user(user);
        expect_answer!(set?, Reply::Done => (), "set a user's policy")
    }

    /// Deletes an access key.
    ///
    /// # Errors
    /// `Rejected(NoSuchAccessKey)`, or that the metadata service does not answer.
    pub async fn delete_access_key(&self, access_key: &str) -> Result<(), Error> {
        let command = SessionCommand::DeleteAccessKey {
            access_key: access_key.to_owned(),
        };
        let deleted = self.submit(command, None).await;
        self.engine.directory.forget_access_key(access_key);
        expect_answer!(deleted?, Reply::Done => (), "delete access key")
    }

    /// All users.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn users(&self) -> Result<Vec<UserRow>, Error> {
        expect_answer!(self.query(Query::Users).await?, Answer::Users(users) => users, "users")
    }

    /// Which of these names no user has; of any number of names.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn without_user(&self, names: Vec<String>) -> Result<Vec<String>, Error> {
        let mut unknown = Vec::new();
        for names in names.chunks(LIST_PAGE_KEYS_MAX) {
            let answer = self.query(Query::UsersNamed(names.to_vec())).await?;
            let known = expect_answer!(answer, Answer::UsersNamed(known) => known, "users")?;
            let named = names.iter().zip(known);
            unknown.extend(named.filter(|(_, known)| !known).map(|(name, _)| name.clone()));
        }
        Ok(unknown)
    }

    /// All access keys with their users.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn access_keys(&self) -> Result<Vec<(String, UserId)>, Error> {
        expect_answer!(self.query(Query::AccessKeys).await?, Answer::AccessKeys(keys) => keys, "access keys")
    }

    /// Open and closing leases of the cluster with their rows.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn leases(&self) -> Result<Vec<(LeaseRow, Vec<(VendorId, LeaseVendorRow)>)>, Error> {
        expect_answer!(self.query(Query::Leases).await?, Answer::Leases(leases) => leases, "leases")
    }

    /// Vendors with their rooms by device class.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn vendors(&self) -> Result<Vec<(VendorRow, Vec<(String, RoomRow)>)>, Error> {
        expect_answer!(self.query(Query::Vendors).await?, Answer::Vendors(vendors) => vendors, "vendors")
    }

    /// All classes.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn classes(&self) -> Result<Vec<ClassRow>, Error> {
        expect_answer!(self.query(Query::Classes).await?, Answer::Classes(classes) => classes, "classes")
    }

    /// The FAT of one user's objects. See `Query::UserObjects`.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn user_objects(
        &self,
        user: UserId,
        after: Option<UserObjectsAfter>,
        limit: usize,
    ) -> Result<UserObjects, Error> {
        let answer = self.query(Query::UserObjects { user, after, limit }).await?;
        expect_answer!(answer, Answer::UserObjects(rows, next) => (rows, next), "a user's objects")
    }

    /// Copies that the FAT says a vendor holds, in the order of their names, those after `after`; and whether there
    /// are more.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn copies(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> Result<(Vec<(CopyId, CopyPlace)>, bool), Error> {
        let query = Query::Copies { vendor, after, limit };
        expect_answer!(self.query(query).await?, Answer::Copies(copies, more) => (copies, more), "copies")
    }

    /// Makes or changes a class, and takes it over.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn set_class(&self, class: ClassRow) -> Result<(), Error> {
        self.operate(Command::SetClass(class), "set class").await
    }

    async fn operate(&self, command: Command, what: &'static str) -> Result<(), Error> {
        match self.engine.around.metad.operate(command).await? {
            Reply::Done => self.refresh().await,
            Reply::Refused(rejection) => Err(rejection.into()),
            _ => Err(Error::UnexpectedAnswer(what)),
        }
    }

    /// Tells or changes the metadata service's own members.
    ///
    /// # Errors
    /// A refusal; `OutcomeUnknown` when a change may have been made; or that the service does not answer.
    pub async fn members(&self, request: MembersRequest) -> Result<MembersReply, Error> {
        Ok(self.engine.around.metad.members(request).await?)
    }

    /// Makes a token with which one vendor may join within `life_ms` of cluster time.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn invite(&self, life_ms: u64) -> Result<JoinToken, Error> {
        let request = InviteRequest { life_ms };
        Ok(self.engine.around.metad.invite(request).await?.token)
    }

    /// Shuts a vendor out, for good.
    ///
    /// # Errors
    /// `Rejected(NoSuchVendor)`, or that the metadata service does not answer.
    pub async fn revoke_vendor(&self, vendor: VendorId) -> Result<(), Error> {
        self.operate(Command::RevokeVendor { vendor }, "revoke vendor")
            .await
    }

    /// Sets what a bucket may hold.
    ///
    /// # Errors
    /// `Rejected(NoSuchBucket)`, or that the metadata service does not answer.
    pub async fn set_quota(&self, bucket: &BucketRow, quota: Quota) -> Result<(), Error> {
        let command = SessionCommand::SetBucketQuota {
            bucket: bucket.bucket,
            quota,
        };
        let set = self.submit(command, None).await;
        self.engine.directory.forget_bucket(&bucket.name);
        expect_answer!(set?, Reply::Done => (), "set a quota")
    }

    /// State of the metadata service.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<StatusReply, Error> {
        Ok(self.engine.around.metad.status().await?)
    }
}
