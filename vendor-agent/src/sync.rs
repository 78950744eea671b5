//! A mutex whose holder's panic does not take others down: the data guarded here is consistent after every
//! statement. Nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared data.
pub type Shared<T> = Mutex<T>;

/// Locks `shared`.
pub fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
