//! The examples of Amazon's user guides ("Bucket policy examples", "Identity-based policy examples", "Using multiple
//! values for a single condition key").

use super::*;

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
