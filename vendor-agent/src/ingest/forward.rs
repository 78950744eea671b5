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
    tokio::spawn(async move {
        agent.metrics.chunks_forwarded.inc();
        let answers = agent.peers.put_chunk(next, header, parts).await;
        relay(answers, next, me, &reports).await;
    });
    Some(sender)
}

async fn relay(
    mut answers: crate::seams::HopReports,
    next: VendorId,
    me: VendorId,
    reports: &mpsc::Sender<HopReport>,
) {
    let mut heard = false;
    while let Some(report) = answers.next().await {
        let vendor = match &report {
            HopReport::Stored { vendor, .. } | HopReport::Failed { vendor, .. } => *vendor,
        };
        heard |= vendor == next;
        if reports.send(report).await.is_err() {
            return;
        }
    }
    if !heard {
        let refusal = ChunkRefusal::Link("the next hop ended without a report".to_owned());
        // A sender that went away needs no report.
        let _ = reports
            .send(HopReport::Failed {
                vendor: next,
                from: Some(me),
                refusal,
            })
            .await;
    }
}
