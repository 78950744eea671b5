//! What an SDK's ordinary retry does: a few attempts with growing pauses, for answers and failures that may
//! pass. What it does not cover reaches the person who uses the SDK.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::http1::Body;
use crate::s3::{Request, Response, S3};

/// Attempts of the AWS SDKs' legacy mode.
pub const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; doubled before each further one.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long one attempt may take: SDKs wait a minute for the next byte.
const ATTEMPT: Duration = Duration::from_secs(60);

/// Sends a request as an SDK does, again after what may pass; how often it was sent besides.
///
/// # Errors
/// If the last attempt failed too.
pub async fn send(s3: &S3, request: &Request<'_>, body: Body<'_>) -> anyhow::Result<(Response, u32)> {
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    for attempt in 1..=ATTEMPTS {
        let sent = tokio::time::timeout(ATTEMPT, s3.send(request, body)).await;
        let answer = sent
            .context("no answer within a minute")
            .and_then(|answer| answer);
        match answer {
            Ok(answer) if !matches!(answer.status(), 500 | 502 | 503 | 504) => return Ok((answer, attempt)),
            other => last = Some(other),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    match last {
        Some(Ok(answer)) => bail!(
            "{} /{}/{}: {} after {ATTEMPTS} attempts: {}",
            request.method,
            request.bucket,
            request.key,
            answer.status(),
            answer.text()
        ),
        Some(Err(error)) => Err(error.context(format!("after {ATTEMPTS} attempts"))),
        None => bail!("no attempt was made"),
    }
}

/// Puts an object as an SDK does.
///
/// # Errors
/// If it is not stored after all attempts.
pub async fn put(s3: &S3, bucket: &str, key: &str, body: Body<'_>) -> anyhow::Result<Response> {
    let (answer, _) = send(s3, &Request::object("PUT", bucket, key), body).await?;
    answer.expect(200)
}
