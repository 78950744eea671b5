//! The language by examples, and documents that must be refused. Here is what the files share.

mod conditions;
mod documents;
mod examples;
mod statements;

use super::*;
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
