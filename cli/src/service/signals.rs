//! How the operating system ends a service: SIGTERM and SIGINT let it end in good order, a second one ends it
//! at once.

use anyhow::Context;
use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal: what shells say of a process that SIGINT ended.
const CUT_SHORT: i32 = 130;

/// Runs `service` on a runtime of its own until it ends. Its token is cancelled by the first SIGTERM or SIGINT.
pub fn serve<F>(service: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let stop = CancellationToken::new();
        let token = stop.clone();
        tokio::spawn(async move {
            for round in 0.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if round > 0 {
                    eprintln!("ullage: told to stop a second time; ending at once");
                    std::process::exit(CUT_SHORT);
                }
                token.cancel();
            }
        });
        service(stop).await
    })
}
