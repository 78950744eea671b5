//! What statements come to together: denies, restrictions, principals, opposites, what is public, policies with names.

use super::*;

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
