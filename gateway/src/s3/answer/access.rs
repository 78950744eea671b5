//! Answers of the operations on access: lists, ownership, policies.

use super::super::acl::{CannedAcl, ObjectOwnership};
use super::super::xml::XmlWriter;
use super::{Owner, Reply};
use http::StatusCode;
use http::header::{self, HeaderValue};

const INSTANCE: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";

/// The answer of GetBucketAcl and GetObjectAcl.
pub fn access_control_policy(owner: &Owner, acl: CannedAcl) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root("AccessControlPolicy");
    owner.write(&mut xml);
    xml.open("AccessControlList");
    xml.open("Grant");
    xml.open_with("Grantee", &format!("{INSTANCE} xsi:type=\"CanonicalUser\""));
    xml.text("ID", &owner.id);
    xml.text("DisplayName", &owner.display_name);
    xml.close("Grantee");
    xml.text("Permission", "FULL_CONTROL");
    xml.close("Grant");
    for (group, permission) in acl.group_grants() {
        xml.open("Grant");
        xml.open_with("Grantee", &format!("{INSTANCE} xsi:type=\"Group\""));
        xml.text("URI", group);
        xml.close("Grantee");
        xml.text("Permission", permission);
        xml.close("Grant");
    }
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    Reply::xml(xml.finish())
}

/// The answer of GetBucketOwnershipControls.
pub fn ownership_controls(ownership: ObjectOwnership) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root("OwnershipControls");
    xml.open("Rule");
    xml.text("ObjectOwnership", ownership.as_str());
    xml.close("Rule");
    xml.close("OwnershipControls");
    Reply::xml(xml.finish())
}

/// The answer of GetBucketPolicyStatus.
pub fn policy_status(is_public: bool) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root("PolicyStatus");
    // The reference's example has it in capitals, which the SDKs do not read as true.
    xml.boolean("IsPublic", is_public);
    xml.close("PolicyStatus");
    Reply::xml(xml.finish())
}

/// The answer of GetBucketPolicy: the document as it was set.
pub fn bucket_policy(document: String) -> Reply {
    let mut reply = Reply::empty(StatusCode::OK);
    reply
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.body = document.into();
    reply
}
