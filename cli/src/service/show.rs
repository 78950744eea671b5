//! `ullage vendor-agent --show`: the local FAT as a table, from the running agent or straight from its devices.

use crate::BadConfiguration;
use anyhow::Context;
use std::io::{BufWriter, ErrorKind, Write};
use ullage_vendor_agent::{AgentError, Config, LocalCopy};

/// Prints the local FAT, copy by copy.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn show(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    // Looking goes on after a failure to print: it cannot be stopped half-way, and does no harm.
    let mut printed = head(&mut out);
    let looked = runtime.block_on(ullage_vendor_agent::show(config, |copy| {
        if printed.is_ok() {
            printed = line(&mut out, &copy);
        }
    }));
    looked.map_err(|error| match error {
        AgentError::Config { .. } | AgentError::Foreign { .. } => BadConfiguration(error.to_string()).into(),
        other => anyhow::Error::from(other).context("cannot show the local FAT"),
    })?;
    match printed.and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot print"),
    }
}

fn head(out: &mut impl Write) -> std::io::Result<()> {
    let [chunk, lease, bytes, state] = ["CHUNK", "LEASE", "BYTES", "STATE"];
    writeln!(
        out,
        "{chunk:<24} {lease:>10} {bytes:>10}  {state:<8} PIECES (device:segment:offset)"
    )
}

fn line(out: &mut impl Write, copy: &LocalCopy) -> std::io::Result<()> {
    let chunk = format!("{}.{}", copy.copy.chunk.lease.0, copy.copy.chunk.counter);
    let state = match copy {
        LocalCopy { erased: true, .. } => "erased",
        LocalCopy { complete: false, .. } => "partial",
        LocalCopy { kept: true, .. } => "kept",
        LocalCopy { .. } => "whole",
    };
    let pieces = copy
        .pieces
        .iter()
        .map(|piece| format!("{}:{}:{}", piece.device.0, piece.segment, piece.offset));
    let pieces: Vec<String> = pieces.collect();
    let (lease, bytes, pieces) = (copy.copy.lease.0, copy.plaintext_bytes, pieces.join(" "));
    writeln!(out, "{chunk:<24} {lease:>10} {bytes:>10}  {state:<8} {pieces}")
}
