//! The signer: one worker that signs receipts, one signature per group and session, and hands the signed list
//! to every upload that waits for it. What a receipt says is decided by the intake.

use crate::device::DeviceError;
use crate::error::AgentError;
use crate::metrics::Metrics;
use crate::sync::{Shared, lock};
use crate::workers::{Worker, Workers};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use ullage_model::codec;
use ullage_model::ids::{ClusterId, DeviceId, SessionId, VendorId};
use ullage_model::wire::chunk::{RECEIPTS_CONTEXT, Receipt, ReceiptList, Signature, SignedReceipts};

/// Receipts in one signed list.
const RECEIPTS_PER_LIST: usize = 256;

/// What became of the pieces of one copy.
#[derive(Debug)]
pub enum Written {
    /// All are durable; the list names the copy.
    Signed(SignedReceipts),
    /// These pieces are not.
    Failed(Vec<PieceFailure>),
}

/// A piece that was not written.
#[derive(Clone, Debug)]
pub struct PieceFailure {
    /// Its index among the pieces of the copy.
    pub piece: usize,
    /// On which device.
    pub device: DeviceId,
    /// Why.
    pub error: DeviceError,
}

/// A receipt waiting for its signature.
pub struct Pending {
    /// Whose list it goes on.
    pub session: SessionId,
    /// The receipt.
    pub receipt: Receipt,
    /// Told the signed list.
    pub done: oneshot::Sender<Written>,
}

#[derive(Default)]
struct Queue {
    pending: Vec<Pending>,
    woken: bool,
    stopping: bool,
    identity: Option<(ClusterId, VendorId)>,
}

/// Signs receipts.
pub struct Signer {
    key: SigningKey,
    queue: Shared<Queue>,
    wake: Notify,
    metrics: Arc<Metrics>,
}

/// `context` and `body`, signed.
pub(crate) fn sign(key: &SigningKey, context: &[u8], body: &[u8]) -> Signature {
    let mut message = Vec::with_capacity(context.len() + body.len());
    message.extend_from_slice(context);
    message.extend_from_slice(body);
    Signature(Bytes::copy_from_slice(&key.sign(&message).to_bytes()))
}

impl Signer {
    /// Starts the signer's worker.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        key: SigningKey,
        metrics: Arc<Metrics>,
        workers: Workers,
    ) -> Result<(Arc<Self>, Worker), AgentError> {
        let signer = Arc::new(Self {
            key,
            queue: Shared::default(),
            wake: Notify::new(),
            metrics,
        });
        let runner = Arc::clone(&signer);
        let worker = workers.start("signer".to_owned(), async move { runner.run().await })?;
        Ok((signer, worker))
    }

    /// Says in whose name to sign.
    pub fn set_identity(&self, cluster: ClusterId, vendor: VendorId) {
        lock(&self.queue).identity = Some((cluster, vendor));
    }

    /// Queues a receipt; it is signed after the next [`Signer::wake`].
    pub fn push(&self, pending: Pending) {
        lock(&self.queue).pending.push(pending);
    }

    /// Signs what is queued.
    pub fn wake(&self) {
        let mut queue = lock(&self.queue);
        if !queue.pending.is_empty() {
            queue.woken = true;
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Ends the worker.
    pub fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.wake.notify_one();
    }

    /// What is to be signed now, and in whose name; `None` when there will be no more.
    async fn next(&self) -> Option<(Vec<Pending>, Option<(ClusterId, VendorId)>)> {
        loop {
            {
                let mut queue = lock(&self.queue);
                if queue.stopping && queue.pending.is_empty() {
                    return None;
                }
                if queue.woken || queue.stopping {
                    queue.woken = false;
                    return Some((std::mem::take(&mut queue.pending), queue.identity));
                }
            }
            self.wake.notified().await;
        }
    }

    async fn run(&self) {
        while let Some((pending, identity)) = self.next().await {
            // Before registration nothing is taken in, so nothing waits for a signature.
            let Some((cluster, vendor)) = identity else {
                continue;
            };
            let mut sessions: BTreeMap<SessionId, Vec<Pending>> = BTreeMap::new();
            for receipt in pending {
                sessions.entry(receipt.session).or_default().push(receipt);
            }
            for (session, mut receipts) in sessions {
                while !receipts.is_empty() {
                    let rest = receipts.split_off(receipts.len().min(RECEIPTS_PER_LIST));
                    self.sign(cluster, vendor, session, receipts);
                    receipts = rest;
                }
            }
        }
    }

    fn sign(&self, cluster: ClusterId, vendor: VendorId, session: SessionId, pending: Vec<Pending>) {
        let (receipts, dones): (Vec<Receipt>, Vec<_>) = pending
            .into_iter()
            .map(|pending| (pending.receipt, pending.done))
            .unzip();
        self.metrics.receipts_signed.inc_by(receipts.len() as u64);
        self.metrics.signatures.inc();
        let body = codec::encode(&ReceiptList {
            cluster,
            vendor,
            session,
            receipts,
        });
        let signature = sign(&self.key, RECEIPTS_CONTEXT, &body);
        let signed = SignedReceipts { body, signature };
        for done in dones {
            // An upload that was dropped meanwhile needs no receipt; its copy is judged when its lease closes.
            let _ = done.send(Written::Signed(signed.clone()));
        }
    }
}
