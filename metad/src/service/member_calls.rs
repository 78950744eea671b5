//! Who is in the cluster: vendors that are invited, enrol and are shut out; metadata nodes that tell of
//! themselves, come and go.

use super::{Metad, unavailable};
use crate::error::Error;
use crate::http::{FORWARD_LANE, PUBLISH};
use ed25519_dalek::VerifyingKey;
use std::time::Duration;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query;
use ullage_model::rejection::Rejection;
use ullage_model::wire::chunk::{PublicKey, Signature};
use ullage_model::wire::enrol::{EnrolReply, EnrolRequest, InviteReply, InviteRequest, JoinToken};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{Done, MetadError};
use ullage_transport::client::{CallError, Target};
use ullage_transport::identity::{Expect, Identity};

/// How long a change of the membership may take: a new node is given the whole state first.
const CHANGE_WITHIN: Duration = Duration::from_secs(600);
/// How long a node waits for the leader to take its row.
const PUBLISH_WITHIN: Duration = Duration::from_secs(5);

impl Metad {
    /// Invites one vendor.
    ///
    /// # Errors
    /// When the life is out of bounds, or this node lets nobody in.
    pub async fn invite(&self, request: InviteRequest) -> Result<InviteReply, MetadError> {
        self.leading().await?;
        let issuing = self.issuing().ok_or_else(lets_nobody_in)?;
        let secret = self.secret();
        let command = Command::Invite {
            secret: JoinToken::digest_of(&secret),
            life_ms: request.life_ms,
        };
        match self.propose(&command).await? {
            Reply::Done => {}
            Reply::Refused(rejection) => return Err(MetadError::Refused(rejection)),
            other => return Err(unavailable(format!("an invitation was answered with {other:?}"))),
        }
        tracing::info!(life_ms = request.life_ms, "a vendor is invited");
        let token = JoinToken {
            authority: issuing.authority.fingerprint().0,
            metad: self.addresses()?,
            secret,
        };
        Ok(InviteReply { token })
    }

    /// Whether an enrolment is signed by the key that it names: who cannot do that learns nothing.
    ///
    /// # Errors
    /// When it is not, or this node lets nobody in.
    pub fn check_enrolment(&self, request: &EnrolRequest) -> Result<(), MetadError> {
        let issuing = self.issuing().ok_or_else(lets_nobody_in)?;
        let authority = issuing.authority.fingerprint().0;
        let signed = EnrolRequest::signed_bytes(&authority, &request.tls_key);
        if is_signed(&request.register.public_key, &signed, &request.signature) {
            return Ok(());
        }
        Err(MetadError::Refused(Rejection::Invalid(
            "the enrolment is not signed by the key that it names".to_owned(),
        )))
    }

    /// Registers a vendor that is invited, or is registered already, and issues its certificate.
    ///
    /// # Errors
    /// As [`Metad::check_enrolment`]; `Refused(NotInvited)`, `Refused(VendorRevoked)`, and what a registration
    /// is refused for.
    pub async fn enrol(&self, request: EnrolRequest) -> Result<EnrolReply, MetadError> {
        self.check_enrolment(&request)?;
        let issuing = self.issuing().ok_or_else(lets_nobody_in)?;
        let EnrolRequest {
            secret,
            register,
            tls_key,
            ..
        } = request;
        let name = register.name.clone();
        let command = Command::EnrolVendor {
            register,
            invite: secret.as_ref().map(JoinToken::digest_of),
        };
        let registered = self.registered_by(&command).await?;
        let identity = Identity::Vendor(registered.vendor);
        let chain = issuing.authority.issue(identity, &tls_key, (issuing.wall)());
        // The key's fault: registered it is all the same, and may come again with another.
        let chain = chain.map_err(|error| MetadError::Refused(Rejection::Invalid(error.to_string())))?;
        tracing::info!(vendor = %registered.vendor, name, "a vendor has enrolled");
        Ok(EnrolReply {
            registered,
            certificate: chain.leaf.into(),
            authority: chain.authority.into(),
            metad: self.addresses()?,
        })
    }

    /// Where the metadata nodes are reached.
    fn addresses(&self) -> Result<Vec<String>, MetadError> {
        let state = self.stale();
        Ok(query::directory(&**state).map_err(unavailable)?.metad)
    }

    /// Tells the membership, or changes it as an operator asks; answers with the membership afterwards.
    ///
    /// # Errors
    /// `Refused` when the change is refused as things are, and as every call to the leader.
    pub async fn members(&self, request: MembersRequest) -> Result<MembersReply, MetadError> {
        let mut reply = if request == MembersRequest::List {
            self.group.members()
        } else {
            self.leading().await?;
            tracing::info!(?request, "the membership is to be changed");
            let changed = self.group.change_members(request, CHANGE_WITHIN).await;
            changed.map_err(|error| match error {
                Error::Members { .. } | Error::Peer { .. } => {
                    MetadError::Refused(Rejection::Invalid(error.to_string()))
                }
                error => error.into(),
            })?
        };
        let rows = query::members(&**self.stale()).map_err(unavailable)?;
        for member in &mut reply.members {
            let row = rows.iter().find(|row| row.node == member.node);
            member.issuer = row.map(|row| row.issuer);
        }
        Ok(reply)
    }

    /// Takes what a metadata node says of itself.
    ///
    /// # Errors
    /// When it speaks of another node, or is no member.
    pub(crate) async fn published(&self, node: u64, command: Command) -> Result<Done, MetadError> {
        self.leading().await?;
        let refused = |words: &str| Err(MetadError::Refused(Rejection::Invalid(words.to_owned())));
        if !matches!(command, Command::SetMember { node: named, .. } if named == node) {
            return refused("a metadata node tells of itself only");
        }
        if !self.group.status().members.contains_key(&node) {
            return refused("this node is no member");
        }
        match self.propose(&command).await? {
            Reply::Done => Ok(Done),
            Reply::Refused(rejection) => Err(MetadError::Refused(rejection)),
            other => Err(unavailable(format!("a member's row was answered with {other:?}"))),
        }
    }

    /// Has the leader set this node's row, if it does not say what it should.
    pub(crate) async fn publish(&self) -> Result<(), Error> {
        let Some(client) = self.client() else {
            return Ok(());
        };
        let Some((leader, address)) = self.leader_elsewhere() else {
            return Ok(());
        };
        if !self.group.status().members.contains_key(&self.node()) {
            return Ok(());
        }
        let Some(command) = self.own_row_to_be_set()? else {
            return Ok(());
        };
        let target = Target {
            address,
            expect: Expect::Exactly(Identity::Metad(leader)),
            lane: FORWARD_LANE,
        };
        let answer = client.call::<_, Done, MetadError>(&target, PUBLISH, &command, PUBLISH_WITHIN);
        answer.await.map(drop).map_err(|error| match error {
            CallError::Application(MetadError::Refused(rejection)) => Error::Members {
                reason: format!("the leader has refused this node's row: {rejection}"),
            },
            error => Error::Peer {
                action: "tell of this node",
                address: target.address.clone(),
                reason: error.to_string(),
            },
        })
    }
}

fn lets_nobody_in() -> MetadError {
    MetadError::Refused(Rejection::Invalid(
        "this metadata service runs in one process with its vendors: nobody else is let in".to_owned(),
    ))
}

pub(super) fn is_signed(key: &PublicKey, signed: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&key.0) else {
        return false;
    };
    let Ok(signature) = ed25519_dalek::Signature::from_slice(&signature.0) else {
        return false;
    };
    key.verify_strict(signed, &signature).is_ok()
}
