//! Policy documents: how they are read, and what a statement is about. What is not understood is refused, never
//! passed over.

use super::action::{Actions, Level};
use super::condition::{self, Condition};
use super::evaluate::Ask;
use super::json::Json;
use super::pattern::{Pattern, Syntax};
use super::principal::Principals;
use super::{BUCKET_POLICY_BYTES_MAX, PolicyError, Result, STATEMENTS_MAX, USER_POLICY_BYTES_MAX};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Whose a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind<'a> {
    /// Of the bucket of this name: says whom it is about, and is about this bucket only.
    Bucket(&'a str),
    /// Of a user: is about that user.
    User,
}

/// A policy, read once.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) effect: Effect,
    pub(super) principals: Whom,
    actions: Which<Actions>,
    resources: Which<Resource>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// Whom a statement is about.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// Whoever has the policy.
    Holder,
    These(Principals),
    AllBut(Principals),
}

/// Any of these, or for `Not…` none of them.
#[derive(Clone, Debug)]
struct Which<T> {
    negated: bool,
    entries: Vec<T>,
}

impl<T> Which<T> {
    fn contains(&self, fits: impl Fn(&T) -> bool) -> bool {
        self.entries.iter().any(fits) != self.negated
    }
}

/// `Resource`: everything, or a pattern of `bucket` or `bucket/key`.
#[derive(Clone, Debug)]
struct Resource {
    pattern: Pattern,
    levels: Levels,
}

/// What a resource's pattern may be one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Levels {
    Buckets,
    Objects,
    Both,
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is too long, is not JSON, or has anything that is not known here; says what.
    pub fn parse(text: &str, kind: PolicyKind<'_>) -> Result<Self> {
        let bytes_max = match kind {
            PolicyKind::Bucket(_) => BUCKET_POLICY_BYTES_MAX,
            PolicyKind::User => USER_POLICY_BYTES_MAX,
        };
        if text.len() > bytes_max {
            return Err(PolicyError::new(format!(
                "Policy has {} bytes, more than the {bytes_max} allowed.",
                text.len()
            )));
        }
        let document = Json::parse(text)?;
        let (mut variables, mut statements) = (false, None);
        for (name, value) in document.fields("The policy")? {
            match name.as_str() {
                "Version" => variables = version(value.text(name)?)?,
                "Id" => drop(value.text(name)?),
                "Statement" => statements = Some(value.one_or_more()),
                other => return Err(unknown(other)),
            }
        }
        let statements = statements.unwrap_or_default();
        if statements.is_empty() || statements.len() > STATEMENTS_MAX {
            return Err(PolicyError::new(format!(
                "Policy must have 1 to {STATEMENTS_MAX} statements, not {}.",
                statements.len()
            )));
        }
        check_sids(statements)?;
        let statements = statements
            .iter()
            .map(|value| Statement::parse(value, kind, variables));
        Ok(Self {
            statements: statements.collect::<Result<_>>()?,
        })
    }

    /// What the name `readwrite` stands for: everything in S3.
    pub fn read_write() -> &'static Self {
        static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::simple(Effect::Allow, &["*"]));
        &POLICY
    }

    /// What the name `readonly` stands for: reads and listings in S3.
    pub fn read_only() -> &'static Self {
        static POLICY: LazyLock<Policy> =
            LazyLock::new(|| Policy::simple(Effect::Allow, &["s3:Get*", "s3:List*"]));
        &POLICY
    }

    /// Nothing to anybody: what a document comes to that was stored once and cannot be read now.
    pub fn deny_everything() -> &'static Self {
        static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::simple(Effect::Deny, &["*"]));
        &POLICY
    }

    fn simple(effect: Effect, actions: &[&str]) -> Self {
        let everything = Resource {
            pattern: Pattern::everything(),
            levels: Levels::Both,
        };
        Self {
            statements: vec![Statement {
                effect,
                principals: Whom::Holder,
                actions: Which {
                    negated: false,
                    entries: actions
                        .iter()
                        .filter_map(|text| Actions::parse(text).ok())
                        .collect(),
                },
                resources: Which {
                    negated: false,
                    entries: vec![everything],
                },
                conditions: Vec::new(),
            }],
        }
    }

    /// Names of the users whom it names as principals.
    pub fn users_named(&self) -> impl Iterator<Item = &str> + '_ {
        self.statements
            .iter()
            .filter_map(|statement| match &statement.principals {
                Whom::Holder => None,
                Whom::These(principals) | Whom::AllBut(principals) => Some(principals.users()),
            })
            .flatten()
    }
}

/// Whether the version has policy variables.
fn version(text: &str) -> Result<bool> {
    match text {
        "2012-10-17" => Ok(true),
        "2008-10-17" => Ok(false),
        other => Err(PolicyError::new(format!(
            "The policy must contain a valid version string, not {other:?}."
        ))),
    }
}

fn unknown(element: &str) -> PolicyError {
    PolicyError::new(format!("Unknown field {element:?} in the policy."))
}

/// Sids are unique in a policy.
fn check_sids(statements: &[Json]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for statement in statements {
        for (_, sid) in statement
            .fields("Statement")?
            .iter()
            .filter(|(name, _)| name == "Sid")
        {
            let sid = sid.text("Sid")?;
            if !sid.is_empty() && !seen.insert(sid) {
                return Err(PolicyError::new(format!(
                    "Statement IDs (SID) must be unique: {sid:?}."
                )));
            }
        }
    }
    Ok(())
}

impl Statement {
    fn parse(value: &Json, kind: PolicyKind<'_>, variables: bool) -> Result<Self> {
        let (mut effect, mut principals, mut actions, mut resources) = (None, None, None, None);
        let mut conditions = Vec::new();
        for (name, value) in value.fields("Statement")? {
            let is_second = match name.as_str() {
                "Sid" => value.text(name).map(|_| false)?,
                "Effect" => effect.replace(self::effect(value.text(name)?)?).is_some(),
                "Principal" => principals
                    .replace(Whom::These(Principals::parse(value, name)?))
                    .is_some(),
                "NotPrincipal" => principals
                    .replace(Whom::AllBut(Principals::parse(value, name)?))
                    .is_some(),
                "Action" | "NotAction" => actions.replace(which(name, value, Actions::parse)?).is_some(),
                "Resource" | "NotResource" => {
                    let read = |text: &str| Resource::parse(text, kind, variables);
                    resources.replace(which(name, value, read)?).is_some()
                }
                "Condition" => {
                    conditions = condition::parse(value, variables)?;
                    false
                }
                other => return Err(unknown(other)),
            };
            if is_second {
                return Err(PolicyError::new(format!(
                    "A statement must not have both {} and its opposite.",
                    name.trim_start_matches("Not")
                )));
            }
        }
        let missing = |name: &str| PolicyError::new(format!("Missing required field {name} in a statement."));
        let statement = Self {
            effect: effect.ok_or_else(|| missing("Effect"))?,
            principals: match (kind, principals) {
                (PolicyKind::Bucket(_), Some(principals)) => principals,
                (PolicyKind::Bucket(_), None) => return Err(missing("Principal")),
                (PolicyKind::User, None) => Whom::Holder,
                (PolicyKind::User, Some(_)) => {
                    return Err(PolicyError::new(
                        "The policy of a user must not have a Principal: it is about that user.",
                    ));
                }
            },
            actions: actions.ok_or_else(|| missing("Action"))?,
            resources: resources.ok_or_else(|| missing("Resource"))?,
            conditions,
        };
        statement.check(kind)?;
        Ok(statement)
    }

    /// Refuses statements that could not mean what their writer thinks.
    fn check(&self, kind: PolicyKind<'_>) -> Result<()> {
        if matches!(self.principals, Whom::AllBut(_)) && self.effect == Effect::Allow {
            return Err(PolicyError::new(
                "NotPrincipal needs the Effect Deny: with Allow it would let in everybody else, anonymous \
                 callers too.",
            ));
        }
        let by_tags = self.conditions.iter().any(Condition::asks_for_object_tags);
        let knows_tags = |actions: &Actions| actions.know_object_tags();
        if by_tags && !self.actions.negated && !self.actions.entries.iter().all(knows_tags) {
            return Err(PolicyError::new(
                "Conditions do not apply to combination of actions and resources in statement: an action has \
                 nothing to do with s3:ExistingObjectTag.",
            ));
        }
        if kind == PolicyKind::User || self.actions.negated || self.resources.negated {
            return Ok(());
        }
        for actions in &self.actions.entries {
            let applies = |level| {
                let mut levels = self.resources.entries.iter().map(|resource| resource.levels);
                levels.any(|levels| match level {
                    Level::Service => false,
                    Level::Bucket => levels != Levels::Objects,
                    Level::Object => levels != Levels::Buckets,
                })
            };
            if !actions.levels().any(applies) {
                return Err(PolicyError::new(
                    "Action does not apply to any resource(s) in statement: actions on objects need a resource \
                     like arn:aws:s3:::bucket/*, actions on buckets one like arn:aws:s3:::bucket.",
                ));
            }
        }
        Ok(())
    }

    /// Whether it is about this, conditions included; `None` if that is not known yet.
    pub(super) fn is_about(&self, ask: &Ask<'_>) -> Option<bool> {
        let whom = match &self.principals {
            Whom::Holder => true,
            Whom::These(principals) => principals.include(ask.principal, self.effect == Effect::Deny),
            Whom::AllBut(principals) => !principals.name(ask.principal),
        };
        let is_about = whom
            && self.actions.contains(|actions| actions.contain(ask.action))
            && self
                .resources
                .contains(|resource| resource.pattern.matches(ask.resource, ask.facts));
        let mut known = true;
        for condition in self.conditions.iter().filter(|_| is_about) {
            match condition.holds(ask.facts) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => known = false,
            }
        }
        known.then_some(is_about)
    }
}

fn effect(text: &str) -> Result<Effect> {
    match text {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        other => Err(PolicyError::new(format!("Invalid effect: {other:?}."))),
    }
}

fn which<T>(name: &str, value: &Json, read: impl Fn(&str) -> Result<T>) -> Result<Which<T>> {
    let entries = value.texts(name)?.into_iter().map(read);
    Ok(Which {
        negated: name.starts_with("Not"),
        entries: entries.collect::<Result<_>>()?,
    })
}

impl Resource {
    /// Reads `*` or `arn:aws:s3:::bucket/key`, with wildcards behind the last colon.
    fn parse(text: &str, kind: PolicyKind<'_>, variables: bool) -> Result<Self> {
        let invalid = |why: &str| PolicyError::new(format!("Policy has invalid resource {text:?}: {why}."));
        let named = if text == "*" {
            text
        } else {
            let rest = text.strip_prefix("arn:aws");
            let rest = rest.and_then(|rest| rest.split_once(':'));
            rest.filter(|(partition, _)| matches!(*partition, "" | "-cn" | "-us-gov"))
                .and_then(|(_, rest)| rest.strip_prefix("s3:::"))
                .filter(|rest| !rest.is_empty())
                .ok_or_else(|| invalid("it is not an ARN of a bucket or of objects"))?
        };
        let syntax = Syntax {
            wildcards: true,
            variables,
        };
        let pattern = Pattern::parse(named, syntax)?;
        let special = |character: char| matches!(character, '*' | '?' | '$');
        let fixed = &named[..named.find(special).unwrap_or(named.len())];
        if let PolicyKind::Bucket(bucket) = kind {
            let is_of_bucket = match fixed.split_once('/') {
                Some((name, _)) => name == bucket,
                None if fixed.len() == named.len() => fixed == bucket,
                None => bucket.starts_with(fixed),
            };
            if !is_of_bucket {
                return Err(invalid("it is not this bucket nor in it"));
            }
        }
        let levels = if named.contains('/') {
            Levels::Objects
        } else if fixed.len() == named.len() {
            Levels::Buckets
        } else {
            Levels::Both
        };
        Ok(Self { pattern, levels })
    }
}
