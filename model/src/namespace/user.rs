//! Users and access keys.

use crate::command::Reply;
use crate::namespace::rows::{UserPolicy, WrappedKey};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Makes a user with its first access key.
pub fn create<R: Read>(
    _step: &mut Step<'_, R>,
    _name: &str,
    _policy: UserPolicy,
    _access_key: &str,
    _sealed_secret: &WrappedKey,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Deletes an access key.
pub fn delete_access_key<R: Read>(_step: &mut Step<'_, R>, _access_key: &str) -> Result<Reply, Stop> {
    unimplemented!()
}
