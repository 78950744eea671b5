//! Writing the pieces of a copy: on different devices where there are enough, again elsewhere where one
//! failed; when the last is durable and in the local FAT, the receipt goes to the signer.

use super::Admitted;
use super::rechunk::Piece;
use crate::agent::Agent;
use crate::device::{DeviceError, Location};
use crate::lane::Job;
use crate::receipts::{Pending, PieceFailure, Signer, Written};
use crate::sync::{Shared, lock};
use std::sync::Arc;
use tokio::sync::oneshot;
use ullage_model::ids::{DeviceId, Digest, SessionId};
use ullage_model::units;
use ullage_model::wire::chunk::{ChunkRefusal, PieceReceipt, Receipt, SignedReceipts};

/// Pieces of one copy on their way to devices.
struct CopyWrite {
    signer: Arc<Signer>,
    session: SessionId,
    state: Shared<State>,
}

struct State {
    receipt: Receipt,
    /// Pieces not yet answered for.
    waiting: usize,
    failures: Vec<PieceFailure>,
    done: Option<oneshot::Sender<Written>>,
}

impl CopyWrite {
    fn settle(&self, piece: usize, device: DeviceId, result: Result<Location, DeviceError>) {
        let mut state = lock(&self.state);
        match result {
            Ok(_) => {
                if let Some(receipt) = state.receipt.pieces.get_mut(piece) {
                    receipt.device = device;
                }
            }
            Err(error) => state.failures.push(PieceFailure { piece, device, error }),
        }
        state.waiting -= 1;
        if state.waiting > 0 {
            return;
        }
        let Some(done) = state.done.take() else { return };
        if state.failures.is_empty() {
            self.signer.push(Pending {
                session: self.session,
                receipt: state.receipt.clone(),
                done,
            });
        } else {
            // The upload's task may have been dropped at shutdown.
            let _ = done.send(Written::Failed(std::mem::take(&mut state.failures)));
        }
    }
}

/// Writes all pieces and returns the signed list that names the copy.
pub(super) async fn write(
    agent: &Arc<Agent>,
    admitted: &Admitted,
    digest: Digest,
    pieces: Vec<Piece>,
) -> Result<SignedReceipts, ChunkRefusal> {
    let mut receipt = Receipt {
        copy: admitted.copy,
        digest,
        plaintext_bytes: admitted.header.plaintext_bytes,
        pieces: pieces
            .iter()
            .map(|piece| PieceReceipt {
                device: DeviceId::default(),
                first_frame: piece.header.first_frame,
                frames: piece.header.frames,
            })
            .collect(),
    };
    let mut todo: Vec<usize> = (0..pieces.len()).collect();
    let mut failed: Vec<PieceFailure> = Vec::new();
    loop {
        let placed = place(agent, &admitted.device_class, &pieces, &todo, &receipt, &failed);
        let Ok(placed) = placed else {
            abandon(agent, admitted, todo.len() < pieces.len()).await;
            return Err(refusal(&pieces, failed));
        };
        let (done, written) = oneshot::channel();
        let state = State {
            receipt: receipt.clone(),
            waiting: placed.len(),
            failures: Vec::new(),
            done: Some(done),
        };
        let copy_write = Arc::new(CopyWrite {
            signer: Arc::clone(&agent.signer),
            session: admitted.header.owner,
            state: Shared::new(state),
        });
        for (piece, device) in placed {
            submit(agent, &copy_write, &pieces[piece], piece, device);
        }
        match written.await {
            Ok(Written::Signed(receipts)) => return Ok(receipts),
            Ok(Written::Failed(failures)) => {
                look_again(agent, &failures).await?;
                receipt = lock(&copy_write.state).receipt.clone();
                todo = failures.iter().map(|failure| failure.piece).collect();
                failed.extend(failures);
            }
            // The pieces may be durable: the sender must not count on their room.
            Err(_) => {
                return Err(ChunkRefusal::Devices(
                    "the agent stopped before it could sign for the copy".to_owned(),
                ));
            }
        }
    }
}

/// Looks at the devices that failed, which may wait for their file systems.
async fn look_again(agent: &Arc<Agent>, failures: &[PieceFailure]) -> Result<(), ChunkRefusal> {
    let failed: Vec<DeviceId> = failures.iter().map(|failure| failure.device).collect();
    let agent = Arc::clone(agent);
    let looked = agent.workers.blocking(move || {
        for device in failed {
            agent.devices.look_again(device);
        }
    });
    looked
        .await
        .map_err(|error| ChunkRefusal::Devices(error.to_string()))
}

fn submit(agent: &Agent, copy_write: &Arc<CopyWrite>, piece: &Piece, index: usize, device: DeviceId) {
    let settle = Arc::clone(copy_write);
    agent.devices.take(device, piece_room(piece));
    match agent.devices.get(device) {
        Ok(opened) => opened.lane.submit(Job::Put {
            header: piece.header,
            payload: piece.payload.clone(),
            done: Box::new(move |result| settle.settle(index, device, result)),
        }),
        Err(error) => settle.settle(index, device, Err(error)),
    }
}

/// A device for each piece to be written: one that failed for this copy is not tried again, one that has none
/// of its pieces yet is preferred.
fn place(
    agent: &Agent,
    device_class: &str,
    pieces: &[Piece],
    todo: &[usize],
    receipt: &Receipt,
    failed: &[PieceFailure],
) -> Result<Vec<(usize, DeviceId)>, ()> {
    let without: Vec<DeviceId> = failed.iter().map(|failure| failure.device).collect();
    let largest = todo
        .iter()
        .map(|piece| piece_room(&pieces[*piece]))
        .max()
        .unwrap_or(0);
    let usable = agent.devices.choose(device_class, largest, &without);
    let taken: Vec<DeviceId> = (0..pieces.len())
        .filter(|piece| !todo.contains(piece))
        .map(|piece| receipt.pieces[piece].device)
        .collect();
    let (fresh, used): (Vec<DeviceId>, Vec<DeviceId>) =
        usable.into_iter().partition(|device| !taken.contains(device));
    let order: Vec<DeviceId> = fresh.into_iter().chain(used).collect();
    if order.is_empty() {
        return Err(());
    }
    Ok(todo
        .iter()
        .enumerate()
        .map(|(turn, piece)| (*piece, order[turn % order.len()]))
        .collect())
}

fn piece_room(piece: &Piece) -> u64 {
    let plaintext = u64::from(piece.header.frames) * ullage_model::limits::FRAME_BYTES;
    units::room(plaintext.min(piece.header.plaintext_bytes), 1)
}

fn refusal(pieces: &[Piece], failed: Vec<PieceFailure>) -> ChunkRefusal {
    let worse = failed
        .iter()
        .find(|failure| !matches!(failure.error, DeviceError::Full { .. }));
    match worse {
        Some(failure) => ChunkRefusal::Devices(failure.error.to_string()),
        None => ChunkRefusal::Full {
            needed: pieces.iter().map(piece_room).sum(),
        },
    }
}

/// Erases the pieces that were written of a copy that is not stored; what cannot be erased now is judged
/// when the lease closes.
async fn abandon(agent: &Arc<Agent>, admitted: &Admitted, any: bool) {
    if any && let Err(error) = agent.erase(vec![admitted.copy]).await {
        tracing::warn!(copy = %admitted.copy, %error, "pieces of a copy that was not stored remain");
    }
}
