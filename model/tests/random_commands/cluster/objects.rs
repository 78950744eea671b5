//! Gateways and their blobs: chunks are sent to vendors first and committed after, or never.

use super::{Cluster, KEYS, ROOT, wrapped_key};
use crate::support::{STANDARD, blob, chunk, sealed};
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{
    Body, Conditions, CopyObject, CopySource, FinalizeObject, Reply, SessionCommand, SetObjectTags,
};
use ullage_model::fat::rows::ChunkRow;
use ullage_model::limits::CHUNK_BYTES_MIN;
use ullage_model::namespace::rows::{BucketDocumentKind, Etag, Metadata, VersionEntry};
use ullage_model::namespace::version;
use ullage_model::units::{frames, room, stored_bytes};

impl Cluster {
    /// Sends a chunk to as many of the masked vendors as the class wants copies. `None` if too few took it;
    /// those that did keep it until the lease closes.
    pub(super) fn send(&mut self, at: usize, (lease, mask): (u8, u8), bytes: u64) -> Option<ChunkRow> {
        let class = self.class();
        let wanted = class.copies as usize;
        // Some vendors do not cut as they are asked.
        let asked = if mask % 8 == 7 { 1 } else { class.pieces };
        let pieces = asked.min(u32::try_from(frames(bytes)).unwrap());
        let needed = room(bytes, pieces);
        let lease = self.roomy_lease(at, lease, (wanted, needed))?;
        let gateway = &mut self.gateways[at];
        let counter = gateway.chunks;
        gateway.chunks += 1;
        let mut takers = Vec::new();
        let start = usize::from(mask) % self.agents.len();
        for offset in 0..self.agents.len() {
            let number = (start + offset) % self.agents.len();
            let agent = &mut self.agents[number];
            let Some((granted, sent)) = gateway.grants.get_mut(&(lease, agent.vendor)) else {
                continue;
            };
            if takers.len() == wanted || *sent + needed > *granted {
                continue;
            }
            let mut row = chunk(lease, counter, bytes, &[agent.vendor]);
            let mut copy = row.copies.remove(0);
            copy.pieces = pieces;
            copy.device_class = agent.offer.device_class.to_owned();
            *sent += needed;
            if agent.store(row.copy_id(&copy), needed) {
                takers.push(copy);
            }
        }
        (takers.len() == wanted).then(|| ChunkRow {
            copies: takers,
            ..chunk(lease, counter, bytes, &[])
        })
    }

    pub(super) fn slice(&mut self, at: usize, (lease, mask): (u8, u8), chunks: u8) {
        let sent = (0..chunks).map_while(|_| self.send(at, (lease, mask), CHUNK_BYTES_MIN));
        let sent: Vec<ChunkRow> = sent.collect();
        if sent.is_empty() {
            return;
        }
        let count = u32::try_from(sent.len()).unwrap();
        let gateway = &self.gateways[at];
        let (first, bytes) = gateway.building;
        let command = self
            .world
            .slice(blob(gateway.session, gateway.blobs), first, sent);
        if self.submit(at, command) == Reply::Done {
            self.gateways[at].building = (first + count, bytes + u64::from(count) * CHUNK_BYTES_MIN);
        }
    }

    pub(super) fn abandon_blob(&mut self, at: usize) {
        let gateway = &self.gateways[at];
        let blob = blob(gateway.session, gateway.blobs);
        self.submit(at, SessionCommand::AbandonBlob { blob });
        self.next_blob(at);
    }

    pub(super) fn next_blob(&mut self, at: usize) {
        self.gateways[at].blobs += 1;
        self.gateways[at].building = (0, 0);
    }

    pub(super) fn finalize(&mut self, at: usize, sent: (u8, u8), bytes: u64, key: u8) {
        let body = self.body(at, sent, bytes);
        let is_empty = body == Body::Empty;
        if is_empty && !key.is_multiple_of(4) {
            return;
        }
        let command = self.finalize_object(body, key);
        if matches!(self.submit(at, command), Reply::Stored { .. }) && !is_empty {
            self.next_blob(at);
        }
    }

    /// The building blob with a last chunk, if vendors take it; `Empty` if there is neither.
    pub(super) fn body(&mut self, at: usize, sent: (u8, u8), bytes: u64) -> Body {
        let last = self.send(at, sent, bytes.min(CHUNK_BYTES_MIN));
        let gateway = &self.gateways[at];
        let (first, before) = gateway.building;
        let chunks: Vec<ChunkRow> = last.into_iter().collect();
        let plaintext_bytes = before + chunks.iter().map(|chunk| chunk.plaintext_bytes).sum::<u64>();
        if plaintext_bytes == 0 {
            return Body::Empty;
        }
        Body::Chunks {
            blob: blob(gateway.session, gateway.blobs),
            plaintext_bytes,
            chunk_bytes: CHUNK_BYTES_MIN,
            first,
            chunks,
            key: wrapped_key(),
            class: self.world.placed(),
        }
    }

    pub(super) fn inline(&mut self, at: usize, plaintext_bytes: u64, key: u8) {
        if self.gateways[at].building.0 > 0 {
            return;
        }
        let body = Body::Inline {
            blob: blob(self.gateways[at].session, self.gateways[at].blobs),
            plaintext_bytes,
            sealed: sealed(stored_bytes(plaintext_bytes)),
            key: wrapped_key(),
        };
        let command = self.finalize_object(body, key);
        self.submit(at, command);
        self.next_blob(at);
    }

    pub(super) fn finalize_object(&self, body: Body, key: u8) -> SessionCommand {
        SessionCommand::FinalizeObject(FinalizeObject {
            actor: ROOT,
            bucket: self.bucket,
            key: format!("key-{}", key % KEYS),
            conditions: Conditions::default(),
            random: 1,
            now: WallTime(self.world.index),
            etag: Etag::Md5([0; 16]),
            checksum: None,
            class: STANDARD.to_owned(),
            metadata: Metadata::default(),
            body,
        })
    }

    /// Copies what a key is now, or its oldest version; one that is not there must be refused.
    pub(super) fn copy(&mut self, at: usize, from: u8, to: u8) {
        let name = |key: u8| format!("key-{}", key % KEYS);
        let mut found = version::live(&self.world.rows, self.bucket.bucket, &name(from))
            .unwrap()
            .map(|live| live.version);
        let mut version = CopySource::Current(found.unwrap_or_default());
        if from % 2 == 1
            && let Some(oldest) = self.versions(from).pop()
        {
            found = matches!(oldest, VersionEntry::Object(_)).then_some(oldest.version());
            version = CopySource::Named(oldest.version());
        }
        let command = SessionCommand::CopyObject(CopyObject {
            actor: ROOT,
            source: self.bucket,
            source_key: name(from),
            version,
            target: self.bucket,
            key: name(to),
            conditions: Conditions::default(),
            random: 0,
            now: WallTime(0),
            metadata: Metadata::default(),
            checksum: None,
        });
        let reply = self.submit(at, command);
        if matches!(reply, Reply::Stored { .. }) {
            assert!(found.is_some(), "a copy of nothing");
        }
    }

    pub(super) fn tag(&mut self, at: usize, key: u8) {
        let name = format!("key-{}", key % KEYS);
        let found = version::live(&self.world.rows, self.bucket.bucket, &name).unwrap();
        let command = SessionCommand::SetObjectTags(SetObjectTags {
            actor: ROOT,
            bucket: self.bucket,
            key: name,
            version: None,
            seen: None,
            tags: vec![("key".to_owned(), key.to_string())],
        });
        match self.submit(at, command) {
            Reply::Changed { version, .. } => assert_eq!(found.map(|live| live.version), Some(version)),
            Reply::Refused(_) => {}
            reply => panic!("{reply:?}"),
        }
    }

    /// Sets a document of the bucket's settings, or deletes it, and takes over the settings as they are then.
    pub(super) fn document(&mut self, at: usize, kind: u8, bytes: u8) {
        let kinds = BucketDocumentKind::ALL;
        let command = SessionCommand::SetBucketDocument {
            actor: ROOT,
            bucket: self.bucket,
            kind: kinds[usize::from(kind) % kinds.len()],
            document: (bytes > 0).then(|| "d".repeat(bytes.into())),
        };
        self.submit(at, command);
        self.bucket = self.bucket_ref(self.bucket.bucket);
    }

    pub(super) fn delete(&mut self, at: usize, key: u8) {
        let command = self.deletion(key, None);
        self.submit(at, command);
    }
}
