//! Who asks, and whom a statement is about.
//!
//! A cluster is one account. Amazon's policies name an account in each ARN; here every account named means this
//! one, so that policies written for Amazon can be used.

use super::json::Json;
use super::value::arn_parts;
use super::{PolicyError, Result};

/// The number that stands for the one account in ARNs that are made here.
pub const ACCOUNT: &str = "000000000000";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// Nobody knows.
    Anonymous,
    /// The holder of the root keys.
    Root {
        /// Its canonical id.
        id: &'a str,
    },
    /// A user.
    User {
        /// Its name.
        name: &'a str,
        /// Its canonical id.
        id: &'a str,
    },
}

impl Principal<'_> {
    /// Its ARN; an anonymous caller has none.
    pub fn arn(&self) -> Option<String> {
        match self {
            Self::Anonymous => None,
            Self::Root { .. } => Some(format!("arn:aws:iam::{ACCOUNT}:root")),
            Self::User { name, .. } => Some(format!("arn:aws:iam::{ACCOUNT}:user/{name}")),
        }
    }

    /// Its name; only users have one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::User { name, .. } => Some(name),
            Self::Anonymous | Self::Root { .. } => None,
        }
    }

    /// Its canonical id; an anonymous caller has none.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Root { id } | Self::User { id, .. } => Some(id),
        }
    }
}

/// One entry of `Principal` or `NotPrincipal`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// `*`: everybody, anonymous callers too.
    Everybody,
    /// An account: its root; in a deny, all its users too.
    Account,
    /// A user by name.
    User(String),
    /// Whoever has this canonical id.
    Canonical(String),
}

/// `Principal` or `NotPrincipal` of a statement.
#[derive(Clone, Debug)]
pub(super) struct Principals(Vec<Named>);

impl Principals {
    /// Reads `"*"` or `{"AWS": …, "CanonicalUser": …}`.
    ///
    /// # Errors
    /// For principals that there are none of here.
    pub(super) fn parse(value: &Json, element: &str) -> Result<Self> {
        if let Json::Text(text) = value {
            return if text == "*" {
                Ok(Self(vec![Named::Everybody]))
            } else {
                Err(invalid(text))
            };
        }
        let mut named = Vec::new();
        for (kind, values) in value.fields(element)? {
            for text in values.texts(kind)? {
                named.push(match kind.as_str() {
                    "AWS" => aws(text)?,
                    "CanonicalUser" => canonical(text)?,
                    other => {
                        return Err(PolicyError::new(format!(
                            "Invalid principal in policy: principals of the kind {other:?} are not supported."
                        )));
                    }
                });
            }
        }
        if named.is_empty() {
            return Err(PolicyError::new(format!("{element} must not be empty.")));
        }
        Ok(Self(named))
    }

    /// Whether a statement that has this as `Principal` is about `who`.
    pub(super) fn include(&self, who: &Principal<'_>, is_deny: bool) -> bool {
        self.0.iter().any(|named| match (named, who) {
            (Named::Account, Principal::User { .. }) => is_deny,
            (named, who) => is_named(named, who),
        })
    }

    /// Whether a statement that has this as `NotPrincipal` names `who`, so that it is about everybody else. An
    /// account stands for its root alone: its users must be named.
    pub(super) fn name(&self, who: &Principal<'_>) -> bool {
        self.0.iter().any(|named| is_named(named, who))
    }

    pub(super) fn has_everybody(&self) -> bool {
        self.0.contains(&Named::Everybody)
    }

    /// Names of the users it names.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> + '_ {
        self.0.iter().filter_map(|named| match named {
            Named::User(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

fn is_named(named: &Named, who: &Principal<'_>) -> bool {
    match (named, who) {
        (Named::Everybody, _) | (Named::Account, Principal::Root { .. }) => true,
        (Named::User(named), Principal::User { name, .. }) => named == name,
        (Named::Canonical(named), who) => who.id() == Some(named),
        _ => false,
    }
}

fn invalid(text: &str) -> PolicyError {
    PolicyError::new(format!("Invalid principal in policy: {text:?}."))
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT.len() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `*`, an account's number, or an ARN of an account's root or of a user.
fn aws(text: &str) -> Result<Named> {
    if text == "*" {
        return Ok(Named::Everybody);
    }
    if is_account(text) {
        return Ok(Named::Account);
    }
    let parts = arn_parts(text).ok_or_else(|| invalid(text))?;
    let [_, partition, "iam", "", account, resource] = parts else {
        return Err(invalid(text));
    };
    if !partition.starts_with("aws") || !(account.is_empty() || is_account(account)) {
        return Err(invalid(text));
    }
    match resource.strip_prefix("user/") {
        // Wildcards in an ARN would be a name that no user has.
        Some(name) if !name.is_empty() && !name.contains(['*', '?']) => Ok(Named::User(name.to_owned())),
        None if resource == "root" => Ok(Named::Account),
        _ => Err(invalid(text)),
    }
}

fn canonical(text: &str) -> Result<Named> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(hex) {
        Ok(Named::Canonical(text.to_owned()))
    } else {
        Err(invalid(text))
    }
}
