//! Conditions of statements: operators, how they are read, and when they hold.

use super::json::Json;
use super::key::{ConditionKey, Fact, Facts, Kind};
use super::pattern::{Pattern, Syntax};
use super::value::{self, Network};
use super::{PolicyError, Result};

/// One key under one operator.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    key: ConditionKey,
    /// Over the values of a set.
    quantifier: Quantifier,
    /// Holds if the request says nothing of the key.
    if_exists: bool,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    One,
    Any,
    All,
}

#[derive(Clone, Debug)]
enum Test {
    /// `Null`: whether the key must be absent.
    Absent(Vec<bool>),
    /// One of the values fits, or for a negated operator none.
    Compare { negated: bool, values: Values },
}

/// What a request's value is compared with: any of these.
#[derive(Clone, Debug)]
enum Values {
    Texts(Vec<Pattern>),
    TextsIgnoringCase(Vec<Pattern>),
    Numbers(Relation, Vec<f64>),
    Dates(Relation, Vec<i64>),
    Truths(Vec<bool>),
    Networks(Vec<Network>),
    Arns(Vec<[Pattern; 6]>),
}

/// How the request's value must stand to the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    fn holds<T: PartialOrd>(self, request: T, policy: T) -> bool {
        match self {
            Self::Equal => request == policy,
            Self::Less => request < policy,
            Self::LessOrEqual => request <= policy,
            Self::Greater => request > policy,
            Self::GreaterOrEqual => request >= policy,
        }
    }

    fn parse(suffix: &str) -> Option<(Self, bool)> {
        Some(match suffix {
            "Equals" => (Self::Equal, false),
            "NotEquals" => (Self::Equal, true),
            "LessThan" => (Self::Less, false),
            "LessThanEquals" => (Self::LessOrEqual, false),
            "GreaterThan" => (Self::Greater, false),
            "GreaterThanEquals" => (Self::GreaterOrEqual, false),
            _ => return None,
        })
    }
}

/// An operator's name, taken apart.
#[derive(Clone, Copy, Debug)]
struct Operator {
    family: Family,
    negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Text,
    TextIgnoringCase,
    TextLike,
    Number(Relation),
    Date(Relation),
    Truth,
    Address,
    Arn,
    Null,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let (family, negated) = match name {
            "StringEquals" => (Family::Text, false),
            "StringNotEquals" => (Family::Text, true),
            "StringEqualsIgnoreCase" => (Family::TextIgnoringCase, false),
            "StringNotEqualsIgnoreCase" => (Family::TextIgnoringCase, true),
            "StringLike" => (Family::TextLike, false),
            "StringNotLike" => (Family::TextLike, true),
            "Bool" => (Family::Truth, false),
            "IpAddress" => (Family::Address, false),
            "NotIpAddress" => (Family::Address, true),
            "ArnEquals" | "ArnLike" => (Family::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Family::Arn, true),
            "Null" => (Family::Null, false),
            _ => {
                if let Some(suffix) = name.strip_prefix("Numeric") {
                    let (relation, negated) = Relation::parse(suffix)?;
                    (Family::Number(relation), negated)
                } else {
                    let (relation, negated) = Relation::parse(name.strip_prefix("Date")?)?;
                    (Family::Date(relation), negated)
                }
            }
        };
        Some(Self { family, negated })
    }

    /// Whether it compares values of this kind: what never could fit is an error of whoever wrote the policy.
    fn suits(self, kind: Kind) -> bool {
        match self.family {
            Family::Null => true,
            Family::Text | Family::TextIgnoringCase | Family::TextLike => kind != Kind::Address,
            Family::Number(_) => matches!(kind, Kind::Number | Kind::Epoch | Kind::Text | Kind::Set),
            Family::Date(_) => matches!(kind, Kind::Date | Kind::Epoch),
            Family::Truth => kind == Kind::Truth,
            Family::Address => kind == Kind::Address,
            Family::Arn => kind == Kind::Arn,
        }
    }
}

/// Reads the element `Condition`. `variables`: see [`Syntax`].
///
/// # Errors
/// For operators, keys and values that are not known.
pub(super) fn parse(condition: &Json, variables: bool) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    for (name, keys) in condition.fields("Condition")? {
        let (quantifier, if_exists, operator) = operator(name)?;
        for (key, values) in keys.fields(name)? {
            let key = ConditionKey::parse(key)?;
            if !operator.suits(key.kind()) {
                return Err(PolicyError::new(format!(
                    "The condition operator {name} cannot be used with the key {}.",
                    key.name()
                )));
            }
            if key.kind() == Kind::Set && quantifier == Quantifier::One && operator.family != Family::Null {
                return Err(PolicyError::new(format!(
                    "The key {} is a set: its operator begins with ForAnyValue: or ForAllValues:.",
                    key.name()
                )));
            }
            let test = test(operator, &key, values, variables)?;
            conditions.push(Condition {
                key,
                quantifier,
                if_exists,
                test,
            });
        }
    }
    Ok(conditions)
}

fn operator(name: &str) -> Result<(Quantifier, bool, Operator)> {
    let (quantifier, rest) = match name.split_once(':') {
        Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
        Some(("ForAllValues", rest)) => (Quantifier::All, rest),
        _ => (Quantifier::One, name),
    };
    let (if_exists, base) = match rest.strip_suffix("IfExists") {
        Some(base) => (true, base),
        None => (false, rest),
    };
    let operator = Operator::parse(base)
        // Null asks about existence itself.
        .filter(|it| it.family != Family::Null || (!if_exists && quantifier == Quantifier::One));
    operator
        .map(|operator| (quantifier, if_exists, operator))
        .ok_or_else(|| PolicyError::new(format!("Invalid Condition type : {name}.")))
}

fn test(operator: Operator, key: &ConditionKey, values: &Json, variables: bool) -> Result<Test> {
    let invalid = |value: &str| {
        PolicyError::new(format!(
            "The value {value:?} is not one that the key {} can be compared with.",
            key.name()
        ))
    };
    let texts = texts(key, values)?;
    let pattern = |wildcards: bool| {
        let syntax = Syntax { wildcards, variables };
        move |text: &String| Pattern::parse(text, syntax)
    };
    let negated = operator.negated;
    let values = match operator.family {
        Family::Null => return Ok(Test::Absent(each(&texts, value::truth, invalid)?)),
        Family::Text => Values::Texts(texts.iter().map(pattern(false)).collect::<Result<_>>()?),
        Family::TextLike => Values::Texts(texts.iter().map(pattern(true)).collect::<Result<_>>()?),
        Family::TextIgnoringCase => {
            Values::TextsIgnoringCase(texts.iter().map(pattern(false)).collect::<Result<_>>()?)
        }
        Family::Number(relation) => Values::Numbers(relation, each(&texts, value::number, invalid)?),
        Family::Date(relation) => Values::Dates(relation, each(&texts, value::date, invalid)?),
        Family::Truth => Values::Truths(each(&texts, value::truth, invalid)?),
        Family::Address => Values::Networks(each(&texts, Network::parse, invalid)?),
        Family::Arn => {
            let arns = texts.iter().map(|text| {
                let parts = arn_pattern(text, variables)?;
                parts.ok_or_else(|| invalid(text))
            });
            Values::Arns(arns.collect::<Result<_>>()?)
        }
    };
    Ok(Test::Compare { negated, values })
}

fn each<T>(
    texts: &[String],
    read: impl Fn(&str) -> Option<T>,
    invalid: impl Fn(&str) -> PolicyError,
) -> Result<Vec<T>> {
    let values = texts.iter().map(|text| read(text).ok_or_else(|| invalid(text)));
    values.collect()
}

/// The values as text; at least one.
fn texts(key: &ConditionKey, values: &Json) -> Result<Vec<String>> {
    let values = values.one_or_more();
    if values.is_empty() {
        return Err(PolicyError::new(format!(
            "The condition on {} has no values.",
            key.name()
        )));
    }
    let texts = values.iter().map(|value| match value {
        Json::Text(text) | Json::Number(text) => Ok(text.clone()),
        Json::Bool(truth) => Ok(truth.to_string()),
        other => Err(PolicyError::new(format!(
            "The condition on {} has {} as a value.",
            key.name(),
            other.kind()
        ))),
    });
    texts.collect()
}

/// An ARN whose parts are patterns, each for itself. A colon within a variable separates nothing.
fn arn_pattern(text: &str, variables: bool) -> Result<Option<[Pattern; 6]>> {
    let syntax = Syntax {
        wildcards: true,
        variables,
    };
    let (mut parts, mut start, mut depth) = (Vec::with_capacity(6), 0, 0_u32);
    for (at, character) in text.char_indices() {
        match character {
            '{' if variables && text[..at].ends_with('$') => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && parts.len() < 5 => {
                parts.push(Pattern::parse(&text[start..at], syntax)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(Pattern::parse(&text[start..], syntax)?);
    Ok(if text.starts_with("arn:") {
        parts.try_into().ok()
    } else {
        None
    })
}

impl Condition {
    /// Whether it asks for tags of the object that a request is about.
    pub(super) fn asks_for_object_tags(&self) -> bool {
        matches!(self.key, ConditionKey::ExistingObjectTag(_))
    }

    /// Whether it holds of a request; `None` if that is not known yet.
    pub(super) fn holds(&self, facts: &dyn Facts) -> Option<bool> {
        let fact = facts.fact(&self.key);
        let (negated, values) = match &self.test {
            Test::Absent(_) if fact == Fact::Unknown => return None,
            Test::Absent(wanted) => return Some(wanted.contains(&(fact == Fact::Absent))),
            Test::Compare { negated, values } => (*negated, values),
        };
        let fits = |text: &str| values.fit(text, facts) != negated;
        Some(match (fact, self.quantifier) {
            (Fact::Unknown, _) => return None,
            (Fact::Absent, Quantifier::One) => self.if_exists || negated,
            (Fact::Absent, Quantifier::Any) => self.if_exists,
            (Fact::Absent, Quantifier::All) => true,
            (Fact::One(text), _) => fits(&text),
            (Fact::Many(texts), Quantifier::All) => texts.iter().all(|text| fits(text)),
            (Fact::Many(texts), _) => texts.iter().any(|text| fits(text)),
        })
    }

    /// True if it ties a statement to few callers, so that a statement for everybody is not public (Amazon, "The
    /// meaning of public"): by address, or by who asks, with fixed values.
    pub(super) fn is_restrictive(&self) -> bool {
        let Test::Compare {
            negated: false,
            values,
        } = &self.test
        else {
            return false;
        };
        if self.if_exists || self.quantifier == Quantifier::All {
            return false;
        }
        match (values, &self.key) {
            (Values::Networks(networks), _) => !networks.iter().any(Network::is_broad),
            (Values::Texts(patterns), ConditionKey::Userid | ConditionKey::Username) => {
                patterns.iter().all(Pattern::is_fixed)
            }
            (Values::Texts(patterns), ConditionKey::PrincipalArn) => patterns.iter().all(Pattern::is_fixed),
            (Values::Arns(arns), _) => arns.iter().flatten().all(Pattern::is_fixed),
            _ => false,
        }
    }
}

impl Values {
    fn fit(&self, text: &str, facts: &dyn Facts) -> bool {
        match self {
            Self::Texts(patterns) => patterns.iter().any(|pattern| pattern.matches(text, facts)),
            Self::TextsIgnoringCase(patterns) => patterns
                .iter()
                .any(|pattern| pattern.matches_ignoring_case(text, facts)),
            Self::Numbers(relation, numbers) => value::number(text)
                .is_some_and(|request| numbers.iter().any(|policy| relation.holds(request, *policy))),
            Self::Dates(relation, dates) => value::date(text)
                .is_some_and(|request| dates.iter().any(|policy| relation.holds(request, *policy))),
            Self::Truths(truths) => value::truth(text).is_some_and(|truth| truths.contains(&truth)),
            Self::Networks(networks) => value::address(text)
                .is_some_and(|address| networks.iter().any(|network| network.contains(address))),
            Self::Arns(arns) => value::arn_parts(text).is_some_and(|parts| {
                arns.iter().any(|arn| {
                    let mut pairs = arn.iter().zip(parts);
                    pairs.all(|(pattern, part)| pattern.matches(part, facts))
                })
            }),
        }
    }
}
