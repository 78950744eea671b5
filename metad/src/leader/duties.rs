//! The leader's loop: advances cluster time, declares silent vendors stale or dead, abandons ended sessions
//! and drains the release queue, each in bounded steps.

use crate::error::Error;
use crate::service::Metad;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query;
use ullage_model::fat::rows::{SessionState, VendorState};
use ullage_model::ids::SessionId;

/// Steps that one turn of the loop takes at most, so that no duty starves another.
const STEPS_PER_TURN: usize = 256;
/// A tick advances time by at most this many intervals: lost time is not made up.
const TICKS_AT_ONCE: u32 = 2;

/// What the loop remembers between turns.
#[derive(Debug, Default)]
struct Memory {
    last_tick: Option<Duration>,
    leading_since: Option<Duration>,
    abandoned: BTreeSet<SessionId>,
}

/// Runs the duties until `stop` resolves.
pub async fn run(metad: Arc<Metad>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let mut memory = Memory::default();
    let mut interval = tokio::time::interval(Duration::from_millis(metad.config().tick_ms));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            _ = interval.tick() => {}
            () = metad.woken() => {}
        }
        if !metad.leads() {
            memory = Memory::default();
            continue;
        }
        if let Err(error) = turn(&metad, &mut memory).await {
            tracing::warn!(%error, "the leader's duties wait for the next turn");
        }
    }
}

async fn turn(metad: &Metad, memory: &mut Memory) -> Result<(), Error> {
    let now = metad.clock().now();
    memory.leading_since.get_or_insert(now);
    tick(metad, memory, now).await?;
    watch_vendors(metad, memory, now).await?;
    abandon_ended_sessions(metad, memory).await?;
    drain_releases(metad).await
}

async fn tick(metad: &Metad, memory: &mut Memory, now: Duration) -> Result<(), Error> {
    let interval = Duration::from_millis(metad.config().tick_ms);
    let passed = memory
        .last_tick
        .map_or(Duration::ZERO, |last| now.saturating_sub(last));
    if memory.last_tick.is_some() && passed < interval / 2 {
        return Ok(());
    }
    memory.last_tick = Some(now);
    let step = passed.min(interval * TICKS_AT_ONCE);
    let applied: ClusterTime = query::cluster_time(&**metad.stale())?;
    let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
    metad
        .propose(&Command::Tick {
            to: applied.plus(step_ms),
        })
        .await?;
    Ok(())
}

async fn watch_vendors(metad: &Metad, memory: &Memory, now: Duration) -> Result<(), Error> {
    let since = memory.leading_since.unwrap_or(now);
    let vendors = query::vendor_rows(&**metad.stale())?;
    for row in vendors {
        let heard = metad
            .soft_state()
            .vendor(row.vendor)
            .map_or(since, |seen| seen.at.max(since));
        let silence = now.saturating_sub(heard);
        let state = if silence >= Duration::from_millis(metad.config().dead_ms) {
            VendorState::Dead
        } else if silence >= Duration::from_millis(metad.config().stale_ms) {
            VendorState::Stale
        } else {
            continue;
        };
        let worse = matches!(
            (row.state, state),
            (VendorState::Healthy, _) | (VendorState::Stale, VendorState::Dead)
        );
        if worse {
            tracing::warn!(vendor = %row.vendor, name = row.name, ?state, "a vendor is silent");
            metad
                .propose(&Command::SetVendorState {
                    vendor: row.vendor,
                    state,
                })
                .await?;
        }
    }
    Ok(())
}

async fn abandon_ended_sessions(metad: &Metad, memory: &mut Memory) -> Result<(), Error> {
    let sessions = query::sessions(&**metad.stale())?;
    memory
        .abandoned
        .retain(|session| sessions.iter().any(|row| row.session == *session));
    for row in sessions {
        let ended = matches!(row.state, SessionState::Ended { .. });
        if !ended || memory.abandoned.contains(&row.session) {
            continue;
        }
        if steps(metad, &Command::AbandonStep { session: row.session }).await? {
            memory.abandoned.insert(row.session);
        }
    }
    Ok(())
}

async fn drain_releases(metad: &Metad) -> Result<(), Error> {
    if query::has_releases(&**metad.stale())? && !steps(metad, &Command::DrainReleases).await? {
        metad.wake();
    }
    Ok(())
}

/// Proposes `command` until it answers that nothing is left; false if the turn's steps were used up first.
async fn steps(metad: &Metad, command: &Command) -> Result<bool, Error> {
    for _ in 0..STEPS_PER_TURN {
        match metad.propose(command).await? {
            Reply::Progress { more: true } => {}
            Reply::Progress { more: false } => return Ok(true),
            other => {
                tracing::error!(?command, ?other, "a step of upkeep was refused");
                return Ok(true);
            }
        }
    }
    Ok(false)
}
