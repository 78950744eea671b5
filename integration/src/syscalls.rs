//! Reads what strace wrote (`-f -yy -ttt`) and tells which files were synced between the arrival of a
//! request and the departure of its answer.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::{clients, settle};

/// The arguments that make strace write what [`Trace::parse`] reads, for a wrapper of the binary. With
/// `-D` the traced program stays the direct child, so that its process id is the one to signal.
///
/// # Errors
/// If strace is not installed.
pub fn wrapper(output: &Path) -> anyhow::Result<Vec<String>> {
    let strace = clients::find("strace").context("strace is not installed")?;
    let calls =
        "trace=fdatasync,fsync,sync_file_range,msync,read,recvfrom,recvmsg,readv,write,writev,sendto,sendmsg";
    let mut arguments = vec![strace.to_string_lossy().into_owned()];
    let fixed = [
        "-D",
        "-f",
        "-yy",
        "-ttt",
        "-s",
        "64",
        "-e",
        calls,
        "-e",
        "signal=none",
        "-o",
    ];
    arguments.extend(fixed.map(str::to_owned));
    arguments.push(output.to_string_lossy().into_owned());
    Ok(arguments)
}

/// Something of interest that a thread did, in the order in which it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A file was synced.
    Synced {
        /// Its path.
        path: String,
    },
    /// Bytes came from a TCP connection.
    Received {
        /// The first of them.
        text: String,
    },
    /// Bytes went to a TCP connection.
    Sent {
        /// The first of them.
        text: String,
    },
}

/// The calls of one run in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// What was done.
    pub calls: Vec<Call>,
}

impl Trace {
    /// Reads the output of strace. A sync counts when it ended, a send when it began, so that overlapping
    /// calls are never counted as in order when they were not.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
        let mut calls = Vec::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.trim_start().split_once(char::is_whitespace) else {
                continue;
            };
            let Some((_, call)) = rest.trim_start().split_once(' ') else {
                continue;
            };
            if let Some(begun) = call.strip_suffix("<unfinished ...>") {
                if is_send(begun) {
                    calls.extend(interpret(begun, true));
                } else {
                    unfinished.insert(thread, begun.trim_end().to_owned());
                }
            } else if let Some(resumed) = call.strip_prefix("<... ") {
                let Some(begun) = unfinished.remove(thread) else {
                    continue;
                };
                let Some((_, end)) = resumed.split_once(" resumed>") else {
                    continue;
                };
                calls.extend(interpret(&format!("{begun}{end}"), false));
            } else {
                calls.extend(interpret(call, false));
            }
        }
        Self { calls }
    }

    /// The paths that were synced after a request beginning with `request` arrived and before the next
    /// answer beginning with `answer` left.
    ///
    /// # Errors
    /// If there was no such request or answer.
    pub fn synced_between(&self, request: &str, answer: &str) -> anyhow::Result<Vec<String>> {
        let arrived = self
            .calls
            .iter()
            .position(|call| matches!(call, Call::Received { text } if text.starts_with(request)));
        let arrived = arrived.with_context(|| format!("no request {request:?} was traced"))?;
        let after = &self.calls[arrived..];
        let left = after
            .iter()
            .position(|call| matches!(call, Call::Sent { text } if text.starts_with(answer)));
        let left = left.with_context(|| format!("no answer {answer:?} to {request:?} was traced"))?;
        let synced = after[..left].iter().filter_map(|call| match call {
            Call::Synced { path } => Some(path.clone()),
            _ => None,
        });
        Ok(synced.collect())
    }

    /// Waits until the file stops growing, then reads it: strace writes on for a moment after the traced
    /// program has ended, which it must have.
    ///
    /// # Errors
    /// If the file cannot be read, or still grows when the time for upkeep is over.
    pub async fn read(path: &Path) -> anyhow::Result<Self> {
        let mut length = u64::MAX;
        settle::until(settle::deadline(), async || {
            let now = std::fs::metadata(path)
                .with_context(|| format!("read {}", path.display()))?
                .len();
            let before = std::mem::replace(&mut length, now);
            if now != before {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            ensure!(
                now == before,
                "{} grows: is the traced program still running?",
                path.display()
            );
            Ok(())
        })
        .await?;
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        ensure!(!bytes.is_empty(), "strace wrote nothing");
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }
}

fn is_send(call: &str) -> bool {
    ["write(", "writev(", "sendto(", "sendmsg("]
        .iter()
        .any(|name| call.starts_with(name))
}

fn interpret(call: &str, begun_only: bool) -> Option<Call> {
    let (name, arguments) = call.split_once('(')?;
    let descriptor = bracketed(arguments)?;
    let tcp = descriptor.starts_with("TCP");
    match name {
        "fdatasync" | "fsync" | "msync" if call.trim_end().ends_with("= 0") => Some(Call::Synced {
            path: descriptor.to_owned(),
        }),
        "read" | "recvfrom" | "recvmsg" | "readv" if tcp && !call.contains("= -1 ") => Some(Call::Received {
            text: quoted(arguments),
        }),
        "write" | "writev" | "sendto" | "sendmsg" if tcp && (begun_only || !call.contains("= -1 ")) => {
            Some(Call::Sent {
                text: quoted(arguments),
            })
        }
        _ => None,
    }
}

/// What stands in the angle brackets after the descriptor: a path, or `TCP:[a->b]`. The arrow inside is
/// no closing bracket.
fn bracketed(arguments: &str) -> Option<&str> {
    let open = arguments.find('<')?;
    let rest = &arguments[open + 1..];
    let bytes = rest.as_bytes();
    let close = (0..bytes.len()).find(|at| bytes[*at] == b'>' && (*at == 0 || bytes[at - 1] != b'-'))?;
    Some(&rest[..close])
}

fn quoted(arguments: &str) -> String {
    let Some(open) = arguments.find('"') else {
        return String::new();
    };
    let rest = &arguments[open + 1..];
    let mut end = 0;
    let bytes = rest.as_bytes();
    while end < bytes.len() && bytes[end] != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    rest[..end.min(rest.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"
101   1700000000.000001 recvfrom(9<TCP:[127.0.0.1:9000->127.0.0.1:4242]>, "PUT /b/k HTTP/1.1\r\nhost: x", 65536, 0, NULL, NULL) = 300
102   1700000000.000002 fdatasync(12</data/vendors/1/device-1/0001.seg> <unfinished ...>
103   1700000000.000003 fdatasync(14</data/vendors/2/device-1/0001.seg>) = 0
102   1700000000.000004 <... fdatasync resumed>) = 0
104   1700000000.000005 fdatasync(16</data/metad/raft/000004.log> <unfinished ...>
101   1700000000.000006 writev(9<TCP:[127.0.0.1:9000->127.0.0.1:4242]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}], 1 <unfinished ...>
104   1700000000.000007 <... fdatasync resumed>) = 0
101   1700000000.000008 <... writev resumed>) = 17
103   1700000000.000009 fsync(18</data/x>) = -1 EIO (Input/output error)
"#;

    #[test]
    fn only_syncs_that_ended_before_the_answer_began_count() {
        let trace = Trace::parse(TRACE);
        let synced = trace
            .synced_between("PUT /b/k", "HTTP/1.1 200")
            .expect("request and answer");
        assert_eq!(
            synced,
            [
                "/data/vendors/2/device-1/0001.seg",
                "/data/vendors/1/device-1/0001.seg"
            ]
        );
        assert!(trace.synced_between("PUT /b/other", "HTTP/1.1 200").is_err());
        assert_eq!(
            trace
                .calls
                .iter()
                .filter(|call| matches!(call, Call::Synced { .. }))
                .count(),
            3
        );
    }
}
