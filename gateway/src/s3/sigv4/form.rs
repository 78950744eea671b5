//! The credential of a POST form: its fields carry the signature, of the policy and nothing else.

use super::super::error::{ErrorCode, Result, S3Error};
use super::super::form::FormFields;
use super::super::head::Head;
use super::super::time::UnixMs;
use super::{
    ALGORITHM, Claim, Credential, Payload, Realm, Scheme, check_scope, claim, malformed, no_session_tokens,
    version_2_refused,
};

/// Refuses credentials in the head of a form's request, and what belongs to some.
///
/// # Errors
/// InvalidArgument; for a part of credentials, what is said of malformed ones.
pub fn refuse_claim(head: &Head<'_>) -> Result<()> {
    match claim(head)? {
        None => Ok(()),
        Some(_) => Err(S3Error::argument(
            "X-Amz-Algorithm",
            "",
            "Only one auth mechanism allowed; a form carries its signature in its fields",
        )),
    }
}

impl Credential {
    /// Finds and checks a form's credentials, all but the signature. How long they hold is the policy's word.
    ///
    /// # Errors
    /// InvalidArgument for a field that is missing; AuthorizationQueryParametersError; InvalidToken for session
    /// tokens; InvalidRequest for Signature Version 2.
    pub fn of_form(fields: &FormFields, realm: Realm<'_>) -> Result<Self> {
        if fields.get("awsaccesskeyid").or(fields.get("signature")).is_some() {
            return Err(version_2_refused());
        }
        if fields.get("x-amz-security-token").is_some() {
            return Err(no_session_tokens());
        }
        let policy = fields.require("policy")?;
        if fields.require("x-amz-algorithm")? != ALGORITHM {
            let message = "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"";
            return Err(malformed(Scheme::Form, message));
        }
        let claim = Claim {
            scheme: Scheme::Form,
            credential: fields.require("x-amz-credential")?,
            signed_headers: "",
            signature: fields.require("x-amz-signature")?,
        };
        let scope = check_scope(&claim, realm)?;
        let timestamp = UnixMs::parse_amz_date(fields.require("x-amz-date")?)
            .ok_or_else(|| {
                let message = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"";
                malformed(Scheme::Form, message)
            })?
            .amz_date();
        if timestamp.get(..8) != Some(scope.date) {
            return Err(ErrorCode::SignatureDoesNotMatch.into());
        }
        Ok(Self {
            full_scope: claim.credential.to_owned(),
            access_key_bytes: scope.access_key.len(),
            scheme: claim.scheme,
            timestamp,
            signature: claim.signature.to_owned(),
            payload: Payload::Unsigned,
            canonical_request: Vec::new(),
            string_to_sign: policy.to_owned(),
        })
    }
}
