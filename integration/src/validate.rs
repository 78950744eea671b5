//! Holds a store to a record: every acknowledged object is there and byte-identical, what was deleted
//! is gone, an unknown outcome is one of its two states whole, and the listing says the same.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};

use crate::history::{Allowed, History, State};
use crate::http1::Body;
use crate::s3::{Request, S3};

/// Requests in flight during a check.
const CHECKS_IN_FLIGHT: usize = 8;

/// What a check saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Objects read and found right.
    pub objects: u64,
    /// Keys without an object, rightly.
    pub absent: u64,
}

/// Reads every key of the record and the listing, and settles the record to what was read: what is
/// there now must stay.
///
/// # Errors
/// Names every key that is not as it must be.
pub async fn check(s3: &S3, bucket: &str, history: &mut History) -> anyhow::Result<Seen> {
    let mut problems = Vec::new();
    let mut seen = Seen::default();
    let mut present = BTreeSet::new();
    let keys: Vec<(String, Allowed)> = history
        .keys()
        .map(|(key, allowed)| (key.to_owned(), allowed.clone()))
        .collect();
    for batch in keys.chunks(CHECKS_IN_FLIGHT) {
        let mut reads = Vec::new();
        for (key, allowed) in batch {
            let (s3, bucket, key, allowed) = (s3.clone(), bucket.to_owned(), key.clone(), allowed.clone());
            reads.push(tokio::spawn(async move {
                let state = read(&s3, &bucket, &key, &allowed).await;
                (key, state)
            }));
        }
        for task in reads {
            let (key, state) = task.await.context("join a check")?;
            match state {
                Ok(state) => {
                    history.settle(&key, state);
                    if state == State::Absent {
                        seen.absent += 1;
                    } else {
                        seen.objects += 1;
                        present.insert(key);
                    }
                }
                Err(error) => problems.push(format!("{key}: {error:#}")),
            }
        }
    }
    ensure!(
        problems.is_empty(),
        "{} of {} keys are wrong:\n{}",
        problems.len(),
        keys.len(),
        problems.join("\n")
    );
    let listed: BTreeSet<String> = s3
        .list_keys(bucket, "")
        .await
        .context("list")?
        .into_iter()
        .collect();
    let missing: Vec<_> = present.difference(&listed).collect();
    let extra: Vec<_> = listed.difference(&present).collect();
    ensure!(
        missing.is_empty() && extra.is_empty(),
        "listing lacks {missing:?} and has too much {extra:?}"
    );
    Ok(seen)
}

/// Reads one key; the state if it is one of those allowed.
async fn read(s3: &S3, bucket: &str, key: &str, allowed: &Allowed) -> anyhow::Result<State> {
    let answer = s3.send(&Request::object("GET", bucket, key), Body::Empty).await?;
    match answer.status() {
        404 if allowed.permits(State::Absent) => Ok(State::Absent),
        404 => bail!("LOST: allowed is {allowed:?}"),
        200 => {
            let states = std::iter::once(&allowed.settled).chain(&allowed.open);
            for state in states {
                let State::Holds(content) = state else { continue };
                if content.length == answer.body.len() as u64 && content.check(0, &answer.body).is_ok() {
                    return Ok(*state);
                }
            }
            bail!(
                "{} bytes that belong to no allowed state: {allowed:?}",
                answer.body.len()
            )
        }
        status => bail!("status {status}: {}", answer.text()),
    }
}
