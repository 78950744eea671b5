//! What each route of the admin API answers.

use super::error::{AdminError, Result};
use super::views::{
    Class, ClassRule, Copies, FatChunk, FatCopyName, FatObject, Key, KeyDeleted, Lease, LocalFatCopy,
    NewPolicy, NewUser, Path, Room, Status, User, UserMade, UserObject, UserObjects, UserPolicyView, Vendor,
};
use super::{AdminApi, Call};
use super::{buckets, members};
use crate::audit::{AUDIT, AuditLine};
use crate::get::ObjectName;
use crate::ops::{ANONYMOUS_NAME, ROOT_NAME};
use crate::server::limits::{ADMIN_PAGE_COPIES, ADMIN_PAGE_OBJECTS, FAT_CHUNKS_SHOWN_MAX};
use futures::StreamExt as _;
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::info;
use ullage_model::ids::{CopyId, UserId, VendorId, VersionId, VersionName};
use ullage_model::limits::NAME_BYTES_MAX;
use ullage_model::namespace::rows::UserRow;
use ullage_model::wire::metad::UserObjectsAfter;

/// Vendors asked at once for the places of their devices.
const VENDORS_ASKED: usize = 32;
/// Shortest secret key.
const SECRET_BYTES_MIN: usize = 8;
/// Shortest access key.
const ACCESS_KEY_BYTES_MIN: usize = 3;

/// A route of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Status,
    Vendors,
    RevokeVendor(VendorId),
    Invite,
    Members,
    AddMember,
    RemoveMember(u64),
    TransferLeadership,
    LocalFat(VendorId),
    FatOfVendor(VendorId),
    FatOfObject,
    FatOfUser,
    Classes,
    SetClass(String),
    Leases,
    Paths,
    Users,
    CreateUser,
    PolicyOfUser,
    SetPolicyOfUser,
    Keys,
    DeleteKey(String),
    Buckets,
    Bucket(String),
    SetQuota(String),
}

/// Every route of the API, by method and path, `{}` standing for one name or number: none that is missing here is
/// answered. All are the root user's, but for [`USER_ROUTES`].
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/status"),
    ("GET", "/v1/vendors"),
    ("POST", "/v1/vendors/{}/revoke"),
    ("GET", "/v1/vendors/{}/copies"),
    ("POST", "/v1/invitations"),
    ("GET", "/v1/metad"),
    ("POST", "/v1/metad"),
    ("DELETE", "/v1/metad/{}"),
    ("POST", "/v1/metad/transfer"),
    ("GET", "/v1/fat/vendor/{}"),
    ("GET", "/v1/fat/object"),
    ("GET", "/v1/fat/user"),
    ("GET", "/v1/classes"),
    ("PUT", "/v1/classes/{}"),
    ("GET", "/v1/leases"),
    ("GET", "/v1/paths"),
    ("GET", "/v1/users"),
    ("POST", "/v1/users"),
    ("GET", "/v1/users/policy"),
    ("PUT", "/v1/users/policy"),
    ("GET", "/v1/keys"),
    ("DELETE", "/v1/keys/{}"),
    ("GET", "/v1/buckets"),
    ("GET", "/v1/buckets/{}"),
    ("PUT", "/v1/buckets/{}/quota"),
];

/// Those of [`ROUTES`] that answer every user, of what is the user's own.
pub const USER_ROUTES: &[(&str, &str)] = &[("GET", "/v1/fat/user")];

impl Route {
    /// Its line in [`ROUTES`].
    fn entry(&self) -> (&'static str, &'static str) {
        match self {
            Self::Status => ("GET", "/v1/status"),
            Self::Vendors => ("GET", "/v1/vendors"),
            Self::RevokeVendor(_) => ("POST", "/v1/vendors/{}/revoke"),
            Self::Invite => ("POST", "/v1/invitations"),
            Self::Members => ("GET", "/v1/metad"),
            Self::AddMember => ("POST", "/v1/metad"),
            Self::RemoveMember(_) => ("DELETE", "/v1/metad/{}"),
            Self::TransferLeadership => ("POST", "/v1/metad/transfer"),
            Self::LocalFat(_) => ("GET", "/v1/vendors/{}/copies"),
            Self::FatOfVendor(_) => ("GET", "/v1/fat/vendor/{}"),
            Self::FatOfObject => ("GET", "/v1/fat/object"),
            Self::FatOfUser => ("GET", "/v1/fat/user"),
            Self::Classes => ("GET", "/v1/classes"),
            Self::SetClass(_) => ("PUT", "/v1/classes/{}"),
            Self::Leases => ("GET", "/v1/leases"),
            Self::Paths => ("GET", "/v1/paths"),
            Self::Users => ("GET", "/v1/users"),
            Self::CreateUser => ("POST", "/v1/users"),
            Self::PolicyOfUser => ("GET", "/v1/users/policy"),
            Self::SetPolicyOfUser => ("PUT", "/v1/users/policy"),
            Self::Keys => ("GET", "/v1/keys"),
            Self::DeleteKey(_) => ("DELETE", "/v1/keys/{}"),
            Self::Buckets => ("GET", "/v1/buckets"),
            Self::Bucket(_) => ("GET", "/v1/buckets/{}"),
            Self::SetQuota(_) => ("PUT", "/v1/buckets/{}/quota"),
        }
    }
}

/// The route of a path: its first segment and the rest, decoded.
///
/// # Errors
/// 404 for other paths, 405 for other methods of known ones.
pub(super) fn route(method: &Method, first: Option<&str>, rest: Option<&str>) -> Result<Route> {
    let rest = rest.filter(|_| first == Some("v1")).unwrap_or("");
    let known = match rest.split_once('/').unwrap_or((rest, "")) {
        ("status", "") => Route::Status,
        ("vendors", "") => Route::Vendors,
        ("vendors", of) if of.ends_with("/copies") => {
            Route::LocalFat(vendor(of.trim_end_matches("/copies"))?)
        }
        ("vendors", of) if of.ends_with("/revoke") => {
            Route::RevokeVendor(vendor(of.trim_end_matches("/revoke"))?)
        }
        ("invitations", "") => Route::Invite,
        ("metad", "") if method == Method::POST => Route::AddMember,
        ("metad", "") => Route::Members,
        ("metad", "transfer") => Route::TransferLeadership,
        ("metad", node) => Route::RemoveMember(members::node(node)?),
        ("fat", "object") => Route::FatOfObject,
        ("fat", "user") => Route::FatOfUser,
        ("fat", of) if of.starts_with("vendor/") => {
            Route::FatOfVendor(vendor(of.trim_start_matches("vendor/"))?)
        }
        ("classes", "") => Route::Classes,
        ("classes", name) => Route::SetClass(name.to_owned()),
        ("leases", "") => Route::Leases,
        ("paths", "") => Route::Paths,
        ("users", "") if method == Method::POST => Route::CreateUser,
        ("users", "") => Route::Users,
        ("users", "policy") if method == Method::PUT => Route::SetPolicyOfUser,
        ("users", "policy") => Route::PolicyOfUser,
        ("buckets", "") => Route::Buckets,
        ("buckets", of) => match of.strip_suffix("/quota") {
            Some(name) => Route::SetQuota(name.to_owned()),
            None => Route::Bucket(of.to_owned()),
        },
        ("keys", "") => Route::Keys,
        ("keys", access_key) => Route::DeleteKey(access_key.to_owned()),
        _ => return Err(no_route()),
    };
    let entry = known.entry();
    if !ROUTES.contains(&entry) {
        return Err(no_route());
    }
    if method.as_str() == entry.0 {
        Ok(known)
    } else {
        let message = format!("this route takes {}", entry.0);
        Err(AdminError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            message,
        ))
    }
}

fn no_route() -> AdminError {
    AdminError::not_found("there is no such route")
}

fn vendor(text: &str) -> Result<VendorId> {
    text.parse()
        .map(VendorId)
        .map_err(|_| AdminError::invalid(format!("{text:?} is not a vendor's number")))
}

impl AdminApi {
    /// Does what is asked, and answers with a JSON document.
    pub(super) async fn handle(&self, route: Route, call: &Call) -> Result<Vec<u8>> {
        if !USER_ROUTES.contains(&route.entry()) {
            call.require_root()?;
        }
        match route {
            Route::Status => json(&self.status(call).await?),
            Route::Vendors => json(&self.vendors(call).await?),
            Route::RevokeVendor(vendor) => json(&members::revoke(call, vendor).await?),
            Route::Invite => json(&members::invite(call).await?),
            Route::Members => json(&members::list(call).await?),
            Route::AddMember => json(&members::add(call).await?),
            Route::RemoveMember(node) => json(&members::remove(call, node).await?),
            Route::TransferLeadership => json(&members::transfer(call).await?),
            Route::LocalFat(vendor) => json(&self.local_fat(vendor, call).await?),
            Route::FatOfVendor(vendor) => json(&self.fat_of_vendor(vendor, call).await?),
            Route::FatOfObject => json(&self.fat_of_object(call).await?),
            Route::FatOfUser => json(&self.fat_of_user(call).await?),
            Route::Classes => {
                let rows = call.store.classes().await?;
                json(&rows.into_iter().map(Class::from).collect::<Vec<_>>())
            }
            Route::SetClass(name) => json(&self.set_class(name, call).await?),
            Route::Leases => json(&self.leases(call).await?),
            Route::Paths => {
                let paths = call.store.paths();
                json(&paths.into_iter().map(Path::from).collect::<Vec<_>>())
            }
            Route::Users => {
                let rows = call.store.users().await?;
                json(&rows.into_iter().map(User::from).collect::<Vec<_>>())
            }
            Route::CreateUser => json(&self.create_user(call).await?),
            Route::PolicyOfUser => {
                let row = user_named(call, call.required("user")?).await?;
                json(&UserPolicyView::from(row))
            }
            Route::SetPolicyOfUser => json(&set_policy(call).await?),
            Route::Keys => {
                let keys = call.store.access_keys().await?;
                json(&keys.into_iter().map(Key::from).collect::<Vec<_>>())
            }
            Route::Buckets => json(&buckets::list(call).await?),
            Route::Bucket(name) => json(&buckets::show(call, &name).await?),
            Route::SetQuota(name) => json(&buckets::set_quota(call, &name).await?),
            Route::DeleteKey(access_key) => {
                call.store.delete_access_key(&access_key).await?;
                json(&KeyDeleted { deleted: access_key })
            }
        }
    }

    async fn status(&self, call: &Call) -> Result<Status> {
        let vendors = call.store.vendors().await?;
        let rooms = vendors.iter().flat_map(|(_, rooms)| rooms);
        let room = rooms.fold(Room::default(), |sum, (_, row)| sum.plus(row));
        Ok(Status::new(&call.store.status().await?, room))
    }

    async fn vendors(&self, call: &Call) -> Result<Vec<Vendor>> {
        let rows = call.store.vendors().await?.into_iter();
        let shown = rows.map(|(row, rooms)| async move {
            let paths = self.local_fats.device_paths(row.vendor).await;
            Vendor::new(row, rooms, &paths)
        });
        Ok(futures::stream::iter(shown)
            .buffered(VENDORS_ASKED)
            .collect()
            .await)
    }

    async fn local_fat(&self, vendor: VendorId, call: &Call) -> Result<Copies<LocalFatCopy>> {
        let after = after_copy(call)?;
        let page = self.local_fats.copies(vendor, after, ADMIN_PAGE_COPIES).await?;
        Ok(Copies {
            copies: page.copies.into_iter().map(LocalFatCopy::from).collect(),
            next: page.next.map(copy_position),
        })
    }

    async fn fat_of_vendor(&self, vendor: VendorId, call: &Call) -> Result<Copies<FatCopyName>> {
        let after = after_copy(call)?;
        let (copies, more) = call.store.copies(vendor, after, ADMIN_PAGE_COPIES).await?;
        let last = copies.last().map(|(copy, _)| *copy);
        Ok(Copies {
            copies: copies.into_iter().map(|(copy, _)| copy.into()).collect(),
            next: last.filter(|_| more).map(copy_position),
        })
    }

    /// All chunks of an object, page by page of the table.
    async fn fat_of_object(&self, call: &Call) -> Result<FatObject> {
        let (bucket, key) = (call.required("bucket")?, call.required("key")?);
        let version = call.parameter("version").map(|text| {
            VersionName::parse(text).ok_or_else(|| AdminError::invalid("version does not name a version"))
        });
        let store = &call.store;
        let row = store.directory().bucket(bucket).await?;
        let name = ObjectName {
            bucket: row.bucket,
            key: key.to_owned(),
            version: version.transpose()?,
            request_id: 0,
        };
        let found = store.head(&row, &name).await?.found();
        let found = found
            .ok_or_else(|| AdminError::not_found(format!("there is no object {key:?} in bucket {bucket}")))?;
        let version = found.version;
        let mut shown = FatObject::new(bucket.to_owned(), key.to_owned(), &version);
        // What is inlined has no chunks.
        let mut offset = if version.content.is_inlined() {
            version.bytes
        } else {
            0
        };
        while offset < version.bytes {
            let spans = store.locate(&version, offset).await?;
            let end = spans
                .last()
                .map_or(offset, |span| span.offset.saturating_add(span.bytes));
            if end <= offset {
                let message = "the object was replaced while it was looked at; try again";
                return Err(AdminError::new(StatusCode::CONFLICT, "Conflict", message));
            }
            offset = end;
            shown.chunks.extend(spans.into_iter().filter_map(FatChunk::of));
            if shown.chunks.len() > FAT_CHUNKS_SHOWN_MAX {
                return Err(AdminError::invalid(format!(
                    "the object has more than {FAT_CHUNKS_SHOWN_MAX} chunks, too many to show at once"
                )));
            }
        }
        Ok(shown)
    }

    async fn fat_of_user(&self, call: &Call) -> Result<UserObjects> {
        let user = self.user_asked_for(call).await?;
        let after = call.parameter("after").map(|text| {
            objects_position(text)
                .ok_or_else(|| AdminError::invalid("after is not a position of this listing"))
        });
        let after = after.transpose()?;
        let (objects, next) = call.store.user_objects(user, after, ADMIN_PAGE_OBJECTS).await?;
        let shown = objects
            .into_iter()
            .map(|(bucket, key, version)| UserObject::new(bucket, key, version));
        Ok(UserObjects {
            objects: shown.collect(),
            next: next.map(|(bucket, within)| match within {
                Some((key, version)) => format!("{bucket}/{version}/{key}"),
                None => format!("{bucket}/"),
            }),
        })
    }

    /// Whose FAT is meant: the caller's own, unless the root user names another.
    async fn user_asked_for(&self, call: &Call) -> Result<UserId> {
        let (user, name) = (call.caller.actor.user, &call.name);
        match call.parameter("user") {
            None => Ok(user),
            Some(asked) if asked == name => Ok(user),
            Some(asked) => {
                call.require_root()?;
                Ok(user_named(call, asked).await?.user)
            }
        }
    }

    async fn set_class(&self, name: String, call: &Call) -> Result<Class> {
        let rule: ClassRule = document(call)?;
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let longest = crate::s3::limits::STORAGE_CLASS_BYTES_MAX;
        if name.is_empty() || name.len() > longest || !name.bytes().all(valid) {
            return Err(AdminError::invalid(format!(
                "a class's name is 1 to {longest} letters, digits, _ and -"
            )));
        }
        let row = rule.named(name);
        call.store.set_class(row.clone()).await?;
        let rows = call.store.classes().await?;
        let set = rows.into_iter().find(|known| known.name == row.name);
        Ok(set.unwrap_or(row).into())
    }

    async fn leases(&self, call: &Call) -> Result<Vec<Lease>> {
        let now = call.store.status().await?.cluster_time;
        let rows = call.store.leases().await?.into_iter();
        Ok(rows.map(|(row, of)| Lease::new(row, of, now)).collect())
    }

    async fn create_user(&self, call: &Call) -> Result<UserMade> {
        let new: NewUser = document(call)?;
        let secret = zeroize::Zeroizing::new(new.secret_key);
        check_name(&new.name)?;
        check_access_key(&new.access_key)?;
        let policy = new.policy.read()?;
        if secret.len() < SECRET_BYTES_MIN || secret.len() > NAME_BYTES_MAX {
            return Err(AdminError::invalid(format!(
                "a secret key has {SECRET_BYTES_MIN} to {NAME_BYTES_MAX} bytes"
            )));
        }
        if matches!(new.name.as_str(), ROOT_NAME | ANONYMOUS_NAME)
            || new.access_key == self.shared.root.access_key
        {
            return Err(AdminError::new(
                StatusCode::CONFLICT,
                "Refused",
                "the name or the access key is taken by the system",
            ));
        }
        // What the line of the request cannot say, because it stands in the document. Never the secret.
        let line = AuditLine::new(|outcome| {
            info!(
                target: AUDIT,
                user = call.name,
                made = new.name,
                access_key = new.access_key,
                outcome,
                "a user and its access key"
            );
        });
        let made = async {
            let store = &call.store;
            let made = store.create_user(&new.name, policy, &new.access_key, &secret);
            Ok(made.await?)
        };
        let user = line.during(made, |error: &AdminError| error.code).await?;
        Ok(UserMade {
            user: user.0,
            name: new.name,
            access_key: new.access_key,
        })
    }
}

async fn user_named(call: &Call, name: &str) -> Result<UserRow> {
    let users = call.store.users().await?;
    users
        .into_iter()
        .find(|row| row.name == name)
        .ok_or_else(|| AdminError::not_found(format!("there is no user {name:?}")))
}

/// Changes a user's policy, and answers what it is then.
async fn set_policy(call: &Call) -> Result<UserPolicyView> {
    let new: NewPolicy = document(call)?;
    let policy = new.policy.read()?;
    let row = user_named(call, &new.user).await?;
    let line = AuditLine::new(|outcome| {
        info!(target: AUDIT, user = call.name, of = row.name, outcome, "a user's policy");
    });
    let set = async { Ok(call.store.set_user_policy(row.user, policy.clone()).await?) };
    line.during(set, |error: &AdminError| error.code).await?;
    Ok(UserRow { policy, ..row }.into())
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(AdminError::invalid(format!(
            "a user's name has 1 to {NAME_BYTES_MAX} bytes and no control characters"
        )));
    }
    Ok(())
}

/// Access keys stand in headers, between slashes and commas.
fn check_access_key(access_key: &str) -> Result<()> {
    let longest = crate::s3::limits::ACCESS_KEY_BYTES_MAX;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let length = (ACCESS_KEY_BYTES_MIN..=longest).contains(&access_key.len());
    if length && access_key.bytes().all(valid) {
        return Ok(());
    }
    Err(AdminError::invalid(format!(
        "an access key has {ACCESS_KEY_BYTES_MIN} to {longest} letters, digits, _, - and ."
    )))
}

/// A copy as a place to go on in a listing.
/// The inverse of the position that a listing of a user's objects answers: `bucket/`, or `bucket/version/key`.
fn objects_position(text: &str) -> Option<UserObjectsAfter> {
    let (bucket, within) = text.split_once('/')?;
    let within = match within {
        "" => None,
        within => {
            let (version, key) = within.split_once('/')?;
            Some((key.to_owned(), VersionId::parse(version)?))
        }
    };
    Some((bucket.to_owned(), within))
}

fn copy_position(copy: CopyId) -> String {
    hex::encode(copy.to_bytes())
}

fn after_copy(call: &Call) -> Result<Option<CopyId>> {
    let Some(text) = call.parameter("after") else {
        return Ok(None);
    };
    let mut bytes = [0; CopyId::BYTES];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| AdminError::invalid("after is not a position of this listing"))?;
    Ok(Some(CopyId::from_bytes(&bytes)))
}

pub(super) fn document<T: DeserializeOwned>(call: &Call) -> Result<T> {
    serde_json::from_slice(&call.document)
        .map_err(|error| AdminError::invalid(format!("the document cannot be read: {error}")))
}

fn json<T: Serialize>(answer: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).map_err(|error| {
        tracing::error!(%error, "cannot write JSON");
        AdminError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "the answer cannot be written",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, expected: std::result::Result<Route, u16>) {
        let (first, rest) = path
            .split_once('/')
            .map_or((path, None), |(first, rest)| (first, Some(rest)));
        let got = route(&method, Some(first), rest).map_err(|error| error.status.as_u16());
        assert_eq!(got, expected, "{method} {path}");
    }

    #[test]
    fn routes_are_told_apart() {
        check(Method::GET, "v1/status", Ok(Route::Status));
        check(Method::POST, "v1/status", Err(405));
        check(
            Method::GET,
            "v1/vendors/12/copies",
            Ok(Route::LocalFat(VendorId(12))),
        );
        check(Method::GET, "v1/vendors/x/copies", Err(400));
        check(Method::GET, "v1/vendors/12", Err(404));
        check(
            Method::GET,
            "v1/fat/vendor/3",
            Ok(Route::FatOfVendor(VendorId(3))),
        );
        check(
            Method::POST,
            "v1/vendors/3/revoke",
            Ok(Route::RevokeVendor(VendorId(3))),
        );
        check(Method::GET, "v1/vendors/3/revoke", Err(405));
        check(Method::GET, "v1/metad", Ok(Route::Members));
        check(Method::POST, "v1/metad", Ok(Route::AddMember));
        check(Method::DELETE, "v1/metad/1f", Ok(Route::RemoveMember(31)));
        check(Method::DELETE, "v1/metad/node", Err(400));
        check(Method::POST, "v1/metad/transfer", Ok(Route::TransferLeadership));
        check(Method::POST, "v1/invitations", Ok(Route::Invite));
        check(Method::PUT, "v1/classes/COLD", Ok(Route::SetClass("COLD".into())));
        check(Method::GET, "v1/users", Ok(Route::Users));
        check(Method::POST, "v1/users", Ok(Route::CreateUser));
        check(Method::GET, "v1/users/policy", Ok(Route::PolicyOfUser));
        check(Method::PUT, "v1/users/policy", Ok(Route::SetPolicyOfUser));
        check(Method::DELETE, "v1/keys/AK", Ok(Route::DeleteKey("AK".into())));
        check(Method::GET, "v1", Err(404));
        check(Method::GET, "v2/status", Err(404));
        check(Method::GET, "v1/nothing", Err(404));
    }

    #[test]
    fn access_keys_can_stand_in_headers() {
        for good in ["abc", "AKIA0123", "a.b-c_d"] {
            assert!(check_access_key(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "a/b", "a b", "a,b", "a=b", "äbc", &"a".repeat(129)] {
            assert!(check_access_key(bad).is_err(), "{bad}");
        }
    }
}
