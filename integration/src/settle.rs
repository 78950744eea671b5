//! Waiting for a state that the cluster reaches by itself: looked at again and again up to a deadline,
//! never slept for.

use std::time::{Duration, Instant};

use crate::seed::number_from_env;

/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How long upkeep may take, lease deadlines included: `ULLAGE_TEST_SETTLE_SECONDS`, or three minutes.
#[must_use]
pub fn deadline() -> Duration {
    Duration::from_secs(number_from_env("ULLAGE_TEST_SETTLE_SECONDS", 180))
}

/// Waits until `look` is well.
///
/// # Errors
/// What `look` last found wrong, when the time is over.
pub async fn until<T>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("still so after {limit:?}")));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
