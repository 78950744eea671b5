//! Who belongs to the cluster: metadata nodes that come and go, vendors that are invited or shut out.

use super::Call;
use super::error::{AdminError, Result};
use super::handlers::document;
use crate::audit::{AUDIT, AuditLine};
use serde::{Deserialize, Serialize};
use tracing::info;
use ullage_model::ids::VendorId;
use ullage_model::limits::NAME_BYTES_MAX;
use ullage_model::wire::enrol::{INVITE_MS_DEFAULT, INVITE_MS_MAX};
use ullage_model::wire::members::{Member, MembersReply, MembersRequest};

/// `/v1/metad`
#[derive(Debug, Serialize)]
pub(super) struct Members {
    members: Vec<Node>,
    joint: bool,
}

/// A metadata node. Its id is text: 16 hexadecimal digits, as in its certificate.
#[derive(Debug, Serialize)]
struct Node {
    node: String,
    address: String,
    voter: bool,
    leads: bool,
    matched_index: Option<u64>,
    silent_ms: Option<u64>,
}

impl From<Member> for Node {
    fn from(member: Member) -> Self {
        Self {
            node: format!("{:016x}", member.node),
            address: member.address,
            voter: member.voter,
            leads: member.leads,
            matched_index: member.matched_index,
            silent_ms: member.silent_ms,
        }
    }
}

impl From<MembersReply> for Members {
    fn from(reply: MembersReply) -> Self {
        Self {
            members: reply.members.into_iter().map(Node::from).collect(),
            joint: reply.joint,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMember {
    address: String,
    #[serde(default)]
    replaces: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLeader {
    #[serde(default)]
    to: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewInvitation {
    #[serde(default)]
    life_ms: Option<u64>,
}

/// `/v1/invitations`: the token is told here and nowhere else.
#[derive(Serialize)]
pub(super) struct Invitation {
    token: String,
    life_ms: u64,
}

/// The answer to a vendor that was shut out.
#[derive(Debug, Serialize)]
pub(super) struct Revoked {
    revoked: u64,
}

/// A metadata node's id as people write it.
pub(super) fn node(text: &str) -> Result<u64> {
    let is_id = text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let node = u64::from_str_radix(text, 16).ok().filter(|_| is_id);
    node.ok_or_else(|| AdminError::invalid(format!("{text:?} is not a metadata node's id")))
}

pub(super) async fn list(call: &Call) -> Result<Members> {
    Ok(call.store.members(MembersRequest::List).await?.into())
}

pub(super) async fn add(call: &Call) -> Result<Members> {
    let new: NewMember = document(call)?;
    let port = new.address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) || new.address.len() > NAME_BYTES_MAX {
        return Err(AdminError::invalid(format!(
            "{:?} is not HOST:PORT, as a node advertises it",
            new.address
        )));
    }
    let replaces = new.replaces.as_deref().map(node).transpose()?;
    let request = MembersRequest::Add {
        address: new.address.clone(),
        replaces,
    };
    let line = AuditLine::new(|outcome| {
        info!(target: AUDIT, user = call.name, address = new.address, ?replaces, outcome, "a metadata node is to be a member");
    });
    let added = async { Ok(call.store.members(request).await?.into()) };
    line.during(added, |error: &AdminError| error.code).await
}

pub(super) async fn remove(call: &Call, node: u64) -> Result<Members> {
    Ok(call.store.members(MembersRequest::Remove { node }).await?.into())
}

pub(super) async fn transfer(call: &Call) -> Result<Members> {
    let new: NewLeader = document(call)?;
    let to = new.to.as_deref().map(node).transpose()?;
    Ok(call.store.members(MembersRequest::Transfer { to }).await?.into())
}

pub(super) async fn invite(call: &Call) -> Result<Invitation> {
    let new: NewInvitation = document(call)?;
    let life_ms = new.life_ms.unwrap_or(INVITE_MS_DEFAULT);
    if !(1..=INVITE_MS_MAX).contains(&life_ms) {
        let days = INVITE_MS_MAX / (24 * 3_600_000);
        return Err(AdminError::invalid(format!(
            "an invitation lives for up to {days} days"
        )));
    }
    let token = call.store.invite(life_ms).await?.to_text();
    Ok(Invitation { token, life_ms })
}

pub(super) async fn revoke(call: &Call, vendor: VendorId) -> Result<Revoked> {
    call.store.revoke_vendor(vendor).await?;
    Ok(Revoked { revoked: vendor.0 })
}

#[cfg(test)]
mod tests {
    use super::node;

    #[test]
    fn ids_of_nodes_are_hexadecimal() {
        assert_eq!(node("00000000000000ff").ok(), Some(255));
        assert_eq!(node("FF").ok(), Some(255));
        for text in ["", "g", "+1", "00000000000000001", "é"] {
            assert!(node(text).is_err(), "{text:?}");
        }
    }
}
