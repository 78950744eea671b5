//! Vendor agents over the network. Where they are is what the last sign of life said; each must prove to be the
//! vendor that is meant.

use super::{LANE_CALLS, LANE_CHUNKS, LANE_READS, probing, put};
use crate::admin::{LocalCopies, LocalCopy, LocalFatError, LocalFats};
use crate::agent_client::{AgentClient, ChunkStream, Echo, ReportStream, StoredStream};
use crate::environment::{Clock, Randomness};
use crate::limits::{REFUSAL_BYTES_MAX, TABLE_WAIT};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use ullage_model::codec;
use ullage_model::ids::{CopyId, DeviceId, VendorId};
use ullage_model::limits::{COPIES_PER_BATCH, FRAME_BYTES, FRAME_TAG_BYTES};
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, ListCopiesReply, ListCopiesRequest, ReadRequest};
use ullage_model::wire::metad::VendorInfo;
use ullage_model::wire::routes;
use ullage_transport::client::{Answer, CallError, Client, Target};
use ullage_transport::identity::{Expect, Identity};
use ullage_transport::network::Network;

/// Calls to vendor agents. Clones share everything.
#[derive(Clone, Debug)]
pub struct NetworkAgents {
    client: Client,
    addresses: Arc<RwLock<BTreeMap<VendorId, String>>>,
    prober: Arc<probing::Prober>,
}

impl NetworkAgents {
    /// Nobody is known yet: see [`AgentClient::learn`].
    #[must_use]
    pub fn new(
        client: Client,
        network: Arc<dyn Network>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> Self {
        Self {
            prober: Arc::new(probing::Prober::new(client.clone(), network, clock, random)),
            client,
            addresses: Arc::default(),
        }
    }

    fn target(&self, vendor: VendorId, lane: u8) -> Option<Target> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        Some(Target {
            address: addresses.get(&vendor)?.clone(),
            expect: Expect::Exactly(Identity::Vendor(vendor)),
            lane,
        })
    }

    fn known_target(&self, vendor: VendorId, lane: u8) -> Result<Target, ChunkRefusal> {
        let unknown = || ChunkRefusal::Link(format!("no address of {vendor} is known"));
        self.target(vendor, lane).ok_or_else(unknown)
    }

    async fn list(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> Result<ListCopiesReply, LocalFatError> {
        let target = self.target(vendor, LANE_CALLS);
        let target = target.ok_or(LocalFatError::Unreachable(vendor))?;
        let request = ListCopiesRequest {
            after,
            limit: limit.clamp(1, COPIES_PER_BATCH),
        };
        let asked = self.client.call(&target, routes::COPIES, &request, TABLE_WAIT);
        asked.await.map_err(|error: CallError<ChunkRefusal>| match error {
            CallError::Application(refusal) => LocalFatError::Failed(format!("{vendor}: {refusal}")),
            error => LocalFatError::Failed(format!("{vendor}: {error}")),
        })
    }
}

impl AgentClient for NetworkAgents {
    fn put_chunk(
        &self,
        to: VendorId,
        header: ChunkHeader,
        parts: ChunkStream,
    ) -> BoxFuture<'static, Result<ReportStream, ChunkRefusal>> {
        let target = self.known_target(to, LANE_CHUNKS);
        let client = self.client.clone();
        async move {
            let headers = headers(header.request_id);
            let body = put::body(&header, parts);
            let response = client.open(&target?, routes::CHUNK_PUT, headers, body).await;
            Ok(put::reports(to, accepted(response).await?))
        }
        .boxed()
    }

    fn read(
        &self,
        to: VendorId,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<StoredStream, ChunkRefusal>> {
        let target = self.known_target(to, LANE_READS);
        let client = self.client.clone();
        async move {
            let headers = headers(request.request_id);
            let body = Full::new(codec::encode(&request)).map_err(|never: Infallible| match never {});
            let body = body.boxed_unsync();
            let response = client.open(&target?, routes::CHUNK_READ, headers, body).await;
            let response = accepted(response).await?;
            let most = u64::from(request.frames) * (FRAME_BYTES + FRAME_TAG_BYTES);
            Ok(stored(response, most))
        }
        .boxed()
    }

    fn learn(&self, vendors: &[VendorInfo]) {
        let told = vendors.iter().filter_map(|info| {
            let address = &info.row.characteristics.address;
            (!address.is_empty()).then(|| (info.row.vendor, address.clone()))
        });
        let told: BTreeMap<VendorId, String> = told.collect();
        self.prober.keep(|vendor| told.contains_key(&vendor));
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn probe(&self, to: VendorId) -> Option<BoxFuture<'static, Result<Echo, ChunkRefusal>>> {
        let target = self.target(to, LANE_CALLS)?;
        let prober = Arc::clone(&self.prober);
        Some(async move { prober.probe(to, target).await }.boxed())
    }
}

impl LocalFats for NetworkAgents {
    fn copies(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<LocalCopies, LocalFatError>> {
        async move {
            let page = self.list(vendor, after, limit).await?;
            let copies = page.copies.into_iter().map(|held| LocalCopy {
                copy: held.copy,
                plaintext_bytes: held.plaintext_bytes,
                devices: held.devices,
                complete: held.complete,
            });
            Ok(LocalCopies {
                copies: copies.collect(),
                next: page.next,
            })
        }
        .boxed()
    }

    fn device_paths(&self, vendor: VendorId) -> BoxFuture<'_, Vec<(DeviceId, String)>> {
        async move {
            match self.list(vendor, None, 1).await {
                Ok(page) => page.devices,
                Err(error) => {
                    tracing::debug!(%vendor, %error, "a vendor does not tell where its devices are");
                    Vec::new()
                }
            }
        }
        .boxed()
    }
}

fn headers(request_id: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Hexadecimal digits can stand in a header.
    if let Ok(id) = HeaderValue::from_str(&format!("{request_id:016x}")) {
        headers.insert(routes::REQUEST_ID, id);
    }
    headers
}

/// The body of a response that takes the call; anything else is a refusal.
async fn accepted(response: Result<Response<Answer>, CallError<Infallible>>) -> Result<Answer, ChunkRefusal> {
    let response = response.map_err(|error| ChunkRefusal::Link(error.to_string()))?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.into_body());
    }
    let words = Limited::new(response.into_body(), REFUSAL_BYTES_MAX)
        .collect()
        .await;
    let words = match words {
        Ok(words) => words.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
        Err(error) => {
            return Err(ChunkRefusal::Link(format!(
                "answered {status}, then broke: {error}"
            )));
        }
    };
    if status == StatusCode::CONFLICT {
        let refusal = codec::decode::<ChunkRefusal>(&words);
        return Err(refusal.unwrap_or_else(|error| ChunkRefusal::Link(error.to_string())));
    }
    Err(match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => ChunkRefusal::Overloaded,
        _ => ChunkRefusal::Link(format!("answered {status}: {}", String::from_utf8_lossy(&words))),
    })
}

/// Stored bytes as they come, never more than `most`.
fn stored(body: Answer, most: u64) -> StoredStream {
    let bytes = stream::try_unfold((body, most), |(mut body, left)| async move {
        loop {
            let frame = match body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ChunkRefusal::Link(error.to_string())),
                Some(Ok(frame)) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            let Some(left) = left.checked_sub(bytes.len() as u64) else {
                return Err(ChunkRefusal::Link(
                    "more bytes came than were asked for".to_owned(),
                ));
            };
            return Ok(Some((bytes, (body, left))));
        }
    });
    bytes.boxed()
}
