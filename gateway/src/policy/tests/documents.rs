//! Documents that must be refused, and that no document makes anything panic.

use super::*;
use proptest::prelude::*;

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
