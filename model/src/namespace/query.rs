//! Answers to gateways' questions.

use crate::store::{Read, StoreError};
use crate::wire::metad::{Answer, Query};

/// Answers `query` from one consistent state.
pub fn answer(_rows: &impl Read, _query: &Query) -> Result<Answer, StoreError> {
    unimplemented!()
}
