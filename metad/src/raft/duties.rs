//! What a member does by itself: it follows who leads and where the others are, finishes half-done changes when it
//! leads, and sets its data directory aside when that is found wrong.

use super::core::Core;
use super::status::Leadership;
use crate::store::offload;
use openraft::async_runtime::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a leader looks whether a change stands half done.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often is asked whether anybody has read what is corrupt.
const READ_CORRUPTION_EVERY: Duration = Duration::from_millis(500);

/// Tells who leads whenever that changes, and keeps the address book.
pub(super) async fn follow(core: Arc<Core>, tell: watch::Sender<Leadership>) {
    let mut server = core.server.clone();
    loop {
        if let Some(link) = &core.link {
            link.book.follow(&core.membership());
        }
        let now = core.leadership();
        tell.send_if_modified(|told| {
            let changed = *told != now;
            if changed {
                *told = now;
            }
            changed
        });
        if server.changed().await.is_err() {
            tell.send_modify(|told| {
                told.leader = None;
                told.leads = false;
            });
            return;
        }
        drop(server.borrow_and_update());
    }
}

/// Finishes changes of the members that stand half done while this node leads.
pub(super) async fn look_after_members(core: Arc<Core>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !core.leads() || core.membership().get_joint_config().len() < 2 {
            continue;
        }
        if let Err(error) = core.finish_change().await {
            tracing::info!(%error, "a half-done change of the members is not finished yet");
        }
    }
}

/// Stops this replica for good when it must not go on, and sets its data directory aside.
pub(super) async fn set_aside(core: Arc<Core>) {
    let reason = tokio::select! {
        reason = core.health.condemned() => reason,
        reason = corruption_read(&core) => {
            core.health.condemn(reason.clone());
            reason
        }
    };
    tracing::error!(
        reason,
        node = format!("{:016x}", core.me.node),
        "this replica's data is not to be trusted: it stops, and its data directory is quarantined"
    );
    core.quarantine(&reason).await;
    if let Err(error) = core.raft.shutdown().await {
        tracing::error!(%error, "the Raft task did not end well");
    }
}

/// Waits until somebody has read from the state what was never written there.
async fn corruption_read(core: &Core) -> String {
    loop {
        tokio::time::sleep(READ_CORRUPTION_EVERY).await;
        if let Some(reason) = core.states.current().corruption() {
            return format!("the state database is corrupt: {reason}");
        }
    }
}

impl Core {
    /// Durably sets the data directory aside.
    pub(super) async fn quarantine(&self, reason: &str) {
        let (data, reason) = (Arc::clone(&self.data), reason.to_owned());
        let done = offload(self.data.blocks(), move || data.quarantine(&reason)).await;
        if let Err(error) = done.and_then(|done| done) {
            tracing::error!(%error, "the data directory could not be quarantined");
        }
    }
}
