//! openraft's own tests of a log store and a state machine, on the real stores.

use super::{LogStore, StateMachine, Stores, TypeConfig, open};
use crate::store::Steps;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let home = tempfile::tempdir().unwrap();
        let Stores { log, machine, .. } = open(home.path(), &Steps::default()).unwrap();
        Ok((home, log, machine))
    }
}

#[tokio::test]
async fn passes_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
