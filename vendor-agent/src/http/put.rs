//! A chunk over the wire: its header is checked and its memory taken before its bytes are, reports go back while
//! they come.

use super::HEADER_BYTES_MAX;
use crate::agent::Agent;
use crate::seams::ChunkParts;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{Response, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;
use ullage_model::codec;
use ullage_model::ids::Digest;
use ullage_model::units;
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal};
use ullage_transport::api::{StreamRequest, StreamResponse, refusal, text};
use ullage_transport::frame::{FrameReader, framed};
use ullage_transport::identity::{Identity, Peer};

/// Bytes of the digest that ends a chunk.
const DIGEST_BYTES: usize = 32;
/// Pieces shorter than this are put together before they are passed on: each piece costs memory beside its
/// bytes, and only its bytes are counted.
const PIECE_BYTES_MIN: usize = 8 * 1024;

pub(super) async fn put(agent: Arc<Agent>, peer: Peer, request: StreamRequest) -> StreamResponse {
    if let Peer::Known(Identity::Vendor(vendor)) = peer
        && !agent.takes_from(vendor)
    {
        return refusal(&ChunkRefusal::Grant(format!("{vendor} was shut out")));
    }
    let mut reader = FrameReader::new(request.into_body());
    let header: ChunkHeader = match reader.message(HEADER_BYTES_MAX).await {
        Ok(Some(message)) => match codec::decode(&message) {
            Ok(header) => header,
            Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        Ok(None) => return text(StatusCode::BAD_REQUEST, "there is no header"),
        Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let bytes = units::stored_bytes(header.plaintext_bytes);
    match agent.begin_chunk(header).await {
        Ok(begun) => {
            let reports = begun.take(parts(reader, bytes));
            let messages = reports.map(|report| Ok::<Bytes, Infallible>(framed(&codec::encode(&report))));
            Response::new(Body::from_stream(messages))
        }
        Err(refused) => refusal(&refused),
    }
}

struct Taking {
    reader: FrameReader<Body>,
    /// Stored bytes still to come.
    left: u64,
    /// Short pieces, until they are long enough or the last.
    gathered: BytesMut,
    /// What came after the stored bytes.
    digest: BytesMut,
    ended: bool,
}

/// The chunk in `reader`: `bytes` stored bytes, their digest, the end.
fn parts(reader: FrameReader<Body>, bytes: u64) -> ChunkParts {
    let taking = Taking {
        reader,
        left: bytes,
        gathered: BytesMut::new(),
        digest: BytesMut::with_capacity(DIGEST_BYTES),
        ended: false,
    };
    futures::stream::unfold(taking, |mut taking| async move {
        if taking.ended {
            return None;
        }
        let part = taking.next().await;
        taking.ended = !matches!(part, Ok(ChunkPart::Data(_)));
        Some((part, taking))
    })
    .boxed()
}

impl Taking {
    async fn next(&mut self) -> Result<ChunkPart, ChunkRefusal> {
        loop {
            match self.reader.data().await {
                Ok(Some(mut data)) => {
                    let stored =
                        data.split_to(data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
                    self.left -= stored.len() as u64;
                    if self.digest.len() + data.len() > DIGEST_BYTES {
                        return Err(ChunkRefusal::Damaged);
                    }
                    self.digest.extend_from_slice(&data);
                    if let Some(piece) = self.piece(stored) {
                        return Ok(ChunkPart::Data(piece));
                    }
                }
                Ok(None) => {
                    let digest = <[u8; DIGEST_BYTES]>::try_from(self.digest.as_ref());
                    return match digest {
                        Ok(digest) => Ok(ChunkPart::End(Digest(digest))),
                        Err(_) => Err(ChunkRefusal::Cut),
                    };
                }
                Err(_) => return Err(ChunkRefusal::Cut),
            }
        }
    }

    /// The next stored bytes to pass on, of which `came` are the newest.
    fn piece(&mut self, came: Bytes) -> Option<Bytes> {
        if self.gathered.is_empty() && came.len() >= PIECE_BYTES_MIN {
            return Some(came);
        }
        self.gathered.extend_from_slice(&came);
        let enough = self.left == 0 || self.gathered.len() >= PIECE_BYTES_MIN;
        (enough && !self.gathered.is_empty()).then(|| self.gathered.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taken(chunks: &[&[u8]], bytes: u64) -> Vec<Result<ChunkPart, ChunkRefusal>> {
        let chunks: Vec<Result<Bytes, std::io::Error>> = chunks
            .iter()
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let body = Body::from_stream(futures::stream::iter(chunks));
        parts(FrameReader::new(body), bytes).collect().await
    }

    #[tokio::test]
    async fn bytes_and_digest_are_told_apart_wherever_they_are_cut() {
        let all: Vec<u8> = (0..42).collect();
        for cut in 0..=all.len() {
            let (head, tail) = all.split_at(cut);
            let mut data = Vec::new();
            let mut end = None;
            for part in taken(&[head, tail], 10).await {
                match part.unwrap() {
                    ChunkPart::Data(bytes) => data.extend_from_slice(&bytes),
                    ChunkPart::End(digest) => end = Some(digest),
                }
            }
            assert_eq!(data, all[..10], "cut at {cut}");
            assert_eq!(end.unwrap().0, all[10..], "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_put_together() {
        let stored: Vec<u8> = (0..3 * PIECE_BYTES_MIN + 5)
            .map(|at| at.to_le_bytes()[0])
            .collect();
        let all = [stored.as_slice(), &[7; DIGEST_BYTES]].concat();
        let single: Vec<&[u8]> = all.chunks(1).collect();
        let parts = taken(&single, stored.len() as u64).await;
        let pieces: Vec<&Bytes> = parts
            .iter()
            .filter_map(|part| match part {
                Ok(ChunkPart::Data(bytes)) => Some(bytes),
                _ => None,
            })
            .collect();
        assert_eq!(parts.len(), pieces.len() + 1, "{parts:?}");
        assert_eq!(
            pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(),
            [PIECE_BYTES_MIN, PIECE_BYTES_MIN, PIECE_BYTES_MIN, 5]
        );
        assert_eq!(pieces.into_iter().flatten().copied().collect::<Vec<u8>>(), stored);
        assert_eq!(parts.last(), Some(&Ok(ChunkPart::End(Digest([7; DIGEST_BYTES])))));
    }

    #[tokio::test]
    async fn too_much_is_damage_and_too_little_a_cut() {
        let all: Vec<u8> = (0..43).collect();
        assert_eq!(taken(&[&all], 10).await, [Err(ChunkRefusal::Damaged)]);
        let short = taken(&[&all[..41]], 10).await;
        assert_eq!(short.last(), Some(&Err(ChunkRefusal::Cut)));
    }
}
