//! The language by examples: those of Amazon's user guides ("Bucket policy examples", "Identity-based policy
//! examples", "Using multiple values for a single condition key"), and documents that must be refused.

use super::*;
use proptest::prelude::*;
use std::borrow::Cow;

/// Facts of a request, by the names of their keys.
#[derive(Clone, Debug, Default)]
struct Known(Vec<(&'static str, Vec<&'static str>)>);

impl Facts for Known {
    fn fact(&self, key: &ConditionKey) -> Fact<'_> {
        let found = self.0.iter().find(|(name, _)| *name == key.name());
        Fact::of(found.map(|(_, values)| Cow::Borrowed(values[0])))
    }
}

fn known(facts: &[(&'static str, &'static str)]) -> Known {
    Known(facts.iter().map(|(name, value)| (*name, vec![*value])).collect())
}

const ALICE: Principal<'_> = Principal::User {
    name: "alice",
    id: "000000000000000000000000000000000000000000000000000000000000000a",
};
const BOB: Principal<'_> = Principal::User {
    name: "bob",
    id: "000000000000000000000000000000000000000000000000000000000000000b",
};
const ROOT: Principal<'_> = Principal::Root {
    id: "0000000000000000000000000000000000000000000000000000000000000000",
};
const BUCKET: &str = "amzn-s3-demo-bucket";

fn bucket_policy(text: &str) -> Policy {
    Policy::parse(text, PolicyKind::Bucket(BUCKET)).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn user_policy(text: &str) -> Policy {
    Policy::parse(text, PolicyKind::User).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A statement of a bucket policy of the newer version.
fn statement(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

fn decide(policy: &Policy, who: Principal<'_>, what: Action, on: &str, facts: &Known) -> Decision {
    let ask = Ask {
        principal: &who,
        action: what,
        resource: on,
        facts,
    };
    let policies = Policies {
        bucket: Some(policy),
        ..Policies::default()
    };
    evaluate(&ask, policies)
}

use Action::{DeleteObject, GetObject, ListBucket, PutObject};
use Decision::{Allowed, Denied, NotAllowed};

#[test]
fn example_public_read() {
    let policy = bucket_policy(
        r#"{"Version":"2012-10-17","Statement":[{"Sid":"PublicRead","Effect":"Allow","Principal":"*",
        "Action":["s3:GetObject","s3:GetObjectVersion"],"Resource":["arn:aws:s3:::amzn-s3-demo-bucket/*"]}]}"#,
    );
    let none = known(&[]);
    for who in [ALICE, Principal::Anonymous] {
        assert_eq!(
            decide(&policy, who, GetObject, "amzn-s3-demo-bucket/a/b", &none),
            Allowed
        );
        assert_eq!(
            decide(&policy, who, GetObject, "amzn-s3-demo-bucket2/a", &none),
            NotAllowed
        );
        assert_eq!(
            decide(&policy, who, PutObject, "amzn-s3-demo-bucket/a", &none),
            NotAllowed
        );
        assert_eq!(
            decide(&policy, who, ListBucket, "amzn-s3-demo-bucket", &none),
            NotAllowed
        );
    }
    assert_eq!(
        decide(&policy, ROOT, PutObject, "amzn-s3-demo-bucket/a", &none),
        Allowed
    );
    assert!(policy.is_public());
}

#[test]
fn example_addresses() {
    let policy = bucket_policy(
        r#"{"Version":"2012-10-17","Id":"S3PolicyId1","Statement":[{"Sid":"IPAllow","Effect":"Deny",
        "Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::amzn-s3-demo-bucket",
        "arn:aws:s3:::amzn-s3-demo-bucket/*"],"Condition":{"NotIpAddress":{"aws:SourceIp":["192.0.2.0/24",
        "2001:DB8:1234:5678::/64"]}}}]}"#,
    );
    for (address, expected) in [
        ("192.0.2.7", NotAllowed),
        ("203.0.113.1", Denied),
        ("2001:db8:1234:5678::1", NotAllowed),
        ("2001:db8:1234:5679::1", Denied),
    ] {
        let facts = known(&[("aws:SourceIp", address)]);
        assert_eq!(
            decide(&policy, ALICE, GetObject, "amzn-s3-demo-bucket/a", &facts),
            expected,
            "{address}"
        );
        assert_eq!(
            decide(&policy, ROOT, GetObject, "amzn-s3-demo-bucket/a", &facts),
            Allowed
        );
    }
    assert!(!policy.is_public());
}

#[test]
fn example_tls_only() {
    let policy = bucket_policy(&statement(
        r#"{"Sid":"RestrictToTLSRequestsOnly","Action":"s3:*","Effect":"Deny","Resource":
        ["arn:aws:s3:::amzn-s3-demo-bucket","arn:aws:s3:::amzn-s3-demo-bucket/*"],
        "Condition":{"Bool":{"aws:SecureTransport":"false"}},"Principal":"*"}"#,
    ));
    let plain = known(&[("aws:SecureTransport", "false")]);
    let secure = known(&[("aws:SecureTransport", "true")]);
    assert_eq!(decide(&policy, ALICE, ListBucket, BUCKET, &plain), Denied);
    assert_eq!(decide(&policy, ALICE, ListBucket, BUCKET, &secure), NotAllowed);
}

#[test]
fn example_acl_on_upload() {
    let policy = bucket_policy(&statement(
        r#"{"Sid":"PolicyForAllowUploadWithACL","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},
        "Action":"s3:PutObject","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*",
        "Condition":{"StringEquals":{"s3:x-amz-acl":"bucket-owner-full-control"}}}"#,
    ));
    let with = known(&[("s3:x-amz-acl", "bucket-owner-full-control")]);
    let object = "amzn-s3-demo-bucket/a";
    assert_eq!(decide(&policy, ALICE, PutObject, object, &with), Allowed);
    assert_eq!(decide(&policy, ALICE, PutObject, object, &known(&[])), NotAllowed);
    assert_eq!(decide(&policy, BOB, PutObject, object, &with), NotAllowed);
    assert_eq!(policy.users_named().collect::<Vec<_>>(), ["alice"]);
}

#[test]
fn example_prefixes_of_a_listing() {
    let policy = user_policy(
        r#"{"Version":"2012-10-17","Statement":[
        {"Sid":"AllowListingOfUserFolder","Action":["s3:ListBucket"],"Effect":"Allow",
         "Resource":["arn:aws:s3:::amzn-s3-demo-bucket"],"Condition":{"StringLike":{"s3:prefix":["home/${aws:username}/*",""]}}},
        {"Sid":"AllowAllS3ActionsInUserFolder","Effect":"Allow","Action":["s3:*"],
         "Resource":["arn:aws:s3:::amzn-s3-demo-bucket/home/${aws:username}/*"]}]}"#,
    );
    let judge = |who, what, on: &str, facts: &[(&'static str, &'static str)]| {
        let facts = known(facts);
        let ask = Ask {
            principal: &who,
            action: what,
            resource: on,
            facts: &facts,
        };
        let policies = Policies {
            user: Some(&policy),
            ..Policies::default()
        };
        evaluate(&ask, policies)
    };
    let alice = ("aws:username", "alice");
    assert_eq!(
        judge(ALICE, ListBucket, BUCKET, &[alice, ("s3:prefix", "home/alice/x")]),
        Allowed
    );
    assert_eq!(
        judge(ALICE, ListBucket, BUCKET, &[alice, ("s3:prefix", "")]),
        Allowed
    );
    assert_eq!(
        judge(ALICE, ListBucket, BUCKET, &[alice, ("s3:prefix", "home/bob/")]),
        NotAllowed
    );
    assert_eq!(judge(ALICE, ListBucket, BUCKET, &[alice]), NotAllowed);
    assert_eq!(
        judge(ALICE, PutObject, "amzn-s3-demo-bucket/home/alice/f", &[alice]),
        Allowed
    );
    assert_eq!(
        judge(ALICE, PutObject, "amzn-s3-demo-bucket/home/bob/f", &[alice]),
        NotAllowed
    );
    // Text of a variable is no pattern, and a variable without a value fits nothing.
    let star = ("aws:username", "*");
    assert_eq!(
        judge(ALICE, PutObject, "amzn-s3-demo-bucket/home/bob/f", &[star]),
        NotAllowed
    );
    assert_eq!(
        judge(ALICE, PutObject, "amzn-s3-demo-bucket/home/alice/f", &[]),
        NotAllowed
    );
}

#[test]
fn example_max_keys_and_dates() {
    let policy = bucket_policy(&statement(
        r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"s3:ListBucket","Resource":"arn:aws:s3:::amzn-s3-demo-bucket",
        "Condition":{"NumericLessThanEquals":{"s3:max-keys":"10"},"DateGreaterThan":{"aws:CurrentTime":"2020-04-01T00:00:00Z"},
        "DateLessThan":{"aws:EpochTime":1593561600}}}"#,
    ));
    let at = |keys, now, epoch| {
        let facts = known(&[
            ("s3:max-keys", keys),
            ("aws:CurrentTime", now),
            ("aws:EpochTime", epoch),
        ]);
        decide(&policy, BOB, ListBucket, BUCKET, &facts)
    };
    assert_eq!(at("10", "2020-05-01T00:00:00.000Z", "1588291200"), Allowed);
    assert_eq!(at("11", "2020-05-01T00:00:00.000Z", "1588291200"), NotAllowed);
    assert_eq!(at("9", "2020-04-01T00:00:00.000Z", "1588291200"), NotAllowed);
    assert_eq!(at("9", "2020-05-01T00:00:00.000Z", "1593561600"), NotAllowed);
}

#[test]
fn a_deny_wins_wherever_it_stands() {
    let allow = r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*"}"#;
    let deny = r#"{"Effect":"Deny","Principal":{"AWS":["arn:aws:iam:::user/bob"]},"Action":"s3:Delete*","Resource":"*"}"#;
    let none = known(&[]);
    let on = "amzn-s3-demo-bucket/a";
    for order in [format!("{allow},{deny}"), format!("{deny},{allow}")] {
        let policy = bucket_policy(&statement(&order));
        assert_eq!(decide(&policy, BOB, DeleteObject, on, &none), Denied);
        assert_eq!(decide(&policy, BOB, PutObject, on, &none), Allowed);
        assert_eq!(decide(&policy, ALICE, DeleteObject, on, &none), Allowed);
    }
    let deny_all = user_policy(
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*"}}"#,
    );
    let allow_all = bucket_policy(&statement(allow));
    let ask = Ask {
        principal: &ALICE,
        action: GetObject,
        resource: on,
        facts: &none,
    };
    for acl in [false, true] {
        let policies = |user, bucket| Policies {
            user,
            bucket,
            acl,
            restricted: false,
        };
        assert_eq!(
            evaluate(&ask, policies(Some(&deny_all), Some(&allow_all))),
            Denied
        );
        assert_eq!(evaluate(&ask, policies(None, Some(&allow_all))), Allowed);
        let by_acl = if acl { Allowed } else { NotAllowed };
        assert_eq!(evaluate(&ask, policies(None, None)), by_acl);
    }
}

#[test]
fn a_restricted_policy_denies_and_grants_nothing() {
    let policy = bucket_policy(&statement(
        r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*"},
        {"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*"}"#,
    ));
    let facts = known(&[]);
    let decide = |action, acl, restricted| {
        let ask = Ask {
            principal: &Principal::Anonymous,
            action,
            resource: "amzn-s3-demo-bucket/a",
            facts: &facts,
        };
        let policies = Policies {
            user: None,
            bucket: Some(&policy),
            restricted,
            acl,
        };
        evaluate(&ask, policies)
    };
    assert_eq!(decide(GetObject, false, false), Allowed);
    assert_eq!(decide(GetObject, false, true), NotAllowed);
    assert_eq!(decide(GetObject, true, true), Allowed, "by a list");
    assert_eq!(decide(PutObject, true, true), Denied);
}

#[test]
fn principals_are_told_apart() {
    let check = |principal: &str, effect: &str, expected: [Decision; 3]| {
        let text = statement(&format!(
            r#"{{"Effect":"{effect}",{principal},"Action":"s3:GetObject","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*"}}"#
        ));
        let policy = bucket_policy(&text);
        let got = [ALICE, BOB, Principal::Anonymous]
            .map(|who| decide(&policy, who, GetObject, "amzn-s3-demo-bucket/a", &known(&[])));
        assert_eq!(got, expected, "{text}");
    };
    check(r#""Principal":"*""#, "Allow", [Allowed; 3]);
    check(r#""Principal":{"AWS":"*"}"#, "Deny", [Denied; 3]);
    let account = r#""Principal":{"AWS":"arn:aws:iam::123456789012:root"}"#;
    check(account, "Allow", [NotAllowed; 3]);
    check(account, "Deny", [Denied, Denied, NotAllowed]);
    let alice = r#"{"AWS":["123456789012","arn:aws:iam::123456789012:user/alice"]}"#;
    check(
        &format!(r#""Principal":{alice}"#),
        "Allow",
        [Allowed, NotAllowed, NotAllowed],
    );
    check(
        &format!(r#""NotPrincipal":{alice}"#),
        "Deny",
        [NotAllowed, Denied, Denied],
    );
    let bob =
        r#""Principal":{"CanonicalUser":"000000000000000000000000000000000000000000000000000000000000000b"}"#;
    check(bob, "Allow", [NotAllowed, Allowed, NotAllowed]);
}

#[test]
fn the_opposites_of_elements_turn_them_round() {
    let policy = bucket_policy(&statement(
        r#"{"Effect":"Allow","Principal":"*","NotAction":"s3:Delete*","NotResource":"arn:aws:s3:::amzn-s3-demo-bucket/secret/*"}"#,
    ));
    let none = known(&[]);
    assert_eq!(
        decide(&policy, BOB, GetObject, "amzn-s3-demo-bucket/a", &none),
        Allowed
    );
    assert_eq!(
        decide(&policy, BOB, DeleteObject, "amzn-s3-demo-bucket/a", &none),
        NotAllowed
    );
    assert_eq!(
        decide(&policy, BOB, GetObject, "amzn-s3-demo-bucket/secret/a", &none),
        NotAllowed
    );
}

/// One condition under an allow: whether it holds of the facts.
fn holds(condition: &str, facts: &[(&'static str, &'static str)]) -> bool {
    let policy = user_policy(&format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}}}"#
    ));
    let facts = known(facts);
    let ask = Ask {
        principal: &ALICE,
        action: GetObject,
        resource: "b/k",
        facts: &facts,
    };
    let policies = Policies {
        user: Some(&policy),
        ..Policies::default()
    };
    evaluate(&ask, policies) == Allowed
}

#[test]
fn operators_compare() {
    let check = |operator: &str, key: &'static str, value: &str, fact: &'static str, expected: bool| {
        let condition = format!(r#"{{"{operator}":{{"{key}":{value}}}}}"#);
        assert_eq!(holds(&condition, &[(key, fact)]), expected, "{condition} {fact}");
    };
    let agent = "aws:UserAgent";
    check("StringEquals", agent, r#""a*""#, "a*", true);
    check("StringEquals", agent, r#""a*""#, "ab", false);
    check("StringEquals", agent, r#"["x","a"]"#, "a", true);
    check("StringEquals", agent, r#""A""#, "a", false);
    check("StringNotEquals", agent, r#"["x","a"]"#, "a", false);
    check("StringNotEquals", agent, r#"["x","y"]"#, "a", true);
    check("StringEqualsIgnoreCase", agent, r#""AbÉ""#, "aBé", true);
    check("StringNotEqualsIgnoreCase", agent, r#""A""#, "a", false);
    check("StringLike", agent, r#""a?c*""#, "abcd", true);
    check("StringLike", agent, r#""a${*}""#, "ab", false);
    check("StringLike", agent, r#""a${*}""#, "a*", true);
    check("StringNotLike", agent, r#""a*""#, "ab", false);
    check("NumericEquals", "s3:max-keys", "10", "10", true);
    check("NumericNotEquals", "s3:max-keys", r#""10.0""#, "10", false);
    check("NumericLessThan", "s3:max-keys", "10", "9", true);
    check("NumericGreaterThan", "s3:max-keys", "10", "10", false);
    check("NumericGreaterThanEquals", "s3:max-keys", "10", "10", true);
    check(
        "DateEquals",
        "aws:CurrentTime",
        r#""2020-01-01""#,
        "2020-01-01T00:00:00Z",
        true,
    );
    check(
        "DateNotEquals",
        "aws:CurrentTime",
        r#""2020-01-01""#,
        "2020-01-01T00:00:00Z",
        false,
    );
    check(
        "DateLessThanEquals",
        "aws:CurrentTime",
        r#""2020-01-01""#,
        "2020-01-02T00:00:00Z",
        false,
    );
    check(
        "DateGreaterThanEquals",
        "aws:EpochTime",
        "1577836800",
        "1577836800",
        true,
    );
    check(
        "NumericLessThan",
        "aws:EpochTime",
        "1577836800",
        "1577836799",
        true,
    );
    check("Bool", "aws:SecureTransport", "true", "true", true);
    check("Bool", "aws:SecureTransport", r#""true""#, "false", false);
    check("IpAddress", "aws:SourceIp", r#""10.0.0.0/8""#, "10.1.2.3", true);
    check("IpAddress", "aws:SourceIp", r#""10.0.0.0/8""#, "11.1.2.3", false);
    check(
        "NotIpAddress",
        "aws:SourceIp",
        r#""10.0.0.0/8""#,
        "11.1.2.3",
        true,
    );
    let arn = "arn:aws:iam::000000000000:user/alice";
    check(
        "ArnLike",
        "aws:PrincipalArn",
        r#""arn:aws:iam::*:user/a*""#,
        arn,
        true,
    );
    check(
        "ArnEquals",
        "aws:PrincipalArn",
        r#""arn:aws:iam::000000000000:user/alice""#,
        arn,
        true,
    );
    check(
        "ArnNotLike",
        "aws:PrincipalArn",
        r#""arn:aws:iam::*:user/b*""#,
        arn,
        true,
    );
    // Each part for itself: a wildcard does not reach over a colon.
    check(
        "ArnLike",
        "aws:PrincipalArn",
        r#""arn:*:user/alice:x:y:z""#,
        arn,
        false,
    );
    check(
        "ArnLike",
        "aws:PrincipalArn",
        r#""arn:aws:iam::*:user/${aws:PrincipalArn}""#,
        arn,
        false,
    );
}

#[test]
fn what_a_request_does_not_say() {
    let absent =
        |operator: &str, value: &str| holds(&format!(r#"{{"{operator}":{{"aws:Referer":{value}}}}}"#), &[]);
    assert!(!absent("StringEquals", r#""a""#));
    assert!(absent("StringEqualsIfExists", r#""a""#));
    assert!(absent("StringNotEquals", r#""a""#));
    assert!(absent("StringNotLike", r#""*""#));
    assert!(absent("Null", "true"));
    assert!(!absent("Null", r#""false""#));
    assert!(absent("ForAllValues:StringEquals", r#""a""#));
    assert!(!absent("ForAnyValue:StringEquals", r#""a""#));
    let tag = [("s3:RequestObjectTag", "blue")];
    assert!(holds(
        r#"{"StringEquals":{"S3:requestobjecttag/colour":"blue"}}"#,
        &tag
    ));
    assert!(holds(
        r#"{"ForAllValues:StringLike":{"s3:RequestObjectTagKeys":["colour"]}}"#,
        &[]
    ));
    let there = [("aws:Referer", "b")];
    assert!(!holds(r#"{"StringEqualsIfExists":{"aws:Referer":"a"}}"#, &there));
    assert!(holds(r#"{"Null":{"aws:referer":false}}"#, &there));
    assert!(holds(
        r#"{"ForAnyValue:StringLike":{"aws:Referer":["a","b"]}}"#,
        &there
    ));
}

#[test]
fn variables_need_the_newer_version() {
    let text = |version: &str| {
        format!(
            r#"{{{version}"Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
            "Resource":"arn:aws:s3:::amzn-s3-demo-bucket/${{aws:username}}/*"}}]}}"#
        )
    };
    let facts = known(&[("aws:username", "alice")]);
    let new = bucket_policy(&text(r#""Version":"2012-10-17","#));
    assert_eq!(
        decide(&new, ALICE, GetObject, "amzn-s3-demo-bucket/alice/k", &facts),
        Allowed
    );
    for old in [r#""Version":"2008-10-17","#, ""] {
        let old = bucket_policy(&text(old));
        assert_eq!(
            decide(&old, ALICE, GetObject, "amzn-s3-demo-bucket/alice/k", &facts),
            NotAllowed
        );
        let literal = "amzn-s3-demo-bucket/${aws:username}/k";
        assert_eq!(decide(&old, ALICE, GetObject, literal, &facts), Allowed);
    }
    let default = bucket_policy(&statement(
        r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::amzn-s3-demo-bucket/${aws:username, 'guest'}"}"#,
    ));
    let guest = "amzn-s3-demo-bucket/guest";
    assert_eq!(
        decide(&default, Principal::Anonymous, GetObject, guest, &known(&[])),
        Allowed
    );
    assert_eq!(decide(&default, ALICE, GetObject, guest, &facts), NotAllowed);
}

#[test]
fn public_means_everybody_without_a_tie() {
    let public = |condition: &str| {
        bucket_policy(&statement(&format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":"s3:GetObject",
            "Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*"{condition}}}"#
        )))
        .is_public()
    };
    assert!(public(""));
    assert!(public(r#","Condition":{"StringLike":{"aws:UserAgent":"x"}}"#));
    assert!(public(
        r#","Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/1"}}"#
    ));
    assert!(public(
        r#","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/a"}}"#
    ));
    assert!(public(r#","Condition":{"StringNotEquals":{"aws:userid":"a"}}"#));
    // Whoever it is has its own name.
    assert!(public(
        r#","Condition":{"StringEquals":{"aws:username":"${aws:username}"}}"#
    ));
    assert!(public(
        r#","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::000000000000:user/${aws:username}"}}"#
    ));
    assert!(!public(
        r#","Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","192.0.2.1"]}}"#
    ));
    assert!(!public(r#","Condition":{"StringEquals":{"aws:userid":"a"}}"#));
}

#[test]
fn what_is_not_understood_is_refused() {
    let good = r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/*"}"#;
    let edits = [
        // Elements.
        (r#""Effect":"Allow""#, r#""Effect":"allow""#, "effect"),
        (r#""Effect":"Allow","#, "", "Effect"),
        (r#""Principal":"*","#, "", "Principal"),
        (r#""Principal":"*""#, r#""NotPrincipal":"*""#, "NotPrincipal"),
        (
            r#""Principal":"*""#,
            r#""Principal":"*","NotPrincipal":"*""#,
            "opposite",
        ),
        (
            r#""Principal":"*""#,
            r#""Principal":"*","Principal":"*""#,
            "twice",
        ),
        (r#""Principal":"*""#, r#""Principal":"alice""#, "principal"),
        (
            r#""Principal":"*""#,
            r#""Principal":{"AWS":"alice"}"#,
            "principal",
        ),
        (
            r#""Principal":"*""#,
            r#""Principal":{"AWS":"arn:aws:iam:::user/*"}"#,
            "principal",
        ),
        (
            r#""Principal":"*""#,
            r#""Principal":{"AWS":"arn:aws:iam:::role/r"}"#,
            "principal",
        ),
        (
            r#""Principal":"*""#,
            r#""Principal":{"Service":"x.amazonaws.com"}"#,
            "Service",
        ),
        (r#""Principal":"*""#, r#""Principal":{}"#, "empty"),
        (r#""Principal":"*""#, r#""Principal":{"AWS":[]}"#, "empty"),
        (r#""Principal":"*""#, r#""principal":"*""#, "principal"),
        (r#""Principal":"*""#, r#""Principal":"*","Extra":1"#, "Extra"),
        // Actions and resources.
        (r#""s3:GetObject""#, r#""s3:GetObjects""#, "action"),
        (r#""s3:GetObject""#, r#""iam:GetUser""#, "action"),
        (r#""s3:GetObject""#, "[]", "empty"),
        (r#""s3:GetObject""#, "7", "string"),
        (r#""s3:GetObject""#, r#""s3:ListBucket""#, "does not apply"),
        (
            r#""s3:GetObject""#,
            r#"["s3:GetObject","s3:ListAllMyBuckets"]"#,
            "does not apply",
        ),
        (r#"bucket/*""#, r#"bucket""#, "does not apply"),
        (r#"bucket/*""#, r#"bucket2/*""#, "resource"),
        (
            r#"arn:aws:s3:::amzn-s3-demo-bucket/*"#,
            "amzn-s3-demo-bucket/*",
            "resource",
        ),
        (
            r#"arn:aws:s3:::amzn-s3-demo-bucket/*"#,
            "arn:aws:sqs:::amzn-s3-demo-bucket/*",
            "resource",
        ),
        (
            r#"arn:aws:s3:::amzn-s3-demo-bucket/*"#,
            "arn:aws:s3:::",
            "resource",
        ),
        (r#"bucket/*""#, r#"bucket/${aws:nobody}""#, "variable"),
        (r#"bucket/*""#, r#"bucket/${aws:username""#, "variable"),
    ];
    assert!(Policy::parse(&statement(good), PolicyKind::Bucket(BUCKET)).is_ok());
    let refused = |text: &str, why: &str| {
        let error = Policy::parse(text, PolicyKind::Bucket(BUCKET)).expect_err(text);
        assert!(
            error.to_string().contains(why),
            "{text}: {error}, not for {why:?}"
        );
    };
    for (from, to, why) in edits {
        assert!(good.contains(from), "{from}");
        refused(&statement(&good.replace(from, to)), why);
    }
    for (condition, why) in [
        (r#"{"StringSounds":{"aws:Referer":"a"}}"#, "StringSounds"),
        (r#"{"BinaryEquals":{"aws:Referer":"a"}}"#, "BinaryEquals"),
        (r#"{"NullIfExists":{"aws:Referer":"true"}}"#, "NullIfExists"),
        (
            r#"{"ForSomeValues:StringEquals":{"aws:Referer":"a"}}"#,
            "ForSomeValues",
        ),
        (r#"{"StringEquals":{"aws:Nothing":"a"}}"#, "aws:Nothing"),
        (
            r#"{"StringEquals":{"s3:ExistingObjectTag/":"a"}}"#,
            "s3:ExistingObjectTag/",
        ),
        (r#"{"StringEquals":{"aws:Referer":[]}}"#, "no values"),
        (r#"{"StringEquals":{"aws:Referer":{"a":1}}}"#, "an object"),
        (r#"{"StringEquals":{"aws:Referer":null}}"#, "null"),
        (r#"{"StringEquals":{"s3:RequestObjectTagKeys":"a"}}"#, "is a set"),
        (
            r#"{"StringEquals":{"s3:RequestObjectTag/":"a"}}"#,
            "s3:RequestObjectTag/",
        ),
        (r#"{"StringEquals":"a"}"#, "object"),
        (r#"{"NumericEquals":{"s3:max-keys":"many"}}"#, "many"),
        (r#"{"NumericEquals":{"aws:SourceIp":"1"}}"#, "aws:SourceIp"),
        (r#"{"DateEquals":{"aws:CurrentTime":"tomorrow"}}"#, "tomorrow"),
        (r#"{"Bool":{"aws:SecureTransport":"maybe"}}"#, "maybe"),
        (r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/99"}}"#, "10.0.0.0/99"),
        (r#"{"StringEquals":{"aws:SourceIp":"10.0.0.1"}}"#, "StringEquals"),
        (r#"{"ArnLike":{"aws:PrincipalArn":"alice"}}"#, "alice"),
        (
            r#"{"StringEquals":{"aws:Referer":"a"},"StringEquals":{"aws:Referer":"b"}}"#,
            "twice",
        ),
    ] {
        let with = format!(r#"arn:aws:s3:::amzn-s3-demo-bucket/*","Condition":{condition}}}"#);
        refused(
            &statement(&good.replace(r#"arn:aws:s3:::amzn-s3-demo-bucket/*"}"#, &with)),
            why,
        );
    }
    refused("", "JSON");
    refused("[]", "object");
    refused("{}", "statements");
    refused(&statement(""), "statements");
    refused(&statement(&format!("{good}, 7")), "object");
    refused(&statement(good).replace("2012-10-17", "2012-10-18"), "version");
    let sids = good.replace('{', r#"{"Sid":"s","#);
    refused(&statement(&format!("{sids},{sids}")), "unique");
    refused(
        &statement(&vec![good; STATEMENTS_MAX + 1].join(",").replace(' ', "")),
        "bytes",
    );
    refused(&("[".repeat(10_000) + &"]".repeat(10_000)), "JSON");
    let user = Policy::parse(&statement(good), PolicyKind::User).expect_err("a principal in a user's policy");
    assert!(user.to_string().contains("Principal"));
}

#[test]
fn the_policies_with_names_grant_what_their_names_say() {
    let none = known(&[]);
    let judge = |policy, what: Action, on: &str| {
        let ask = Ask {
            principal: &ALICE,
            action: what,
            resource: on,
            facts: &none,
        };
        let policies = Policies {
            user: Some(policy),
            ..Policies::default()
        };
        evaluate(&ask, policies)
    };
    for action in Action::ALL {
        let reads = action.as_str().starts_with("Get") || action.as_str().starts_with("List");
        for on in ["", "b", "b/k"] {
            assert_eq!(judge(Policy::read_write(), *action, on), Allowed);
            assert_eq!(judge(Policy::deny_everything(), *action, on), Denied);
            let expected = if reads { Allowed } else { NotAllowed };
            assert_eq!(judge(Policy::read_only(), *action, on), expected, "{action:?}");
        }
    }
}

#[test]
fn documents_are_bounded() {
    let long = statement(&format!(
        r#"{{"Sid":"{}","Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        "a".repeat(USER_POLICY_BYTES_MAX)
    ));
    assert!(Policy::parse(&long, PolicyKind::User).is_err());
    let with_principal = long.replace(r#""Effect""#, r#""Principal":"*","Effect""#);
    assert!(Policy::parse(&with_principal, PolicyKind::Bucket(BUCKET)).is_ok());
}

/// Anything that can stand where a value stands in a document.
fn json() -> impl Strategy<Value = String> {
    let words = proptest::sample::select(vec![
        r#""*""#,
        r#""Allow""#,
        r#""Deny""#,
        r#""s3:Get*""#,
        r#""s3:?etObject""#,
        "true",
        "null",
        "3.5",
        r#""2012-10-17""#,
        r#""arn:aws:s3:::b/*""#,
        r#""arn:aws:iam::123456789012:user/a""#,
        r#""${aws:username}""#,
        r#""10.0.0.0/8""#,
        "[]",
        r#""2020-01-01T00:00:00Z""#,
        "{}",
        r#""""#,
        r#""${aws:username, 'x'}/?*""#,
    ])
    .prop_map(str::to_owned);
    words.prop_recursive(5, 60, 6, |inner| {
        let names = proptest::sample::select(vec![
            "Statement",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
            "AWS",
            "StringLike",
            "ForAllValues:StringNotLikeIfExists",
            "IpAddress",
            "Null",
            "ArnLike",
            "aws:username",
            "aws:PrincipalArn",
            "s3:prefix",
            "aws:SourceIp",
            "Sid",
            "Version",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|values| format!("[{}]", values.join(","))),
            proptest::collection::vec((names, inner), 0..6).prop_map(|fields| {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn reading_and_judging_never_panic(text in json(), bucket in any::<bool>(), on in ".{0,20}", name in ".{0,8}") {
        let kind = if bucket { PolicyKind::Bucket("b") } else { PolicyKind::User };
        let with = format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{text}}}]}}"#);
        for text in [text, with] {
            if let Ok(policy) = Policy::parse(&text, kind) {
                let facts = known(&[("aws:username", "a"), ("aws:SourceIp", "::1"), ("s3:prefix", "p")]);
                let ask = Ask {
                    principal: &Principal::User { name: &name, id: "x" },
                    action: GetObject,
                    resource: &on,
                    facts: &facts,
                };
                evaluate(&ask, Policies { user: Some(&policy), bucket: Some(&policy), ..Policies::default() });
                policy.is_public();
            }
        }
    }

    #[test]
    fn strange_text_is_refused_without_a_panic(text in any::<String>()) {
        prop_assert!(Policy::parse(&text, PolicyKind::User).is_err());
    }

    /// Whatever else a policy says: what one statement denies stays denied, and what nothing allows is not allowed.
    #[test]
    fn denies_win(extra in proptest::collection::vec((any::<bool>(), 0..4_usize, 0..3_usize), 0..6), place in 0..6_usize) {
        let actions = ["s3:*", "s3:GetObject", "s3:Put*", "s3:DeleteObject"];
        let resources = ["arn:aws:s3:::amzn-s3-demo-bucket/*", "arn:aws:s3:::amzn-s3-demo-bucket/a*", "*"];
        let mut statements: Vec<String> = extra.iter().map(|(allow, action, resource)| format!(
            r#"{{"Effect":"{}","Principal":"*","Action":"{}","Resource":"{}"}}"#,
            if *allow { "Allow" } else { "Deny" }, actions[*action], resources[*resource],
        )).collect();
        let deny = r#"{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::amzn-s3-demo-bucket/a/b"}"#;
        statements.insert(place.min(statements.len()), deny.to_owned());
        let policy = bucket_policy(&statement(&statements.join(",")));
        prop_assert_eq!(decide(&policy, ALICE, GetObject, "amzn-s3-demo-bucket/a/b", &known(&[])), Denied);
        let fits = |(allow, action, resource): &(bool, usize, usize), what: usize| {
            let action = *action == 0 || *action == what;
            (*allow, action && *resource != 1)
        };
        // The same for another object, by the meaning of the language: index 3 is DeleteObject, on "c".
        let about: Vec<bool> = extra.iter().map(|it| fits(it, 3)).filter(|(_, about)| *about).map(|(allow, _)| allow).collect();
        let expected = if about.contains(&false) { Denied } else if about.contains(&true) { Allowed } else { NotAllowed };
        prop_assert_eq!(decide(&policy, ALICE, DeleteObject, "amzn-s3-demo-bucket/c", &known(&[])), expected);
    }
}
