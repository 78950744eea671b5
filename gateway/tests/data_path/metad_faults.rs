//! What goes wrong between a gateway and the metadata service in memory, and what happens behind its back.

use super::Metad;
use std::collections::VecDeque;
use std::time::Duration;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::namespace::rows::Quota;

#[derive(Clone, Debug, Default)]
pub struct MetadFaults {
    /// Of 100 submits, so many are lost before they are decided.
    pub lost_before: u64,
    /// Of 100 submits, so many are decided and their answer is lost.
    pub lost_after: u64,
    /// Of 100 calls, so many find no leader.
    pub unavailable: u64,
    /// Every call takes so much longer.
    pub slow: Duration,
    /// So many times a bucket is not made because the settings were others.
    pub stale_creates: u32,
    /// So many times the bucket's settings change just before a body or a copy gets visible there.
    pub settings_changes: u32,
    /// What becomes of the next finalizes, one after the other.
    pub finalizes: VecDeque<Loss>,
    /// Of 100 resolves, so many find no leader.
    pub unresolved: u64,
}

/// What becomes of a command on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is lost before it is decided.
    Before,
    /// Its answer is lost.
    After,
    /// As `Before`, and the session ends.
    BeforeAndEnded,
    /// As `After`, and the session ends.
    AfterAndEnded,
}

impl Metad {
    /// Changes the settings of the bucket that the command is about, if that is to happen.
    pub(super) fn change_settings(&self, command: &SessionCommand) {
        let target = match command {
            SessionCommand::FinalizeObject(finalize) => finalize.bucket,
            SessionCommand::FinalizePart(finalize) => finalize.bucket,
            SessionCommand::CopyObject(copy) => copy.target,
            SessionCommand::CopyPart(copy) => copy.target,
            _ => return,
        };
        let mut faults = self.faults.lock().unwrap();
        if faults.settings_changes == 0 {
            return;
        }
        faults.settings_changes -= 1;
        let open = Command::OpenSession {
            gateway: "another".to_owned(),
            instance: 1,
        };
        let Reply::Session(session) = self.command(&open) else {
            panic!("no session")
        };
        let quota = Quota {
            bytes: Some((1 << 40) + u64::from(faults.settings_changes)),
            objects: None,
        };
        let reply = self.command(&Command::InSession {
            session,
            sequence: 1,
            command: SessionCommand::SetBucketQuota {
                bucket: target.bucket,
                quota,
            },
        });
        assert_eq!(reply, Reply::Done);
    }
}
