//! Completing a multipart upload: a manifest built in slices, then turned into a version.

use crate::command::{CompleteSlice, CompleteUpload, Reply};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Adds the next listed parts to the manifest that a complete is building.
pub fn slice<R: Read>(_step: &mut Step<'_, R>, _slice: &CompleteSlice) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Turns a finished manifest into an object version.
pub fn complete<R: Read>(_step: &mut Step<'_, R>, _complete: &CompleteUpload) -> Result<Reply, Stop> {
    unimplemented!()
}
