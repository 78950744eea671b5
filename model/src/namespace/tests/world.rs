//! A cluster in memory for tests: three vendors, one session with a lease, one bucket; and short words for
//! what gateways send.

use crate::cluster_time::{ClusterTime, WallTime};
use crate::codec::{Versioned, encode};
use crate::command::{
    Actor, Body, BucketRef, Command, CompleteSlice, CompleteUpload, Conditions, CopyObject, CopyPart,
    CopySource, DeleteObject, FinalizeObject, FinalizePart, ListedPart, Reply, SessionCommand, SliceCommand,
    UploadRef,
};
use crate::decide::decide;
use crate::fat::query::ErasePermit;
use crate::fat::rows::{ChunkRow, ClassRow, CopyRow, CopyState, InlineRow};
use crate::ids::{
    BlobId, BucketId, ChunkId, ClusterId, CopyId, Digest, KekId, LeaseId, ManifestId, SessionId, VendorId,
    VersionId, VersionName,
};
use crate::invariants;
use crate::limits::CHUNKS_PER_SLICE;
use crate::namespace::query;
use crate::namespace::rows::{
    BucketDocumentKind, BucketRow, BucketUsageRow, Etag, Metadata, ROOT_USER, Versioning, WrappedKey,
};
use crate::rejection::Rejection;
use crate::step::At;
use crate::store::{Change, Column, Direction, KeyRange, Memory, Read};
use crate::units::stored_bytes;
use crate::wire::agent::{Characteristics, DeviceReport, DeviceState, RegisterRequest};
use crate::wire::chunk::PublicKey;
use crate::wire::metad::{Answer, Found, LocatedSpan, ObjectAnswer, Query};
use bytes::Bytes;
use std::ops::ControlFlow;

pub const MIB: u64 = 1024 * 1024;
pub const CHUNK: u64 = 4 * MIB;
pub const ROOT: Actor = Actor {
    user: ROOT_USER,
    settings_version: 0,
};

pub struct World {
    pub rows: Memory,
    pub at: At,
    pub session: SessionId,
    pub bucket: BucketRef,
    /// Changes of the command decided last.
    pub changes: Vec<Change>,
    /// Check the invariants after each command.
    pub checked: bool,
    lease: LeaseId,
    sequence: u64,
    blobs: u64,
    chunks: u32,
    copies: u64,
}

pub fn class() -> ClassRow {
    ClassRow {
        name: "STANDARD".to_owned(),
        copies: 2,
        zones: 1,
        device_class: None,
        max_price: None,
        chunk_bytes: CHUNK,
        pieces: 1,
        settings_version: 0,
    }
}

pub fn key() -> WrappedKey {
    WrappedKey {
        kek: KekId(u64::MAX),
        bytes: Bytes::from_static(&[7; 60]),
    }
}

/// An entity tag that tells contents apart.
pub fn etag(of: u64) -> Etag {
    let mut md5 = [0; 16];
    md5[..8].copy_from_slice(&of.to_be_bytes());
    Etag::Md5(md5)
}

/// An entity tag of a completed upload.
pub fn multipart_etag(of: u64) -> Etag {
    match etag(of) {
        Etag::Md5(md5) | Etag::Multipart(md5, _) => Etag::Multipart(md5, 1),
    }
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            rows: Memory::default(),
            at: At {
                index: 0,
                cluster_time: ClusterTime(0),
            },
            session: SessionId(0),
            bucket: BucketRef {
                bucket: BucketId(0),
                settings_version: 0,
            },
            changes: Vec::new(),
            checked: true,
            lease: LeaseId(0),
            sequence: 0,
            blobs: 0,
            chunks: 0,
            copies: 0,
        };
        world.run(&Command::Initialise {
            cluster: ClusterId(1),
            classes: vec![class()],
            inline: InlineRow {
                cap_bytes: 4096,
                budget_bytes: 1 << 20,
                used_bytes: 0,
            },
        });
        for vendor in 1..=3 {
            let reply = world.run(&Command::RegisterVendor(vendor_request(vendor)));
            assert_eq!(reply, Reply::Vendor(VendorId(u64::from(vendor))));
        }
        world.open_session();
        world.bucket = world.make_bucket("first");
        world
    }

    /// A fresh session with a lease.
    pub fn open_session(&mut self) {
        let gateway = "gateway".to_owned();
        match self.run(&Command::OpenSession { gateway, instance: 0 }) {
            Reply::Session(session) => self.session = session,
            other => panic!("no session: {other:?}"),
        }
        (self.sequence, self.blobs) = (0, 0);
        let rows = (1..=3)
            .map(|vendor| (VendorId(vendor), "hdd".to_owned(), 1 << 42))
            .collect();
        let allocate = SessionCommand::Allocate {
            class: "STANDARD".to_owned(),
            rows,
            duration_ms: 60_000,
        };
        match self.submit(allocate) {
            Reply::Lease { lease, .. } => (self.lease, self.chunks) = (lease, 0),
            other => panic!("no lease: {other:?}"),
        }
    }

    pub fn run(&mut self, command: &Command) -> Reply {
        self.at.index += 1;
        let decision =
            decide(&self.rows, self.at, command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.changes.clone_from(&decision.changes);
        self.rows.apply(decision.changes);
        if let Command::Tick { to } = command {
            self.at.cluster_time = *to;
        }
        if self.checked {
            self.check();
        }
        decision.reply
    }

    pub fn check(&self) {
        if let Err(error) = invariants::check(&self.rows) {
            panic!("after command {}: {error}", self.at.index);
        }
    }

    pub fn submit(&mut self, command: SessionCommand) -> Reply {
        self.sequence += 1;
        self.run(&Command::InSession {
            session: self.session,
            sequence: self.sequence,
            command,
        })
    }

    pub fn refused(&mut self, command: SessionCommand) -> Rejection {
        match self.submit(command) {
            Reply::Refused(rejection) => rejection,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn done(&mut self, command: SessionCommand) {
        assert_eq!(self.submit(command), Reply::Done);
    }

    /// Makes a row what no commands could make it in a test's time.
    pub fn set_row<T: Versioned>(&mut self, column: Column, key: Bytes, row: &T) {
        let value = Some(encode(row));
        self.rows.apply([Change { column, key, value }]);
    }

    pub fn make_bucket(&mut self, name: &str) -> BucketRef {
        let create = SessionCommand::CreateBucket {
            actor: ROOT,
            name: name.to_owned(),
            region: "us-east-1".to_owned(),
            access: crate::namespace::rows::BucketAccess::default(),
            now: WallTime(1),
        };
        match self.submit(create) {
            Reply::Bucket(bucket) => {
                let named = self.bucket_named(name).0;
                assert_eq!(named.bucket, bucket);
                named
            }
            other => panic!("no bucket: {other:?}"),
        }
    }

    /// The bucket as it is now, with the documents by which requests are judged.
    pub fn bucket_named(&self, name: &str) -> (BucketRef, Vec<(BucketDocumentKind, String)>) {
        match self.ask(&Query::Bucket(name.to_owned())) {
            Answer::Bucket(Some(found)) => {
                let BucketRow {
                    bucket,
                    settings_version,
                    ..
                } = found.row;
                let bucket = BucketRef {
                    bucket,
                    settings_version,
                };
                (bucket, found.documents)
            }
            other => panic!("no bucket: {other:?}"),
        }
    }

    /// Sets a document of the world's bucket, or deletes it.
    pub fn document(&self, kind: BucketDocumentKind, document: Option<&str>) -> SessionCommand {
        SessionCommand::SetBucketDocument {
            actor: ROOT,
            bucket: self.bucket,
            kind,
            document: document.map(str::to_owned),
        }
    }

    pub fn blob(&mut self) -> BlobId {
        self.blobs += 1;
        BlobId {
            session: self.session,
            counter: self.blobs,
        }
    }

    pub fn class_version(&self) -> (String, u64) {
        let row = crate::fat::query::class(&self.rows, "STANDARD").expect("readable");
        ("STANDARD".to_owned(), row.expect("there").settings_version)
    }

    pub fn chunk(&mut self, plaintext_bytes: u64) -> ChunkRow {
        self.chunks += 1;
        let copy = |vendor| CopyRow {
            vendor: VendorId(vendor),
            lease: self.lease,
            device_class: "hdd".to_owned(),
            pieces: 1,
            score: 1000,
            state: CopyState::Good,
        };
        let first = 1 + u64::from(self.chunks % 3);
        ChunkRow {
            chunk: ChunkId {
                lease: self.lease,
                counter: self.chunks,
            },
            plaintext_bytes,
            digest: Digest([9; 32]),
            copies: vec![copy(first), copy(1 + first % 3)],
        }
    }

    pub fn chunk_rows(&mut self, mut bytes: u64) -> Vec<ChunkRow> {
        let mut rows = Vec::new();
        while bytes > 0 {
            let len = bytes.min(CHUNK);
            rows.push(self.chunk(len));
            bytes -= len;
        }
        rows
    }

    pub fn slice(&mut self, blob: BlobId, first: u32, chunks: Vec<ChunkRow>) -> SessionCommand {
        SessionCommand::Slice(SliceCommand {
            blob,
            first,
            chunk_bytes: CHUNK,
            chunks,
            class: self.class_version(),
        })
    }

    pub fn last_chunks(&self, blob: BlobId, first: u32, chunks: Vec<ChunkRow>, bytes: u64) -> Body {
        Body::Chunks {
            blob,
            plaintext_bytes: bytes,
            chunk_bytes: CHUNK,
            first,
            chunks,
            key: key(),
            class: self.class_version(),
        }
    }

    /// A body of chunks; all but the last few are committed in slices.
    pub fn chunked(&mut self, bytes: u64) -> Body {
        let blob = self.blob();
        let mut chunks = self.chunk_rows(bytes);
        let mut first = 0;
        while chunks.len() > CHUNKS_PER_SLICE {
            let rest = chunks.split_off(CHUNKS_PER_SLICE);
            let slice = self.slice(blob, first, chunks);
            self.done(slice);
            chunks = rest;
            first += u32::try_from(CHUNKS_PER_SLICE).unwrap();
        }
        self.last_chunks(blob, first, chunks, bytes)
    }

    pub fn inline(&mut self, bytes: u64) -> Body {
        Body::Inline {
            blob: self.blob(),
            plaintext_bytes: bytes,
            sealed: Bytes::from(vec![1; usize::try_from(stored_bytes(bytes)).unwrap()]),
            key: key(),
        }
    }

    /// The body that a gateway would send: empty, inlined up to 4 KiB, else chunks.
    pub fn body(&mut self, bytes: u64) -> Body {
        match bytes {
            0 => Body::Empty,
            1..=4096 => self.inline(bytes),
            _ => self.chunked(bytes),
        }
    }

    pub fn finalize(&self, key: &str, tag: u64, body: Body) -> FinalizeObject {
        FinalizeObject {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            conditions: Conditions::default(),
            random: tag,
            now: WallTime(tag),
            etag: etag(tag),
            checksum: None,
            class: "STANDARD".to_owned(),
            metadata: Metadata::default(),
            body,
        }
    }

    pub fn put(&mut self, key: &str, tag: u64, bytes: u64) -> VersionId {
        let body = self.body(bytes);
        let finalize = self.finalize(key, tag, body);
        self.stored(SessionCommand::FinalizeObject(finalize))
    }

    pub fn stored(&mut self, command: SessionCommand) -> VersionId {
        match self.submit(command) {
            Reply::Stored { version, .. } => version,
            other => panic!("not stored: {other:?}"),
        }
    }

    /// A copy of what `from` is now, in the same bucket.
    pub fn copy(&mut self, from: &str, to: &str) -> CopyObject {
        let version = self.object(from).map(|found| found.version.version);
        self.copy_of(from, CopySource::Current(version.unwrap_or_default()), to)
    }

    /// A copy of a version of `from`, in the same bucket.
    pub fn copy_of(&mut self, from: &str, version: CopySource, to: &str) -> CopyObject {
        self.copies += 1;
        CopyObject {
            actor: ROOT,
            source: self.bucket,
            source_key: from.to_owned(),
            version,
            target: self.bucket,
            key: to.to_owned(),
            conditions: Conditions::default(),
            random: self.copies,
            now: WallTime(self.copies),
            metadata: Metadata::default(),
            checksum: None,
        }
    }

    /// A copy of `bytes` bytes from `first` on of what `from` is now, to be a part of an upload in the same bucket.
    pub fn copy_part(
        &self,
        (from, first, bytes): (&str, u64, u64),
        (key, upload): (&str, UploadRef),
        number: u32,
        tag: u64,
    ) -> CopyPart {
        let version = self.object(from).map(|found| found.version.version);
        CopyPart {
            actor: ROOT,
            source: self.bucket,
            source_key: from.to_owned(),
            version: CopySource::Current(version.unwrap_or_default()),
            first,
            bytes,
            target: self.bucket,
            key: key.to_owned(),
            upload,
            number,
            now: WallTime(1),
            etag: etag(tag),
            checksum: None,
        }
    }

    pub fn delete(&mut self, key: &str) -> bool {
        let delete = self.deletion(key, None);
        match self.submit(SessionCommand::DeleteObject(delete)) {
            Reply::Deleted { existed, .. } => existed,
            other => panic!("not deleted: {other:?}"),
        }
    }

    pub fn deletion(&self, key: &str, version: Option<VersionName>) -> DeleteObject {
        DeleteObject {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            version,
            conditions: Conditions::default(),
            random: self.at.index,
            now: WallTime(self.at.index),
        }
    }

    /// Switches versioning of the bucket.
    pub fn set_versioning(&mut self, versioning: Versioning) {
        self.done(SessionCommand::SetVersioning {
            actor: ROOT,
            bucket: self.bucket,
            versioning,
        });
        let row = crate::namespace::bucket::by_name(&self.rows, "first").expect("readable");
        self.bucket.settings_version = row.expect("there").settings_version;
    }

    pub fn upload(&mut self, key: &str) -> UploadRef {
        let create = SessionCommand::CreateUpload {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            random: 77,
            class: "STANDARD".to_owned(),
            metadata: Metadata::default(),
            checksum: None,
            now: WallTime(1),
        };
        match self.submit(create) {
            Reply::Upload(upload) => upload,
            other => panic!("no upload: {other:?}"),
        }
    }

    pub fn finalize_part(
        &self,
        key: &str,
        upload: UploadRef,
        number: u32,
        tag: u64,
        body: Body,
    ) -> SessionCommand {
        SessionCommand::FinalizePart(FinalizePart {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            upload,
            number,
            now: WallTime(1),
            etag: etag(tag),
            checksum: None,
            body,
        })
    }

    /// Uploads a part and answers how a complete lists it.
    pub fn part(&mut self, key: &str, upload: UploadRef, number: u32, tag: u64, bytes: u64) -> ListedPart {
        let body = if bytes == 0 {
            Body::Empty
        } else {
            self.chunked(bytes)
        };
        let part = self.finalize_part(key, upload, number, tag, body);
        self.done(part);
        listed(number, tag)
    }

    pub fn complete_slice(
        &self,
        key: &str,
        upload: UploadRef,
        manifest: Option<ManifestId>,
        parts: &[ListedPart],
        last: bool,
    ) -> SessionCommand {
        SessionCommand::CompleteSlice(CompleteSlice {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            upload,
            manifest,
            parts: parts.to_vec(),
            last,
        })
    }

    pub fn complete_upload(
        &self,
        key: &str,
        upload: UploadRef,
        manifest: ManifestId,
        tag: u64,
    ) -> CompleteUpload {
        CompleteUpload {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            upload,
            manifest,
            conditions: Conditions::default(),
            random: tag,
            now: WallTime(tag),
            etag: multipart_etag(tag),
            checksum: None,
            expected_bytes: None,
        }
    }

    pub fn begin_complete(&mut self, key: &str, upload: UploadRef, parts: &[ListedPart]) -> ManifestId {
        let slice = self.complete_slice(key, upload, None, parts, true);
        match self.submit(slice) {
            Reply::Manifest { manifest, .. } => manifest,
            other => panic!("no manifest: {other:?}"),
        }
    }

    pub fn complete(&mut self, key: &str, upload: UploadRef, parts: &[ListedPart], tag: u64) -> VersionId {
        let manifest = self.begin_complete(key, upload, parts);
        let complete = self.complete_upload(key, upload, manifest, tag);
        self.stored(SessionCommand::CompleteUpload(complete))
    }

    pub fn abort(&self, key: &str, upload: UploadRef) -> SessionCommand {
        SessionCommand::AbortUpload {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            upload,
        }
    }

    pub fn ask(&self, query: &Query) -> Answer {
        query::answer(&self.rows, query).unwrap_or_else(|error| panic!("{query:?}: {error}"))
    }

    pub fn object(&self, key: &str) -> Option<ObjectAnswer> {
        match self.found(key, None) {
            Found::Object(object) => Some(*object),
            Found::Nothing | Found::DeleteMarker(_) => None,
        }
    }

    /// What is under a key, or under a version's name.
    pub fn found(&self, key: &str, version: Option<VersionName>) -> Found {
        query::object(&self.rows, self.bucket.bucket, key, version, None).expect("readable")
    }

    pub fn usage(&self) -> BucketUsageRow {
        let Answer::Usage(usage) = self.ask(&Query::Usage(vec![self.bucket.bucket])) else {
            panic!("no usage")
        };
        let [usage] = usage[..] else { panic!("{usage:?}") };
        usage
    }

    pub fn count(&self, column: Column) -> usize {
        self.keys(column).len()
    }

    pub fn keys(&self, column: Column) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let read = self
            .rows
            .scan(column, &KeyRange::all(), Direction::Forward, &mut |key, _| {
                keys.push(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            });
        read.expect("readable");
        keys
    }

    /// Drains all releases and has vendors erase everything they are told to.
    pub fn drain(&mut self) {
        while self.run(&Command::DrainReleases {
            permit: ErasePermit::ALL,
        }) == (Reply::Progress { more: true })
        {}
        let orders: Vec<(VendorId, u64, CopyId)> = self
            .keys(Column::EraseOrders)
            .iter()
            .map(|key| {
                let number = |at: usize| u64::from_be_bytes(key[at..at + 8].try_into().expect("a number"));
                let copy = key[16..].try_into().expect("a copy");
                (VendorId(number(0)), number(8), CopyId::from_bytes(copy))
            })
            .collect();
        for orders in orders.chunk_by(|a, b| a.0 == b.0) {
            for batch in orders.chunks(crate::limits::COPIES_PER_BATCH) {
                let copies = batch.iter().map(|(_, index, copy)| (*index, *copy)).collect();
                let vendor = batch[0].0;
                let reply = self.run(&Command::AcknowledgeErased { vendor, copies });
                assert_eq!(reply, Reply::Done);
            }
        }
    }

    /// Nothing is stored any more, anywhere.
    pub fn assert_nothing_stored(&self) {
        for column in [
            Column::Chunks,
            Column::Copies,
            Column::Blobs,
            Column::Releases,
            Column::EraseOrders,
            Column::Live,
            Column::Versions,
            Column::Manifests,
            Column::Inline,
        ] {
            assert_eq!(self.count(column), 0, "rows are left in {}", column.name());
        }
    }
}

pub fn listed(number: u32, tag: u64) -> ListedPart {
    ListedPart {
        number,
        etag: etag(tag),
        checksum: None,
    }
}

/// Spans without gaps from `first`: how many bytes they cover.
pub fn covered(first: u64, spans: &[LocatedSpan]) -> u64 {
    let mut at = first;
    for span in spans {
        assert_eq!(span.offset, at, "a gap");
        assert!(span.bytes > 0);
        at += span.bytes;
    }
    at - first
}

fn vendor_request(vendor: u8) -> RegisterRequest {
    RegisterRequest {
        public_key: PublicKey([vendor; 32]),
        name: format!("vendor{vendor}"),
        characteristics: Characteristics {
            zone: format!("zone{vendor}"),
            ..Characteristics::default()
        },
        devices: vec![DeviceReport {
            device: crate::ids::DeviceId(0),
            class: "hdd".to_owned(),
            capacity: 1 << 50,
            free: 1 << 50,
            state: DeviceState::Healthy,
        }],
    }
}
