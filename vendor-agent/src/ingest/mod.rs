//! Storing chunks: check, receive, pass on, cut, write, sign. Read top-down: this file is what happens to one
//! chunk; each step is in a file of its own.

mod forward;
mod memory;
mod receive;
mod rechunk;
mod write;

use crate::agent::Agent;
use crate::device::Wait;
use crate::leases::Admission;
use crate::local_fat::{CopyEntry, LookupError};
use crate::receipts::{Pending, Written};
use crate::seams::{ChunkParts, HopReports};
use futures::StreamExt as _;
pub(crate) use memory::Intake;
use memory::Memory;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use ullage_model::ids::{CopyId, VendorId};
use ullage_model::limits::{CHUNK_BYTES_MAX, COPIES_MAX, PIECES_MAX};
use ullage_model::units;
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkRefusal, GrantAction, HopReport, PieceReceipt, Receipt, SignedReceipts,
};

/// A chunk that may come in: its name, its room and its memory are taken.
struct Admitted {
    header: ChunkHeader,
    me: VendorId,
    copy: CopyId,
    /// Pieces go to devices of this class.
    device_class: String,
    /// Pieces it will be cut into.
    pieces: u32,
    admission: Admission,
    /// Shared with what passes the chunk on.
    memory: Arc<Memory>,
}

/// A chunk that may come in.
pub(crate) struct Begun {
    agent: Arc<Agent>,
    admitted: Admitted,
}

impl Begun {
    /// Takes the chunk's bytes. One report per hop comes back as it arises; the work goes on if they are
    /// dropped.
    pub(crate) fn take(self, parts: ChunkParts) -> HopReports {
        let Self { agent, admitted } = self;
        let hops = admitted.header.route.len();
        let (reports, receiver) = mpsc::channel(hops.clamp(1, COPIES_MAX as usize) + 1);
        tokio::spawn(async move {
            let vendor = admitted.me;
            let report = match agent.store(admitted, parts, &reports).await {
                Ok(receipts) => {
                    agent.metrics.chunks_stored.inc();
                    HopReport::Stored { vendor, receipts }
                }
                Err(refusal) => {
                    agent.count_refusal(&refusal);
                    HopReport::Failed {
                        vendor,
                        from: None,
                        refusal,
                    }
                }
            };
            // A sender that went away needs no report: its lease's close settles what it left.
            let _ = reports.send(report).await;
        });
        futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .boxed()
    }
}

impl Agent {
    /// Takes a chunk: the first entry of the header's route is this vendor; the rest of the route is served
    /// by passing the chunk on while it is still coming in. One report per hop comes back as it arises. The
    /// work goes on if the caller drops the reports.
    pub async fn put_chunk(self: &Arc<Self>, header: ChunkHeader, parts: ChunkParts) -> HopReports {
        let agent = Arc::clone(self);
        let begun = async move {
            match agent.begin_chunk(header).await {
                Ok(begun) => begun.take(parts),
                Err(refusal) => {
                    let vendor = agent.vendor().unwrap_or_default();
                    let failed = HopReport::Failed {
                        vendor,
                        from: None,
                        refusal,
                    };
                    futures::stream::iter([failed]).boxed()
                }
            }
        };
        // Not the caller's task: whoever drops the reports does not stop the work.
        let begun = tokio::spawn(begun);
        futures::stream::once(begun)
            .flat_map(|begun| begun.unwrap_or_else(|_| futures::stream::empty().boxed()))
            .boxed()
    }

    /// Checks a chunk's header and takes name, room and memory, before any of its bytes.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn begin_chunk(self: &Arc<Self>, header: ChunkHeader) -> Result<Begun, ChunkRefusal> {
        match self.admit(header).await {
            Ok(admitted) => Ok(Begun {
                agent: Arc::clone(self),
                admitted,
            }),
            Err(refusal) => {
                self.count_refusal(&refusal);
                Err(refusal)
            }
        }
    }

    fn count_refusal(&self, refusal: &ChunkRefusal) {
        let reason = reason(refusal);
        self.metrics.chunks_refused.with_label_values(&[reason]).inc();
    }

    async fn store(
        self: &Arc<Self>,
        mut admitted: Admitted,
        parts: ChunkParts,
        reports: &mpsc::Sender<HopReport>,
    ) -> Result<SignedReceipts, ChunkRefusal> {
        let next = forward::start(self, &admitted, reports.clone());
        let received = receive::receive(self, &admitted, parts, next).await?;
        let copy = admitted.copy;
        if let Some(known) = self.lookup(copy).await? {
            return self.known(&admitted, &received, &known).await;
        }
        let pieces = rechunk::cut(&admitted.header, copy, admitted.pieces, &received);
        let signed = write::write(self, &admitted, received.digest, pieces).await?;
        admitted.admission.stored();
        Ok(signed)
    }

    /// Checks header and grant and takes name, room and memory.
    async fn admit(self: &Arc<Self>, header: ChunkHeader) -> Result<Admitted, ChunkRefusal> {
        let context = self.grant_context(header.owner)?;
        let bad = |reason: &str| ChunkRefusal::Header(reason.to_owned());
        let hop = header.route.first().ok_or_else(|| bad("its route is empty"))?;
        if header.route.len() > COPIES_MAX as usize {
            return Err(bad("its route is too long"));
        }
        if hop.vendor != context.vendor {
            return Err(bad("its route begins with another vendor"));
        }
        for (index, later) in header.route.iter().enumerate() {
            if header.route[..index]
                .iter()
                .any(|earlier| earlier.vendor == later.vendor)
            {
                return Err(bad("its route names a vendor twice"));
            }
        }
        if header.pieces == 0 || header.pieces > PIECES_MAX {
            return Err(bad("its number of pieces is out of bounds"));
        }
        if header.plaintext_bytes > CHUNK_BYTES_MAX {
            return Err(bad("its length is out of bounds"));
        }
        let body = self.grants.check(&hop.grant, &context)?;
        let GrantAction::Write {
            lease,
            device_class,
            bytes: cap,
        } = body.action
        else {
            return Err(ChunkRefusal::Grant("it allows no writing".to_owned()));
        };
        if lease != hop.lease {
            return Err(ChunkRefusal::Grant(format!(
                "it is for {lease}, the route says {}",
                hop.lease
            )));
        }
        let copy = CopyId {
            chunk: header.chunk,
            lease,
        };
        let frames = u32::try_from(units::frames(header.plaintext_bytes)).unwrap_or(u32::MAX);
        let pieces = header.pieces.min(frames.max(1));
        if !self.leases.is_counted(lease) {
            self.count_lease(lease).await?;
        }
        let room = units::room(header.plaintext_bytes, pieces);
        let admission = self.leases.admit(copy, room, cap)?;
        let memory = self
            .intake
            .take(units::stored_bytes(header.plaintext_bytes))
            .await?;
        let memory = Arc::new(memory);
        Ok(Admitted {
            me: context.vendor,
            copy,
            device_class,
            pieces,
            admission,
            memory,
            header,
        })
    }

    /// Room used under a lease that this process has not seen yet.
    async fn count_lease(&self, lease: ullage_model::ids::LeaseId) -> Result<(), ChunkRefusal> {
        let mut room = 0;
        let mut after = None;
        while self.fat.is_unsettled(lease) {
            let fat = Arc::clone(&self.fat);
            let page = self
                .workers
                .blocking(move || fat.list_lease(lease, after, 512))
                .await
                .and_then(|page| page)
                .map_err(|error| ChunkRefusal::Devices(error.to_string()))?;
            let Some(last) = page.last() else { break };
            after = Some(last.copy);
            for (_, piece) in page.iter().filter_map(|entry| entry.pieces.first()) {
                room += units::room(piece.plaintext_bytes, u32::from(piece.pieces));
            }
        }
        self.leases.count(lease, room);
        Ok(())
    }

    /// What the local FAT knows of `copy`, without blocking the caller's thread.
    pub(crate) async fn lookup(&self, copy: CopyId) -> Result<Option<CopyEntry>, ChunkRefusal> {
        match self.fat.lookup(copy, Wait::Never) {
            Ok(entry) => return Ok(entry),
            Err(LookupError::WouldWait) => {}
            Err(error) => return Err(ChunkRefusal::Devices(error.to_string())),
        }
        let fat = Arc::clone(&self.fat);
        match self
            .workers
            .blocking(move || fat.lookup(copy, Wait::ForMedium))
            .await
        {
            Ok(Ok(entry)) => Ok(entry),
            Ok(Err(error)) => Err(ChunkRefusal::Devices(error.to_string())),
            Err(error) => Err(ChunkRefusal::Devices(error.to_string())),
        }
    }

    /// The same copy came again: the same bytes get the same answer, anything else is refused, because the
    /// name of a copy never comes back.
    async fn known(
        &self,
        admitted: &Admitted,
        received: &receive::Received,
        known: &CopyEntry,
    ) -> Result<SignedReceipts, ChunkRefusal> {
        let copy = admitted.copy;
        let same = known.pieces.first().is_some_and(|(_, piece)| {
            piece.digest == received.digest && piece.plaintext_bytes == admitted.header.plaintext_bytes
        });
        if !known.is_complete() || !same {
            return Err(ChunkRefusal::Header(format!("{copy} was here before")));
        }
        let pieces = known
            .pieces
            .iter()
            .map(|(first_frame, piece)| PieceReceipt {
                device: piece.device,
                first_frame: *first_frame,
                frames: piece.frames,
            })
            .collect();
        let receipt = Receipt {
            copy,
            digest: received.digest,
            plaintext_bytes: admitted.header.plaintext_bytes,
            pieces,
        };
        let (done, signed) = oneshot::channel();
        self.signer.push(Pending {
            session: admitted.header.owner,
            receipt,
            done,
        });
        self.signer.wake();
        match signed.await {
            Ok(Written::Signed(receipts)) => Ok(receipts),
            // The copy is here: its room is used.
            _ => Err(ChunkRefusal::Devices(
                "the agent stopped before it could sign for the copy again".to_owned(),
            )),
        }
    }
}

fn reason(refusal: &ChunkRefusal) -> &'static str {
    match refusal {
        ChunkRefusal::Grant(_) => "grant",
        ChunkRefusal::LeaseClosed(_) => "lease_closed",
        ChunkRefusal::Header(_) => "header",
        ChunkRefusal::Damaged => "damaged",
        ChunkRefusal::Full { .. } => "full",
        ChunkRefusal::Devices(_) => "devices",
        ChunkRefusal::NotFound(_) => "not_found",
        ChunkRefusal::CopyDamaged(_) => "copy_damaged",
        ChunkRefusal::Overloaded => "overloaded",
        ChunkRefusal::NotReady => "not_ready",
        ChunkRefusal::Cut => "cut",
        ChunkRefusal::Link(_) => "link",
    }
}
