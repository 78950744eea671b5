//! Passing a chunk on to the next hop while it is still coming in, and its reports back. Nothing is checked
//! here: every hop checks for itself.

use super::Admitted;
use crate::agent::Agent;
use crate::seams::ChunkParts;
use futures::StreamExt as _;
use std::sync::Arc;
use tokio::sync::mpsc;
use ullage_model::ids::VendorId;
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal, HopReport};

/// The way to the next hop. The channel has no bound of its own: what it can hold are parts of one chunk,
/// whose length is checked and whose memory is taken.
pub(super) type Next = mpsc::UnboundedSender<Result<ChunkPart, ChunkRefusal>>;

/// Starts passing the chunk on; `None` if this is the last hop.
pub(super) fn start(
    agent: &Arc<Agent>,
    admitted: &Admitted,
    reports: mpsc::Sender<HopReport>,
) -> Option<Next> {
    let (_, rest) = admitted.header.route.split_first()?;
    let next = rest.first()?.vendor;
    let header = ChunkHeader {
        route: rest.to_vec(),
        ..admitted.header.clone()
    };
    let (sender, mut receiver) = mpsc::unbounded_channel();
    // The parts keep their memory taken until the next hop has them all, or has gone.
    let memory = Arc::clone(&admitted.memory);
    let parts: ChunkParts = futures::stream::poll_fn(move |context| {
        let _taken = &memory;
        receiver.poll_recv(context)
    })
    .boxed();
    let agent = Arc::clone(agent);
    let me = admitted.me;
    let hops = rest.len();
    tokio::spawn(async move {
        agent.metrics.chunks_forwarded.inc();
        let answers = agent.peers.put_chunk(next, header, parts).await;
        relay(answers, next, me, hops, &reports).await;
    });
    Some(sender)
}

/// Passes on what comes back, at most one report per hop, and says so if the next hop says nothing. Goes on when
/// nobody listens any more: the hops behind are served all the same.
async fn relay(
    answers: crate::seams::HopReports,
    next: VendorId,
    me: VendorId,
    hops: usize,
    reports: &mpsc::Sender<HopReport>,
) {
    let mut answers = answers.take(hops);
    let mut heard = false;
    while let Some(report) = answers.next().await {
        let report = from_here(report, next, me);
        let (HopReport::Stored { vendor, .. } | HopReport::Failed { vendor, .. }) = &report;
        heard |= *vendor == next;
        // A sender that went away needs no report.
        let _ = reports.send(report).await;
    }
    if !heard {
        let refusal = ChunkRefusal::Link("the next hop ended without a report".to_owned());
        let failed = HopReport::Failed {
            vendor: next,
            from: Some(me),
            refusal,
        };
        let _ = reports.send(failed).await;
    }
}

/// That the link to the next hop failed is this vendor's word, not that hop's.
fn from_here(report: HopReport, next: VendorId, me: VendorId) -> HopReport {
    match report {
        HopReport::Failed {
            vendor,
            from: None,
            refusal: refusal @ ChunkRefusal::Link(_),
        } if vendor == next => HopReport::Failed {
            vendor,
            from: Some(me),
            refusal,
        },
        other => other,
    }
}
