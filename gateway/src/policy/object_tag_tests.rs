//! Conditions on the tags of the object that a request is about: what can be decided before it is looked up, what is
//! decided then, and which statements could never mean what they say.

use super::*;
use std::borrow::Cow;

/// What is known of the object.
#[derive(Clone, Copy, Debug)]
enum Object {
    NotLookedUp,
    /// The value of its one tag `k`.
    Tagged(&'static str),
    WithoutTags,
}

impl Facts for Object {
    fn fact(&self, key: &ConditionKey) -> Fact<'_> {
        match (key, self) {
            (ConditionKey::ExistingObjectTag(_), Self::NotLookedUp) => Fact::Unknown,
            (ConditionKey::ExistingObjectTag(tag), Self::Tagged(value)) if tag == "k" => {
                Fact::One(Cow::Borrowed(value))
            }
            (ConditionKey::Referer, _) => Fact::One(Cow::Borrowed("here")),
            _ => Fact::Absent,
        }
    }
}

fn parse(statements: &str) -> Result<Policy> {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    Policy::parse(&text, PolicyKind::Bucket("b"))
}

fn statement(effect: &str, actions: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":"*","Action":{actions},"Resource":"arn:aws:s3:::b/*","Condition":{condition}}}"#
    )
}

fn decide(statements: &[String], acl: bool, action: Action, object: Object) -> Decision {
    let policy = parse(&statements.join(",")).unwrap_or_else(|error| panic!("{error}"));
    let ask = Ask {
        principal: &Principal::Anonymous,
        action,
        resource: "b/key",
        facts: &object,
    };
    let policies = Policies {
        bucket: Some(&policy),
        acl,
        ..Policies::default()
    };
    evaluate(&ask, policies)
}

const TAGGED: &str = r#"{"StringEquals":{"s3:ExistingObjectTag/k":"v"}}"#;
const READ: &str = r#""s3:GetObject""#;

use Action::{GetObject, GetObjectTagging};
use Decision::{Allowed, Denied, NotAllowed, Open};
use Object::{NotLookedUp, Tagged, WithoutTags};

#[test]
fn an_object_that_is_tagged_so_is_told_from_others() {
    let allow = [statement("Allow", READ, TAGGED)];
    let deny = [statement("Deny", READ, TAGGED)];
    for (object, allowed, denied) in [
        (NotLookedUp, Open, Open),
        (Tagged("v"), Allowed, Denied),
        (Tagged("w"), NotAllowed, Allowed),
        (WithoutTags, NotAllowed, Allowed),
    ] {
        assert_eq!(decide(&allow, false, GetObject, object), allowed, "{object:?}");
        assert_eq!(decide(&deny, true, GetObject, object), denied, "{object:?}");
    }
    let other = [statement(
        "Allow",
        READ,
        r#"{"StringNotEquals":{"s3:ExistingObjectTag/k":"v"}}"#,
    )];
    let none = [statement(
        "Allow",
        READ,
        r#"{"Null":{"s3:existingobjecttag/k":"true"}}"#,
    )];
    for (object, is_other, has_none) in [
        (NotLookedUp, Open, Open),
        (Tagged("v"), NotAllowed, NotAllowed),
        (Tagged("w"), Allowed, NotAllowed),
        (WithoutTags, Allowed, Allowed),
    ] {
        assert_eq!(decide(&other, false, GetObject, object), is_other, "{object:?}");
        assert_eq!(decide(&none, false, GetObject, object), has_none, "{object:?}");
    }
}

#[test]
fn an_object_is_looked_up_only_if_that_can_decide() {
    let allow = statement("Allow", READ, TAGGED);
    let deny = statement("Deny", READ, TAGGED);
    let open = statement("Allow", READ, r#"{"StringEquals":{"aws:Referer":"here"}}"#);
    let shut = statement("Deny", READ, r#"{"StringEquals":{"aws:Referer":"here"}}"#);
    let elsewhere = r#"{"StringEquals":{"s3:ExistingObjectTag/k":"v","aws:Referer":"there"}}"#;
    let here = r#"{"StringEquals":{"s3:ExistingObjectTag/k":"v","aws:Referer":"here"}}"#;
    let check = |statements: &[&String], acl, expected| {
        let statements: Vec<_> = statements.iter().map(|text| (*text).clone()).collect();
        assert_eq!(
            decide(&statements, acl, GetObject, NotLookedUp),
            expected,
            "{statements:?}"
        );
    };
    check(&[&allow], true, Allowed);
    check(&[&allow, &open], false, Allowed);
    check(&[&allow, &shut], false, Denied);
    check(&[&deny, &shut], true, Denied);
    check(&[&deny, &open], false, Open);
    check(&[&deny, &allow], false, Open);
    // What else a statement asks for is known.
    check(&[&statement("Allow", READ, elsewhere)], false, NotAllowed);
    check(&[&statement("Deny", READ, elsewhere)], true, Allowed);
    check(&[&statement("Allow", READ, here)], false, Open);
    // It is about something else.
    assert_eq!(decide(&[allow], false, GetObjectTagging, NotLookedUp), NotAllowed);
}

#[test]
fn statements_that_could_not_ask_for_tags_are_refused() {
    for actions in [
        r#""s3:DeleteObject""#,
        r#""s3:PutObject""#,
        r#""s3:ListBucket*""#,
        r#"["s3:GetObject","s3:DeleteObjectVersion"]"#,
    ] {
        let refused = parse(&statement("Deny", actions, TAGGED)).expect_err(actions);
        let said = "Conditions do not apply to combination of actions";
        assert!(refused.to_string().contains(said), "{actions}: {refused}");
    }
    for actions in [
        r#""*""#,
        r#""s3:*""#,
        r#""s3:Get*""#,
        r#"["s3:PutObjectTagging","s3:*Acl"]"#,
    ] {
        parse(&statement("Deny", actions, TAGGED)).expect(actions);
    }
    for action in Action::ALL.iter().filter(|action| action.knows_object_tags()) {
        parse(&statement(
            "Allow",
            &format!(r#""s3:{}""#, action.as_str()),
            TAGGED,
        ))
        .expect("known");
    }
    let variable = r#"{"StringEquals":{"aws:Referer":"${s3:ExistingObjectTag/k}"}}"#;
    let refused = parse(&statement("Allow", READ, variable)).expect_err("a variable");
    assert!(refused.to_string().contains("variable"), "{refused}");
}
