//! Conditions: operators, what a request does not say, variables.

use super::*;

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
