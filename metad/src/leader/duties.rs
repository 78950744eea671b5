//! The leader's loop: advances cluster time, declares silent vendors stale or dead, abandons ended sessions,
//! drains the release queue, and keeps the members' rows, each in bounded steps. A node that follows sees to
//! it that its own row is as it should be.

use super::leadership::Leadership;
use crate::error::Error;
use crate::service::Metad;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::cluster::FORMAT_LEVEL;
use ullage_model::fat::query;
use ullage_model::fat::rows::{SessionState, VendorState};
use ullage_model::ids::SessionId;
use ullage_model::session;

/// Steps that one duty takes in one turn at most, so that none starves another …
const STEPS_PER_TURN: usize = 256;
/// … and this part of a tick's interval, whichever is over first.
const TURN_SHARE_OF_TICK: u32 = 4;
/// A tick advances time by at most this many intervals: lost time is not made up.
const TICKS_AT_ONCE: u32 = 2;
/// Least time between two turns, however often they are asked for.
const TURN_EVERY: Duration = Duration::from_millis(10);
/// Longest rest between two steps of a long duty. A step is followed by a rest as long as itself, so that the
/// commands of others find the group idle half of the time.
const REST_MAX: Duration = Duration::from_millis(20);

/// What the loop remembers between turns of one leadership.
#[derive(Debug, Default)]
struct Memory {
    term: u64,
    last_tick: Option<Duration>,
    abandoned: BTreeSet<SessionId>,
}

/// Runs the duties until `stop` resolves.
pub async fn run(metad: Arc<Metad>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let mut memory = Memory::default();
    let mut interval = tokio::time::interval(Duration::from_millis(metad.config().tick_ms.max(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut elections = metad.group.watch_leadership();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            _ = interval.tick() => {}
            () = metad.woken() => {}
            // A group that has stopped elects nobody any more.
            Ok(()) = elections.changed() => {}
        }
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            () = turn(&metad, &mut memory) => {}
        }
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(TURN_EVERY) => {}
        }
    }
}

/// One turn of every duty: one that fails waits for the next turn and holds up no other.
async fn turn(metad: &Metad, memory: &mut Memory) {
    let leadership = match metad.leading().await {
        Ok(leadership) => leadership,
        Err(Error::NotLeader { .. }) => {
            match metad.publish().await {
                Ok(()) => {}
                Err(error @ Error::Members { .. }) => {
                    tracing::warn!(%error, "this node's own row is not there")
                }
                Err(error) => tracing::debug!(%error, "this node's own row waits for its next turn"),
            }
            return;
        }
        Err(error @ (Error::Members { .. } | Error::Store(_))) => {
            tracing::error!(%error, "this node cannot take over");
            return;
        }
        Err(error) => {
            tracing::debug!(%error, "the duties wait until this node has taken over");
            return;
        }
    };
    if memory.term != leadership.term {
        *memory = Memory {
            term: leadership.term,
            ..Memory::default()
        };
    }
    let now = metad.clock().now();
    let done = [
        ("cluster time", tick(metad, memory, now).await),
        ("silent vendors", watch_vendors(metad, &leadership).await),
        ("ended sessions", abandon_ended_sessions(metad, memory).await),
        ("the release queue", drain_releases(metad, &leadership).await),
        ("members", keep_members(metad).await),
    ];
    for (duty, done) in done {
        match done {
            Ok(()) => {}
            // Another leads now, or will in a moment.
            Err(error @ (Error::NotLeader { .. } | Error::LeaderNotReady)) => {
                tracing::debug!(duty, %error, "a duty of the leader is another's");
            }
            Err(error) => tracing::warn!(duty, %error, "a duty of the leader waits for its next turn"),
        }
    }
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
    let to = applied.plus(step_ms);
    expect_done("a tick", metad.propose(&Command::Tick { to }).await?);
    Ok(())
}

async fn watch_vendors(metad: &Metad, leadership: &Leadership) -> Result<(), Error> {
    let since = leadership.since;
    let (stale, dead) = (metad.config().stale_ms, metad.config().dead_ms);
    let (stale, dead) = (Duration::from_millis(stale), Duration::from_millis(dead));
    let vendors = query::vendor_rows(&**metad.stale())?;
    for row in vendors {
        // Looked at anew for each: the ones before may have taken a while.
        let now = metad.clock().now();
        let heard = leadership
            .soft
            .vendor(row.vendor)
            .map_or(since, |seen| seen.at.max(since));
        let silence = now.saturating_sub(heard);
        let state = match row.state {
            VendorState::Healthy | VendorState::Stale if silence >= dead => VendorState::Dead,
            VendorState::Healthy if silence >= stale => VendorState::Stale,
            VendorState::Healthy | VendorState::Stale | VendorState::Dead | VendorState::Revoked => continue,
        };
        tracing::warn!(vendor = %row.vendor, name = row.name, ?state, "a vendor is silent");
        let vendor = row.vendor;
        let command = Command::SetVendorState { vendor, state };
        expect_done("a vendor's state", metad.propose(&command).await?);
    }
    Ok(())
}

async fn abandon_ended_sessions(metad: &Metad, memory: &mut Memory) -> Result<(), Error> {
    let sessions = query::sessions(&**metad.stale())?;
    let ended: BTreeSet<SessionId> = sessions
        .iter()
        .filter(|row| matches!(row.state, SessionState::Ended { .. }))
        .map(|row| row.session)
        .collect();
    memory.abandoned.retain(|session| ended.contains(session));
    let waiting: Vec<SessionId> = ended.difference(&memory.abandoned).copied().collect();
    for session in waiting {
        // Those of an earlier leader are done mostly.
        let has_work = session::has_work(&**metad.stale(), session)?;
        if has_work && !steps(metad, || Ok(Some(Command::AbandonStep { session }))).await? {
            metad.wake();
            return Ok(());
        }
        memory.abandoned.insert(session);
    }
    Ok(())
}

async fn drain_releases(metad: &Metad, leadership: &Leadership) -> Result<(), Error> {
    let next = || {
        let state = metad.stale();
        let rows = state.snapshot();
        let permit = leadership.erase_permit(&rows, query::cluster_time(&rows)?)?;
        let may = query::may_drain(&rows, &permit)?;
        Ok(may.then_some(Command::DrainReleases { permit }))
    };
    if !steps(metad, next).await? {
        metad.wake();
    }
    Ok(())
}

/// Brings the rows of metadata nodes in line with the membership, and raises the format level when every member
/// knows a greater one.
async fn keep_members(metad: &Metad) -> Result<(), Error> {
    let members = metad.group.status().members;
    let state = metad.stale();
    let rows = query::members(&**state)?;
    let level = query::cluster(&**state)?.map_or(FORMAT_LEVEL, |row| row.format_level);
    drop(state);
    for row in &rows {
        if row.left.is_none() && !members.contains_key(&row.node) {
            tracing::info!(node = format!("{:016x}", row.node), "a metadata node has left");
            let node = row.node;
            expect_done(
                "a member's leaving",
                metad.propose(&Command::RemoveMember { node }).await?,
            );
        }
    }
    let known = |node: &u64| {
        rows.iter()
            .any(|row| row.node == *node && row.format_level >= FORMAT_LEVEL)
    };
    if level < FORMAT_LEVEL && members.keys().all(known) {
        let to = FORMAT_LEVEL;
        expect_done(
            "the format level",
            metad.propose(&Command::RaiseFormat { to }).await?,
        );
        tracing::info!(level = to, "the format level is raised");
    }
    Ok(())
}

/// Proposes the `next` command as long as there is one, until it answers that nothing is left; false if the turn was
/// over first.
async fn steps(metad: &Metad, next: impl Fn() -> Result<Option<Command>, Error>) -> Result<bool, Error> {
    let over = Instant::now() + Duration::from_millis(metad.config().tick_ms) / TURN_SHARE_OF_TICK;
    for _ in 0..STEPS_PER_TURN {
        let Some(command) = next()? else {
            return Ok(true);
        };
        let began = Instant::now();
        match metad.propose(&command).await? {
            Reply::Progress { more: true } => {}
            Reply::Progress { more: false } => return Ok(true),
            other => {
                expect_done("a step of upkeep", other);
                return Ok(true);
            }
        }
        if Instant::now() >= over {
            return Ok(false);
        }
        tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
    }
    Ok(false)
}

/// Duties propose what `decide` takes; a refusal means that the two disagree, which a person must see.
fn expect_done(what: &str, reply: Reply) {
    if reply != Reply::Done {
        tracing::error!(what, ?reply, "a duty's command was not taken");
    }
}
