//! Fourth step: receipts against what was sent. Comparing is pure; signatures are checked once per batch, because
//! many uploads share one.

use crate::limits::VERIFIED_BATCHES;
use crate::rooms::Placement;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use ullage_model::codec;
use ullage_model::fat::rows::{ChunkRow, CopyRow, CopyState};
use ullage_model::ids::{ChunkId, ClusterId, CopyId, Digest, SessionId, VendorId};
use ullage_model::limits::PIECES_MAX;
use ullage_model::units::{frames, room};
use ullage_model::wire::chunk::{
    PieceReceipt, PublicKey, RECEIPTS_CONTEXT, Receipt, ReceiptList, SignedReceipts,
};

/// Why a receipt does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// The signature is not the vendor's over these bytes.
    #[error("the signature does not verify")]
    Signature,
    /// The bytes are no list of receipts.
    #[error("not a list of receipts: {0}")]
    Layout(String),
    /// The list is of another cluster, vendor or session.
    #[error("the list is not for this {0}")]
    Elsewhere(&'static str),
    /// The copy that was sent is not named.
    #[error("{0} is not in the list")]
    Missing(CopyId),
    /// The vendor received other bytes, or says so.
    #[error("the digest is not that of what was sent")]
    Digest,
    /// The length is another one.
    #[error("{0} plaintext bytes, not what was sent")]
    Length(u64),
    /// The pieces do not make up the chunk, or are too few or too many.
    #[error("the pieces {0}")]
    Pieces(&'static str),
}

/// What was sent to one vendor, as its receipt must say.
#[derive(Clone, Copy, Debug)]
pub struct SentCopy<'a> {
    /// The cluster.
    pub cluster: ClusterId,
    /// The session that sent it.
    pub session: SessionId,
    /// The vendor.
    pub vendor: VendorId,
    /// What it signs with.
    pub public_key: &'a PublicKey,
    /// The copy.
    pub copy: CopyId,
    /// BLAKE3 of the stored bytes.
    pub digest: Digest,
    /// Plaintext bytes.
    pub plaintext_bytes: u64,
    /// Least number of pieces asked for.
    pub pieces: u32,
}

/// A copy whose receipt verified.
#[derive(Debug)]
pub struct ValidatedCopy {
    placement: Placement,
    pieces: u32,
}

impl ValidatedCopy {
    /// Where it is.
    #[must_use]
    pub fn vendor(&self) -> VendorId {
        self.placement.vendor
    }
}

/// A chunk all of whose copies have verified receipts: it may be committed.
#[derive(Debug)]
pub struct Validated {
    row: ChunkRow,
    copies: Vec<ValidatedCopy>,
}

impl Validated {
    /// A chunk with the copies its class asks for; `None` when there are fewer.
    #[must_use]
    pub fn new(
        chunk: ChunkId,
        plaintext_bytes: u64,
        digest: Digest,
        copies: Vec<ValidatedCopy>,
        wanted: u32,
    ) -> Option<Self> {
        if copies.len() != wanted as usize {
            return None;
        }
        let copy_row = |copy: &ValidatedCopy| CopyRow {
            vendor: copy.placement.vendor,
            lease: copy.placement.lease,
            device_class: copy.placement.device_class.clone(),
            pieces: copy.pieces,
            score: copy.placement.score,
            state: CopyState::Good,
        };
        let row = ChunkRow {
            chunk,
            plaintext_bytes,
            digest,
            copies: copies.iter().map(copy_row).collect(),
        };
        Some(Self { row, copies })
    }

    /// Its row of the final FAT.
    #[must_use]
    pub fn row(&self) -> &ChunkRow {
        &self.row
    }

    /// It was committed.
    pub fn settled(mut self) {
        for copy in &mut self.copies {
            copy.placement
                .settled(room(self.row.plaintext_bytes, copy.pieces));
        }
    }
}

/// A receipt that counts.
#[derive(Debug)]
pub struct GoodReceipt {
    pieces: u32,
}

impl GoodReceipt {
    /// The copy it is for, validated.
    #[must_use]
    pub fn of(self, placement: Placement) -> ValidatedCopy {
        ValidatedCopy {
            placement,
            pieces: self.pieces,
        }
    }
}

/// Checks the receipt in `signed` against what was sent.
///
/// # Errors
/// What is wrong with it.
pub fn validate(
    verified: &VerifiedBatches,
    signed: &SignedReceipts,
    sent: &SentCopy<'_>,
) -> Result<GoodReceipt, ReceiptFault> {
    let batch = verified.get(sent.vendor, sent.public_key, signed)?;
    let pieces = batch.compare(sent)?;
    Ok(GoodReceipt { pieces })
}

/// A batch whose signature verified.
#[derive(Debug)]
pub struct VerifiedBatch {
    cluster: ClusterId,
    vendor: VendorId,
    session: SessionId,
    receipts: BTreeMap<CopyId, Receipt>,
}

impl VerifiedBatch {
    /// Compares the copy's receipt with what was sent; answers the number of pieces.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, sent: &SentCopy<'_>) -> Result<u32, ReceiptFault> {
        if self.cluster != sent.cluster {
            return Err(ReceiptFault::Elsewhere("cluster"));
        }
        if self.vendor != sent.vendor {
            return Err(ReceiptFault::Elsewhere("vendor"));
        }
        if self.session != sent.session {
            return Err(ReceiptFault::Elsewhere("session"));
        }
        let receipt = self
            .receipts
            .get(&sent.copy)
            .ok_or(ReceiptFault::Missing(sent.copy))?;
        if receipt.digest != sent.digest {
            return Err(ReceiptFault::Digest);
        }
        if receipt.plaintext_bytes != sent.plaintext_bytes {
            return Err(ReceiptFault::Length(receipt.plaintext_bytes));
        }
        compare_pieces(&receipt.pieces, sent)
    }
}

fn compare_pieces(pieces: &[PieceReceipt], sent: &SentCopy<'_>) -> Result<u32, ReceiptFault> {
    let frames = frames(sent.plaintext_bytes);
    let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    if count > PIECES_MAX {
        return Err(ReceiptFault::Pieces("are too many"));
    }
    if u64::from(count) < u64::from(sent.pieces).min(frames).max(1) {
        return Err(ReceiptFault::Pieces("are too few"));
    }
    let mut next = 0;
    for piece in pieces {
        if u64::from(piece.first_frame) != next || piece.frames == 0 {
            return Err(ReceiptFault::Pieces("do not follow each other"));
        }
        next += u64::from(piece.frames);
    }
    if next != frames {
        return Err(ReceiptFault::Pieces("do not make up the chunk"));
    }
    Ok(count)
}

type Outcome = Arc<OnceLock<Result<Arc<VerifiedBatch>, ReceiptFault>>>;

/// Batches whose signatures were checked a moment ago. A batch is known by its bytes; whoever asks first checks
/// it, others wait for that.
#[derive(Debug, Default)]
pub struct VerifiedBatches {
    shards: [Mutex<VecDeque<Remembered>>; 16],
}

#[derive(Debug)]
struct Remembered {
    vendor: VendorId,
    key: PublicKey,
    signed: SignedReceipts,
    outcome: Outcome,
}

impl VerifiedBatches {
    /// The batch, if its signature is `vendor`'s.
    ///
    /// # Errors
    /// When the signature does not verify or the bytes are no receipts.
    pub fn get(
        &self,
        vendor: VendorId,
        key: &PublicKey,
        signed: &SignedReceipts,
    ) -> Result<Arc<VerifiedBatch>, ReceiptFault> {
        let outcome = self.remembered(vendor, key, signed);
        outcome.get_or_init(|| verify(key, signed).map(Arc::new)).clone()
    }

    fn remembered(&self, vendor: VendorId, key: &PublicKey, signed: &SignedReceipts) -> Outcome {
        let shard = signed.signature.0.first().copied().unwrap_or_default() as usize % self.shards.len();
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let same = |it: &&Remembered| it.vendor == vendor && it.key == *key && same_batch(&it.signed, signed);
        if let Some(it) = shard.iter().rev().find(same) {
            return Arc::clone(&it.outcome);
        }
        if shard.len() == VERIFIED_BATCHES {
            shard.pop_front();
        }
        let outcome = Outcome::default();
        shard.push_back(Remembered {
            vendor,
            key: *key,
            signed: signed.clone(),
            outcome: Arc::clone(&outcome),
        });
        outcome
    }
}

fn same_batch(a: &SignedReceipts, b: &SignedReceipts) -> bool {
    let same = |a: &Bytes, b: &Bytes| (a.as_ptr() == b.as_ptr() && a.len() == b.len()) || a == b;
    same(&a.signature.0, &b.signature.0) && same(&a.body, &b.body)
}

fn verify(key: &PublicKey, signed: &SignedReceipts) -> Result<VerifiedBatch, ReceiptFault> {
    let message = [RECEIPTS_CONTEXT, &signed.body].concat();
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(&message, &signed.signature.0)
        .map_err(|_| ReceiptFault::Signature)?;
    let list: ReceiptList =
        codec::decode(&signed.body).map_err(|error| ReceiptFault::Layout(error.to_string()))?;
    Ok(VerifiedBatch {
        cluster: list.cluster,
        vendor: list.vendor,
        session: list.session,
        receipts: list
            .receipts
            .into_iter()
            .map(|receipt| (receipt.copy, receipt))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{ReceiptFault, SentCopy, VerifiedBatches};
    use bytes::Bytes;
    use ed25519_dalek::{Signer, SigningKey};
    use ullage_model::codec;
    use ullage_model::ids::{ChunkId, ClusterId, CopyId, DeviceId, Digest, LeaseId, SessionId, VendorId};
    use ullage_model::limits::FRAME_BYTES;
    use ullage_model::wire::chunk::{
        PieceReceipt, PublicKey, RECEIPTS_CONTEXT, Receipt, ReceiptList, Signature, SignedReceipts,
    };

    fn signed(key: &SigningKey, list: &ReceiptList) -> SignedReceipts {
        let body = codec::encode(list);
        let signature = key.sign(&[RECEIPTS_CONTEXT, &body].concat());
        SignedReceipts {
            body,
            signature: Signature(Bytes::copy_from_slice(&signature.to_bytes())),
        }
    }

    fn piece(first_frame: u32, frames: u32) -> PieceReceipt {
        PieceReceipt {
            device: DeviceId(0),
            first_frame,
            frames,
        }
    }

    fn check(change: impl FnOnce(&mut ReceiptList), expected: Result<u32, ReceiptFault>) {
        let key = SigningKey::from_bytes(&[4; 32]);
        let public_key = PublicKey(key.verifying_key().to_bytes());
        let copy = CopyId {
            chunk: ChunkId {
                lease: LeaseId(3),
                counter: 1,
            },
            lease: LeaseId(3),
        };
        let receipt = Receipt {
            copy,
            digest: Digest([1; 32]),
            plaintext_bytes: 2 * FRAME_BYTES + 1,
            pieces: vec![piece(0, 1), piece(1, 2)],
        };
        let mut list = ReceiptList {
            cluster: ClusterId(1),
            vendor: VendorId(2),
            session: SessionId(3),
            receipts: vec![receipt],
        };
        let sent = SentCopy {
            cluster: list.cluster,
            session: list.session,
            vendor: list.vendor,
            public_key: &public_key,
            copy,
            digest: Digest([1; 32]),
            plaintext_bytes: 2 * FRAME_BYTES + 1,
            pieces: 2,
        };
        change(&mut list);
        let batches = VerifiedBatches::default();
        let signed = signed(&key, &list);
        for _ in 0..2 {
            let batch = batches.get(sent.vendor, &public_key, &signed).unwrap();
            assert_eq!(batch.compare(&sent), expected);
        }
    }

    #[test]
    fn a_receipt_that_says_what_was_sent_counts() {
        check(|_| {}, Ok(2));
        check(
            |list| list.receipts[0].pieces = vec![piece(0, 1), piece(1, 1), piece(2, 1)],
            Ok(3),
        );
    }

    #[test]
    fn a_receipt_that_says_anything_else_does_not() {
        check(
            |list| list.cluster = ClusterId(9),
            Err(ReceiptFault::Elsewhere("cluster")),
        );
        check(
            |list| list.vendor = VendorId(9),
            Err(ReceiptFault::Elsewhere("vendor")),
        );
        check(
            |list| list.session = SessionId(9),
            Err(ReceiptFault::Elsewhere("session")),
        );
        check(
            |list| list.receipts[0].digest = Digest([2; 32]),
            Err(ReceiptFault::Digest),
        );
        check(
            |list| list.receipts[0].plaintext_bytes = 7,
            Err(ReceiptFault::Length(7)),
        );
        let pieces = |pieces| move |list: &mut ReceiptList| list.receipts[0].pieces = pieces;
        check(
            pieces(vec![piece(0, 3)]),
            Err(ReceiptFault::Pieces("are too few")),
        );
        check(
            pieces(vec![piece(0, 1), piece(2, 1)]),
            Err(ReceiptFault::Pieces("do not follow each other")),
        );
        check(
            pieces(vec![piece(0, 1), piece(1, 1)]),
            Err(ReceiptFault::Pieces("do not make up the chunk")),
        );
        check(
            pieces(vec![piece(0, 1); 17]),
            Err(ReceiptFault::Pieces("are too many")),
        );
    }

    #[test]
    fn another_key_or_other_bytes_do_not_verify_even_after_the_right_ones_did() {
        let key = SigningKey::from_bytes(&[4; 32]);
        let public_key = PublicKey(key.verifying_key().to_bytes());
        let list = ReceiptList {
            cluster: ClusterId(1),
            vendor: VendorId(2),
            session: SessionId(3),
            receipts: Vec::new(),
        };
        let batches = VerifiedBatches::default();
        let good = signed(&key, &list);
        assert!(batches.get(VendorId(2), &public_key, &good).is_ok());
        let other = PublicKey(SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes());
        assert_eq!(
            batches.get(VendorId(2), &other, &good).unwrap_err(),
            ReceiptFault::Signature
        );
        let mut changed = good.clone();
        changed.body = codec::encode(&ReceiptList {
            session: SessionId(4),
            ..list
        });
        assert_eq!(
            batches.get(VendorId(2), &public_key, &changed).unwrap_err(),
            ReceiptFault::Signature
        );
    }
}
