//! PostObject: an object that a form brings. Whoever signed the form's policy stores it, and may do no more than the
//! policy says; a form that nobody signed is an anonymous caller's.

use super::objects_write::store_object;
use super::{Call, Caller, Needs, RequestFacts, identify};
use crate::memory::Budget;
use crate::s3::answer::{CompleteAnswer, PostAnswer};
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::form::{FormFields, PostPolicy, check_head};
use crate::s3::limits::PUT_BYTES_MAX;
use crate::s3::names::check_bucket_name;
use crate::s3::{Authenticated, Credential, Endpoint, Head, Operation, Realm, Reply, UnixMs};
use crate::server::{FORM_MEMORY, Form, Progress, RequestBody, Shared, boundary};
use crate::store::Store;
use std::net::IpAddr;
use std::sync::OnceLock;

/// A form that nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct Posted<'a> {
    /// The gateway.
    pub(crate) shared: &'a Shared,
    /// The data path.
    pub(crate) store: &'a Store,
    /// The request's head, which says where the form goes and nothing else that acts.
    pub(crate) head: &'a Head<'a>,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// What its signature must be made for.
    pub(crate) realm: Realm<'a>,
    /// The server's time.
    pub(crate) now: UnixMs,
    /// Names the request in what happens behind it.
    pub(crate) request_id: u64,
    /// How far the request has come.
    pub(crate) progress: &'a Progress,
    /// Where its fields are held.
    pub(crate) memory: &'a Budget,
}

/// PostObject. The fields are read before anybody is known, since they say who it is: in bounded memory and time.
pub(crate) async fn post_object(posted: &Posted<'_>, body: &mut RequestBody) -> Result<Reply> {
    let Posted {
        shared, store, head, ..
    } = *posted;
    // First of all: what is no form is not told what forms may have.
    let boundary = boundary(head.header("content-type")?)?;
    check_head(head)?;
    let bucket = head.bucket().unwrap_or("");
    check_bucket_name(bucket)?;
    let memory = posted.memory.admit(FORM_MEMORY).await;
    let memory = memory.map_err(|_| S3Error::from(ErrorCode::SlowDown))?;
    let Form { fields, mut file } = Form::read(body, boundary).await?;
    let signer = signer(posted, &fields, bucket).await?;
    let parts = fields.put_head(bucket)?;
    let endpoint = Endpoint::default();
    let acting = Head::parse(&parts, &endpoint)?;
    let (request, plan) = fields.put_object(&acting, signer.length)?;
    let authenticated = signer.authenticated.as_ref();
    let call = Call {
        shared,
        store,
        caller: signer.caller,
        access_key: authenticated.and_then(Authenticated::access_key),
        needs: Needs::of(&Operation::PutObject(request.clone())),
        admitted: OnceLock::new(),
        request: RequestFacts {
            head,
            acting: &acting,
            peer: posted.peer,
            now: posted.now,
            scheme: authenticated.and_then(Authenticated::scheme),
        },
        request_id: posted.request_id,
        region: posted.realm.region,
        url: (head.host(), head.raw_path()),
        progress: posted.progress,
        expected_owner: expected_owner(head, &acting)?,
    };
    let success = fields.success();
    let key = request.key.clone();
    // What is left of the fields is a head, as every request has one.
    drop((fields, memory));
    let (stored, version) = store_object(&call, (&mut file, plan), request).await?;
    let answer = PostAnswer {
        bucket: bucket.to_owned(),
        location: CompleteAnswer::location_in(call.url.0, call.url.1, &key),
        key,
        stored,
    };
    Ok(answer.into_reply(&success).with_version(version))
}

/// The owner that the client expects, wherever it says so.
fn expected_owner(head: &Head<'_>, acting: &Head<'_>) -> Result<Option<String>> {
    const NAME: &str = "x-amz-expected-bucket-owner";
    match (head.amz(NAME)?, acting.amz(NAME)?) {
        (Some(_), Some(_)) => Err(S3Error::argument(NAME, "", "The value is given more than once")),
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    }
}

/// Whose form it is.
struct Signer {
    /// The signature that held; `None` if there is none.
    authenticated: Option<Authenticated>,
    caller: Caller,
    /// Least and most bytes that the file may have.
    length: (u64, u64),
}

/// Checks the form's signature, and its policy against the fields. Without anything of either there is nothing to
/// check, and nobody is known.
async fn signer(posted: &Posted<'_>, fields: &FormFields, bucket: &str) -> Result<Signer> {
    if !fields.is_signed() {
        return Ok(Signer {
            authenticated: None,
            caller: Caller::anonymous(),
            length: (0, PUT_BYTES_MAX),
        });
    }
    let shared = posted.shared;
    let credential = Credential::of_form(fields, posted.realm)?;
    let identity = identify(shared, posted.store, credential.access_key()).await?;
    let authenticated = credential.verify(identity.secret(), &shared.signing_keys)?;
    let policy = PostPolicy::parse(fields.require("policy")?)?;
    policy.check(fields, bucket, posted.now)?;
    Ok(Signer {
        authenticated: Some(authenticated),
        caller: identity.caller(),
        length: policy.length_range(),
    })
}
