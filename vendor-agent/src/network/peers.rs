//! Chunks on their way to the next vendor: bytes out while they come in, reports back as they arise, and a word
//! about the link when it fails.

use crate::seams::{ChunkParts, HopReports, PeerSender};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use ullage_model::codec;
use ullage_model::ids::VendorId;
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal, HopReport};
use ullage_model::wire::routes;
use ullage_transport::client::{Answer, Client, Target};
use ullage_transport::frame::{FrameError, framed, messages};
use ullage_transport::identity::{Expect, Identity};

/// How long a vendor's address is waited for: two heartbeats.
const LEARNED_WITHIN: Duration = Duration::from_secs(2);
/// How long the next hop may take to say whether it takes a chunk: longer than it waits for memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may neither take a byte that is there for it nor report.
const PROGRESS_WITHIN: Duration = Duration::from_secs(15);
/// Longest report, in bytes: a signed list of the most receipts.
const REPORT_BYTES_MAX: usize = 1024 * 1024;
/// Longest refusal, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Connections for chunks are shared with nothing else.
const LANE: u8 = 0;

/// The way to other vendors over the network.
pub struct NetworkPeers {
    client: Client,
    addresses: watch::Sender<BTreeMap<VendorId, String>>,
}

impl NetworkPeers {
    /// Vendors reached by `client`, once their addresses are learned.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            addresses: watch::Sender::default(),
        }
    }

    /// Where `vendor` is. A gateway may hear of a new vendor before this agent does, which is soon told too.
    async fn address(&self, vendor: VendorId) -> Result<String, ChunkRefusal> {
        let mut addresses = self.addresses.subscribe();
        let known = timeout(
            LEARNED_WITHIN,
            addresses.wait_for(|known| known.contains_key(&vendor)),
        )
        .await;
        let known = known.ok().and_then(Result::ok);
        let address = known.and_then(|known| known.get(&vendor).cloned());
        address.ok_or_else(|| link(format!("the address of {vendor} is not known")))
    }

    async fn send(
        &self,
        vendor: VendorId,
        header: &ChunkHeader,
        parts: ChunkParts,
    ) -> Result<HopReports, ChunkRefusal> {
        let address = self.address(vendor).await?;
        let target = Target {
            address,
            expect: Expect::Exactly(Identity::Vendor(vendor)),
            lane: LANE,
        };
        let progress = Arc::new(Progress::default());
        let bytes = body(header, parts, Arc::clone(&progress));
        let body = StreamBody::new(bytes.map(|bytes| bytes.map(Frame::data))).boxed_unsync();
        let opened = self
            .client
            .open(&target, routes::CHUNK_PUT, HeaderMap::new(), body);
        let response = match timeout(ANSWER_WITHIN, opened).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(link(error.to_string())),
            Err(_) => {
                let waited = ANSWER_WITHIN.as_secs();
                return Err(link(format!("{} has not answered in {waited} s", target.address)));
            }
        };
        match response.status() {
            StatusCode::OK => Ok(reports(vendor, response.into_body(), progress)),
            StatusCode::CONFLICT => Err(refused(response.into_body()).await),
            status => Err(link(format!("{} answered {status}", target.address))),
        }
    }
}

impl PeerSender for NetworkPeers {
    fn put_chunk(
        &self,
        vendor: VendorId,
        header: ChunkHeader,
        parts: ChunkParts,
    ) -> BoxFuture<'_, HopReports> {
        async move {
            match self.send(vendor, &header, parts).await {
                Ok(reports) => reports,
                Err(refusal) => futures::stream::iter([failed(vendor, refusal)]).boxed(),
            }
        }
        .boxed()
    }

    fn learn(&self, addresses: &[(VendorId, String)]) {
        self.addresses.send_replace(addresses.iter().cloned().collect());
    }
}

fn link(reason: String) -> ChunkRefusal {
    ChunkRefusal::Link(reason)
}

fn failed(vendor: VendorId, refusal: ChunkRefusal) -> HopReport {
    HopReport::Failed {
        vendor,
        from: None,
        refusal,
    }
}

/// How far a chunk has gone, to tell a next hop that is stuck from a sender that is slow.
#[derive(Default)]
struct Progress {
    /// Parts handed to the connection.
    parts: AtomicU64,
    /// The connection wants more than has come in.
    starved: AtomicBool,
}

/// A chunk as it travels.
fn body(
    header: &ChunkHeader,
    mut parts: ChunkParts,
    progress: Arc<Progress>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let header = framed(&codec::encode(header));
    let mut ended = false;
    let bytes = futures::stream::poll_fn(move |context| {
        if ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(part) = parts.poll_next_unpin(context) else {
            progress.starved.store(true, Ordering::Relaxed);
            return Poll::Pending;
        };
        progress.starved.store(false, Ordering::Relaxed);
        progress.parts.fetch_add(1, Ordering::Relaxed);
        let bytes = match part {
            Some(Ok(ChunkPart::Data(bytes))) => Ok(bytes),
            Some(Ok(ChunkPart::End(digest))) => {
                ended = true;
                Ok(Bytes::copy_from_slice(&digest.0))
            }
            Some(Err(refusal)) => {
                ended = true;
                Err(io::Error::other(refusal))
            }
            None => {
                ended = true;
                Err(io::Error::other(ChunkRefusal::Cut))
            }
        };
        Poll::Ready(Some(bytes))
    });
    futures::stream::iter([Ok(header)]).chain(bytes).boxed()
}

/// The reports in `body`; one about `vendor` and the link to it if they break off or do not come.
fn reports(vendor: VendorId, body: Answer, progress: Arc<Progress>) -> HopReports {
    let messages = messages(body, REPORT_BYTES_MAX);
    let relaying = (Some(messages), progress, false);
    futures::stream::unfold(relaying, move |(messages, progress, heard)| async move {
        let mut messages = messages?;
        let report = match next(&mut messages, &progress).await {
            Ok(Some(report)) => report,
            // It has said all that it will.
            Ok(None) => return None,
            Err(_) if heard => return None,
            Err(refusal) => return Some((failed(vendor, refusal), (None, progress, true))),
        };
        let heard = heard || subject(&report) == vendor;
        Some((report, (Some(messages), progress, heard)))
    })
    .boxed()
}

fn subject(report: &HopReport) -> VendorId {
    match report {
        HopReport::Stored { vendor, .. } | HopReport::Failed { vendor, .. } => *vendor,
    }
}

async fn next(
    messages: &mut BoxStream<'static, Result<Bytes, FrameError>>,
    progress: &Progress,
) -> Result<Option<HopReport>, ChunkRefusal> {
    loop {
        let before = progress.parts.load(Ordering::Relaxed);
        match timeout(PROGRESS_WITHIN, messages.next()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(message))) => {
                let report = codec::decode(&message);
                return report.map(Some).map_err(|error| link(error.to_string()));
            }
            Ok(Some(Err(error))) => return Err(link(error.to_string())),
            Err(_) => {
                let stuck = progress.parts.load(Ordering::Relaxed) == before;
                if stuck && !progress.starved.load(Ordering::Relaxed) {
                    let waited = PROGRESS_WITHIN.as_secs();
                    return Err(link(format!("nothing went on for {waited} s")));
                }
            }
        }
    }
}

/// What a next hop said that takes nothing.
async fn refused(body: Answer) -> ChunkRefusal {
    let collected = Limited::new(body, REFUSAL_BYTES_MAX).collect();
    match timeout(ANSWER_WITHIN, collected).await {
        Ok(Ok(collected)) => {
            codec::decode(&collected.to_bytes()).unwrap_or_else(|error| link(error.to_string()))
        }
        Ok(Err(error)) => link(error.to_string()),
        Err(_) => link("a refusal did not come".to_owned()),
    }
}
