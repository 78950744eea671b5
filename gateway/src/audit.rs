//! The audit log: a line for each change that somebody asked for, with what became of it.

use std::future::Future;

/// Target of the audit log's lines: logged also where nothing else of this level is.
pub const AUDIT: &str = "ullage_audit";

/// What became of what was made as asked.
const DONE: &str = "done";
/// What became of what nobody waited for: it may have been done.
const UNKNOWN: &str = "unknown";

/// A line that is written when the outcome is known; at the latest when it is dropped, so that no change goes without
/// its line though its client went.
#[derive(Debug)]
pub(crate) struct AuditLine<W: FnOnce(&str)> {
    /// Gone when it is written.
    write: Option<W>,
}

impl<W: FnOnce(&str)> AuditLine<W> {
    /// `write` writes it, given the outcome.
    pub(crate) fn new(write: W) -> Self {
        Self { write: Some(write) }
    }

    /// Makes the change, and writes the line: `done`, or the `code` of the error.
    pub(crate) async fn during<T, E>(
        mut self,
        change: impl Future<Output = Result<T, E>>,
        code: impl Fn(&E) -> &'static str,
    ) -> Result<T, E> {
        let done = change.await;
        self.write(done.as_ref().err().map_or(DONE, code));
        done
    }

    fn write(&mut self, outcome: &str) {
        if let Some(write) = self.write.take() {
            write(outcome);
        }
    }
}

impl<W: FnOnce(&str)> Drop for AuditLine<W> {
    fn drop(&mut self) {
        self.write(UNKNOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::cell::RefCell;

    #[test]
    fn a_line_is_written_once_whatever_becomes_of_the_change() {
        let lines = RefCell::new(Vec::new());
        let line = || AuditLine::new(|outcome: &str| lines.borrow_mut().push(outcome.to_owned()));
        let code = |error: &&'static str| *error;
        assert_eq!(line().during(async { Ok(1) }, code).now_or_never(), Some(Ok(1)));
        let refused = line().during(async { Err::<(), _>("BucketNotEmpty") }, code);
        assert_eq!(refused.now_or_never(), Some(Err("BucketNotEmpty")));
        let endless = line().during(std::future::pending::<Result<(), _>>(), code);
        assert_eq!(endless.now_or_never(), None);
        assert_eq!(*lines.borrow(), ["done", "BucketNotEmpty", "unknown"]);
    }
}
