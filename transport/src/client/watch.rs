//! Keeps one connection going, and ends it when it is idle or dead.

use super::Target;
use super::pool::{Pool, Usage};
use super::primed::LastHeard;
use bytes::Bytes;
use futures::future::poll_fn;
use h2::client::Connection;
use h2::{Ping, PingPong};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

/// What a connection is watched by.
pub(super) struct Watch {
    pub(super) usage: Arc<Usage>,
    pub(super) heard: LastHeard,
    pub(super) pings: Option<PingPong>,
    pub(super) idle: Duration,
    pub(super) keep_alive: Duration,
}

/// Why a watched connection ends.
enum Verdict {
    Idle,
    Dead,
}

/// Keeps `connection` going until it breaks, dies, or is idle for long.
pub(super) async fn drive<T>(
    connection: Connection<T, Bytes>,
    mut watch: Watch,
    pool: Weak<Pool>,
    target: Target,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let usage = watch.usage.clone();
    let mut connection = std::pin::pin!(connection);
    let address = &target.address;
    let verdict = tokio::select! {
        ended = connection.as_mut() => {
            match ended {
                Ok(()) => tracing::trace!(address, "a connection is closed"),
                Err(error) => tracing::debug!(address, %error, "a connection broke"),
            }
            None
        }
        verdict = watch.verdict() => Some(verdict),
    };
    if let Some(pool) = pool.upgrade() {
        pool.retire(&target, &usage);
    }
    match verdict {
        // Without its entry in the pool it ends by itself, after the calls that found it in the last moment;
        // those are watched too.
        Some(Verdict::Idle) => {
            tokio::select! {
                _ = connection => {}
                () = watch.death() => tracing::debug!(address, "a connection is dead"),
            }
        }
        // Its calls fail with it.
        Some(Verdict::Dead) => tracing::debug!(address, "a connection is dead"),
        None => {}
    }
}

impl Watch {
    async fn verdict(&mut self) -> Verdict {
        loop {
            if self.usage.streams() == 0 {
                let idle_at = self.usage.ended_at() + self.idle;
                tokio::select! {
                    () = self.usage.begins() => {}
                    () = sleep_until(idle_at) => {
                        if self.usage.streams() == 0 && self.usage.ended_at() + self.idle <= Instant::now() {
                            return Verdict::Idle;
                        }
                    }
                }
            } else if self.silent_round().await {
                return Verdict::Dead;
            }
        }
    }

    async fn death(&mut self) {
        loop {
            if self.usage.streams() == 0 {
                self.usage.begins().await;
            } else if self.silent_round().await {
                return;
            }
        }
    }

    /// Waits for a silence of `keep_alive`, pings, and waits as long again: true if nothing at all was heard.
    async fn silent_round(&mut self) -> bool {
        let silent_at = self.heard.at() + self.keep_alive;
        if silent_at > Instant::now() {
            sleep_until(silent_at).await;
            return false;
        }
        let Some(pings) = &mut self.pings else {
            return std::future::pending().await;
        };
        let asked = Instant::now();
        // Fails while the last one is unanswered, which is a question just as well.
        let _ = pings.send_ping(Ping::opaque());
        tokio::select! {
            answered = poll_fn(|cx| pings.poll_pong(cx)) => match answered {
                Ok(_) => false,
                // The connection ends by itself.
                Err(_) => std::future::pending().await,
            },
            () = sleep_until(asked + self.keep_alive) => self.heard.at() < asked,
        }
    }
}
