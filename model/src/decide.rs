//! `decide`: the whole state machine. One command and the rows as they are, in; changes and a reply, out.

use crate::command::{Command, Reply, SessionCommand};
use crate::limits::ROWS_PER_COMMAND;
use crate::step::{At, Step, Stop};
use crate::store::{Change, Read, StoreError};
use crate::{fat, namespace, session};

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Rows to write and delete, each once, in the order of columns and keys.
    pub changes: Vec<Change>,
    /// The answer.
    pub reply: Reply,
}

/// Decides `command` on `rows`.
///
/// # Errors
/// Only when the store fails, its rows contradict each other, or they are of a format level that this release does
/// not know; a refusal is a reply.
///
/// # Panics
/// When a transition changed more than `limits::ROWS_PER_COMMAND` rows: one of its bounds is wrong.
pub fn decide<R: Read>(rows: &R, at: At, command: &Command) -> Result<Decision, StoreError> {
    fat::member::check_known(rows)?;
    let mut step = Step::new(rows, at);
    match transition(&mut step, command) {
        Ok(reply) => {
            let changed = step.changed_rows();
            assert!(changed <= ROWS_PER_COMMAND, "a command changed {changed} rows");
            Ok(Decision {
                changes: step.into_changes(),
                reply,
            })
        }
        Err(Stop::Rejected(rejection)) => Ok(Decision {
            changes: Vec::new(),
            reply: Reply::Refused(rejection),
        }),
        Err(Stop::Store(error)) => Err(error),
    }
}

fn transition<R: Read>(step: &mut Step<'_, R>, command: &Command) -> Result<Reply, Stop> {
    match command {
        Command::Initialise {
            cluster,
            classes,
            inline,
        } => fat::cluster::initialise(step, *cluster, classes, inline),
        Command::Tick { to } => fat::cluster::tick(step, *to),
        Command::CheckKek { kek, value } => fat::cluster::check_kek(step, *kek, value),
        Command::SetInline(settings) => fat::cluster::set_inline(step, settings),
        Command::RegisterVendor(request) => fat::vendor::register(step, request),
        Command::UpdateDevices { vendor, devices } => fat::vendor::update_devices(step, *vendor, devices),
        Command::SetVendorState { vendor, state } => fat::vendor::set_state(step, *vendor, *state),
        Command::SetClass(class) => fat::class::set(step, class),
        Command::OpenSession { gateway, instance } => session::open(step, gateway, *instance),
        Command::RenewSession {
            session,
            acknowledged_below,
            observed_index,
        } => session::renew(step, *session, *acknowledged_below, *observed_index),
        Command::EndSession { session } => session::end(step, *session),
        Command::AbandonStep { session } => session::abandon_step(step, *session),
        Command::RecallLease { lease } => fat::close::recall(step, *lease),
        Command::ExpireLease { lease } => fat::close::expire(step, *lease),
        Command::ConfirmClose { lease, vendor } => fat::close::confirm(step, *lease, *vendor),
        Command::DrainReleases { permit } => fat::release::drain(step, permit),
        Command::AcknowledgeErased { vendor, copies } => fat::release::acknowledge(step, *vendor, copies),
        Command::ReportDamaged { vendor, copies } => fat::damage::report(step, *vendor, copies),
        Command::ReportFound { vendor, copies } => fat::damage::found(step, *vendor, copies),
        Command::InSession {
            session,
            sequence,
            command,
        } => session::decide_once(step, *session, *sequence, |step| {
            in_session(step, *session, command)
        }),
        Command::Resolve { session, sequence } => session::resolve(step, *session, *sequence),
        Command::SetMember {
            node,
            address,
            issuer,
            format_level,
        } => fat::member::set(step, *node, address, *issuer, *format_level),
        Command::RemoveMember { node } => fat::member::remove(step, *node),
        Command::RaiseFormat { to } => fat::member::raise_format(step, *to),
        Command::Invite { secret, life_ms } => fat::invite::invite(step, secret, *life_ms),
        Command::EnrolVendor { register, invite } => fat::invite::enrol(step, register, invite.as_ref()),
        Command::RevokeVendor { vendor } => fat::vendor::revoke(step, *vendor),
    }
}

fn in_session<R: Read>(
    step: &mut Step<'_, R>,
    session: crate::ids::SessionId,
    command: &SessionCommand,
) -> Result<Reply, Stop> {
    match command {
        SessionCommand::Allocate {
            class,
            rows,
            duration_ms,
        } => fat::allocate::allocate(step, session, class, rows, *duration_ms),
        SessionCommand::RenewLease { lease, duration_ms } => {
            fat::allocate::renew(step, session, *lease, *duration_ms)
        }
        SessionCommand::ShrinkLease { lease, rows } => fat::close::shrink(step, session, *lease, rows),
        SessionCommand::ReturnLease { lease } => fat::close::give_back(step, session, *lease),
        SessionCommand::Slice(slice) => namespace::blob::slice(step, session, slice),
        SessionCommand::AbandonBlob { blob } => namespace::blob::abandon(step, session, *blob),
        SessionCommand::FinalizeObject(finalize) => namespace::finalize::object(step, session, finalize),
        SessionCommand::FinalizePart(finalize) => namespace::upload::finalize_part(step, session, finalize),
        SessionCommand::CreateBucket {
            actor,
            name,
            region,
            access,
            now,
        } => {
            let new = namespace::bucket::NewBucket {
                name,
                region,
                access: *access,
                now: *now,
            };
            namespace::bucket::create(step, *actor, &new)
        }
        SessionCommand::DeleteBucket { actor, bucket } => namespace::bucket::delete(step, *actor, *bucket),
        SessionCommand::DeleteObject(delete) => namespace::delete::object(step, delete),
        SessionCommand::CreateUpload {
            actor,
            bucket,
            key,
            random,
            class,
            metadata,
            checksum,
            now,
        } => {
            let new = namespace::upload::NewUpload {
                actor: *actor,
                bucket: *bucket,
                key,
                random: *random,
                class,
                metadata,
                checksum: *checksum,
                now: *now,
            };
            namespace::upload::create(step, &new)
        }
        SessionCommand::CompleteSlice(slice) => namespace::complete::slice(step, slice),
        SessionCommand::CompleteUpload(complete) => namespace::complete::complete(step, complete),
        SessionCommand::AbortUpload {
            actor,
            bucket,
            key,
            upload,
        } => namespace::upload::abort(step, *actor, *bucket, key, *upload),
        SessionCommand::CreateUser {
            name,
            policy,
            access_key,
            sealed_secret,
        } => namespace::user::create(step, name, policy, access_key, sealed_secret),
        SessionCommand::DeleteAccessKey { access_key } => {
            namespace::user::delete_access_key(step, access_key)
        }
        SessionCommand::CopyObject(copy) => namespace::copy::object(step, copy),
        SessionCommand::SetObjectTags(set) => namespace::tags::set(step, set),
        SessionCommand::SetBucketDocument {
            actor,
            bucket,
            kind,
            document,
        } => namespace::document::set(step, *actor, *bucket, *kind, document.as_deref()),
        SessionCommand::SetBucketQuota { bucket, quota } => {
            namespace::bucket::set_quota(step, *bucket, *quota)
        }
        SessionCommand::SetVersioning {
            actor,
            bucket,
            versioning,
        } => namespace::bucket::set_versioning(step, *actor, *bucket, *versioning),
        SessionCommand::SetUserPolicy { user, policy } => namespace::user::set_policy(step, *user, policy),
        SessionCommand::SetBucketAccess {
            actor,
            bucket,
            access,
        } => namespace::access::set_bucket(step, *actor, *bucket, *access),
        SessionCommand::SetObjectAcl {
            actor,
            bucket,
            key,
            version,
            seen,
            acl,
        } => {
            let (who, object) = ((*actor, *bucket), (key.as_str(), *version));
            namespace::access::set_object(step, who, object, seen.as_ref(), *acl)
        }
        SessionCommand::CopyPart(copy) => namespace::copy_part::copy(step, copy),
    }
}
