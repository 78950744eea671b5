//! Listing keys: a bounded range scan that seeks past common prefixes.

use crate::store::{Read, StoreError};
use crate::wire::metad::{ListReply, ListRequest};

/// Lists keys of a bucket.
pub fn list(_rows: &impl Read, _request: &ListRequest) -> Result<ListReply, StoreError> {
    unimplemented!()
}
