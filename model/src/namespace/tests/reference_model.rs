//! Random commands against a map of key to content: what is answered, what is stored, and that nothing is
//! left when everything was deleted. All invariants are checked after each command.

use super::world::{MIB, ROOT, World, covered, etag, listed};
use crate::command::{Command, Conditions, EtagMatch, Reply, SessionCommand, SetObjectTags, UploadRef};
use crate::ids::BlobId;
use crate::limits::PART_BYTES_MIN;
use crate::namespace::query;
use crate::namespace::rows::{BucketDocumentKind, BucketUsageRow, Etag};
use crate::rejection::Rejection;
use crate::store::Column;
use crate::wire::metad::{Answer, ByteRange, PageSize, Query};
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use proptest::{collection, prop_oneof, sample};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Condition {
    None,
    Absent,
    Present,
    Current,
    Other,
    NotCurrent,
}

#[derive(Clone, Debug)]
enum Op {
    Put(&'static str, u64, Condition),
    Delete(&'static str, Condition),
    Tag(&'static str, u8),
    /// From, to.
    Copy(&'static str, &'static str, Condition),
    CreateUpload(&'static str),
    Part(sample::Index, u32, u64),
    /// Parts are listed by the bits of a mask; completed, or left with a manifest half made.
    Complete(sample::Index, u8, Condition, bool),
    Abort(sample::Index),
    /// Sets a document of the bucket's settings, or deletes it.
    Document(BucketDocumentKind, Option<&'static str>),
    Slice(u64),
    AbandonBlob(sample::Index),
    NewSession,
    DrainStep,
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || sample::select(vec!["a", "a\0", "ä/b"]);
    let condition = || {
        use Condition::{Absent, Current, None, NotCurrent, Other, Present};
        sample::select(vec![
            None, None, None, Absent, Present, Current, Other, NotCurrent,
        ])
    };
    let size = sample::select(vec![0, 1, 4096, 4097, 4 * MIB, 9 * MIB, 300 * MIB]);
    let part_size = sample::select(vec![0, 1, PART_BYTES_MIN, 9 * MIB]);
    let upload = any::<sample::Index>;
    let document_kind = sample::select(BucketDocumentKind::ALL.to_vec());
    prop_oneof![
        4 => (key(), size, condition()).prop_map(|(key, size, condition)| Op::Put(key, size, condition)),
        2 => (key(), condition()).prop_map(|(key, condition)| Op::Delete(key, condition)),
        1 => (key(), 0..3_u8).prop_map(|(key, tags)| Op::Tag(key, tags)),
        4 => (key(), key(), condition()).prop_map(|(from, to, condition)| Op::Copy(from, to, condition)),
        2 => key().prop_map(Op::CreateUpload),
        6 => (upload(), 1..4_u32, part_size).prop_map(|(upload, number, size)| Op::Part(upload, number, size)),
        4 => (upload(), any::<u8>(), condition(), any::<bool>())
            .prop_map(|(upload, mask, condition, whole)| Op::Complete(upload, mask, condition, whole)),
        1 => upload().prop_map(Op::Abort),
        2 => (document_kind, sample::select(vec![None, Some("one"), Some("two")]))
            .prop_map(|(kind, document)| Op::Document(kind, document)),
        1 => (1..3_u64).prop_map(Op::Slice),
        1 => any::<sample::Index>().prop_map(Op::AbandonBlob),
        1 => sample::select(vec![Op::NewSession]),
        2 => sample::select(vec![Op::DrainStep]),
        1 => sample::select(vec![Op::Drain]),
    ]
}

struct Upload {
    key: &'static str,
    name: UploadRef,
    /// (tag, bytes) by number.
    parts: BTreeMap<u32, (u64, u64)>,
    open: bool,
}

/// What must be stored.
struct Model {
    world: World,
    objects: BTreeMap<&'static str, (Etag, u64)>,
    /// Tags of objects that have some.
    tags: BTreeMap<&'static str, Vec<(String, String)>>,
    uploads: Vec<Upload>,
    documents: BTreeMap<BucketDocumentKind, &'static str>,
    blobs: Vec<BlobId>,
    tag: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            world: World::new(),
            objects: BTreeMap::new(),
            tags: BTreeMap::new(),
            uploads: Vec::new(),
            documents: BTreeMap::new(),
            blobs: Vec::new(),
            tag: 0,
        }
    }

    fn tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    /// The condition as sent, and the refusal that must follow.
    fn condition(&self, key: &str, condition: Condition) -> (Conditions, Option<Rejection>) {
        let stored = self.objects.get(key).map(|(etag, _)| etag.to_string());
        let current = EtagMatch::OneOf(vec![stored.clone().unwrap_or_default()]);
        let (if_match, if_none_match) = match condition {
            Condition::None => (None, None),
            Condition::Absent => (None, Some(EtagMatch::Any)),
            Condition::Present => (Some(EtagMatch::Any), None),
            Condition::Current => (Some(current), None),
            Condition::Other => (Some(EtagMatch::OneOf(vec![etag(u64::MAX).to_string()])), None),
            Condition::NotCurrent => (None, Some(current)),
        };
        let refusal = match (condition, stored.is_some()) {
            (Condition::None, _)
            | (Condition::Absent | Condition::NotCurrent, false)
            | (Condition::Present | Condition::Current, true) => None,
            (Condition::Absent | Condition::NotCurrent | Condition::Other, true) => {
                Some(Rejection::PreconditionFailed)
            }
            (Condition::Present | Condition::Current | Condition::Other, false) => Some(Rejection::NoSuchKey),
        };
        let conditions = Conditions {
            if_match,
            if_none_match,
        };
        (conditions, refusal)
    }

    /// Submits a command that stores (etag, bytes) under `key` unless it must be refused.
    fn store(
        &mut self,
        key: &'static str,
        to_be: (Etag, u64),
        refusal: Option<Rejection>,
        command: SessionCommand,
    ) {
        match (self.world.submit(command), refusal) {
            (Reply::Stored { etag, .. }, None) => {
                assert_eq!(etag, to_be.0);
                self.objects.insert(key, to_be);
                self.tags.remove(key);
            }
            (Reply::Refused(got), Some(expected)) => assert_eq!(got, expected),
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Put(key, bytes, condition) => self.put(key, bytes, condition),
            Op::Delete(key, condition) => self.delete(key, condition),
            Op::Tag(key, tags) => self.set_tags(key, tags),
            Op::Copy(from, to, condition) => self.copy(from, to, condition),
            Op::CreateUpload(key) => {
                let name = self.world.upload(key);
                self.uploads.push(Upload {
                    key,
                    name,
                    parts: BTreeMap::new(),
                    open: true,
                });
            }
            Op::Part(upload, number, bytes) => self.part(upload, number, bytes),
            Op::Complete(upload, mask, condition, whole) => self.complete(upload, mask, condition, whole),
            Op::Abort(upload) => self.abort(upload),
            Op::Document(kind, document) => self.document(kind, document),
            Op::Slice(chunks) => {
                let blob = self.world.blob();
                let rows = self.world.chunk_rows(chunks * super::world::CHUNK);
                let slice = self.world.slice(blob, 0, rows);
                self.world.done(slice);
                self.blobs.push(blob);
            }
            Op::AbandonBlob(blob) if !self.blobs.is_empty() => {
                let blob = self.blobs.remove(blob.index(self.blobs.len()));
                self.world.done(SessionCommand::AbandonBlob { blob });
            }
            Op::AbandonBlob(_) => {}
            Op::NewSession => self.new_session(),
            Op::DrainStep => {
                self.world.run(&Command::DrainReleases);
            }
            Op::Drain => self.world.drain(),
        }
    }

    fn put(&mut self, key: &'static str, bytes: u64, condition: Condition) {
        let tag = self.tag();
        let body = self.world.body(bytes);
        let mut finalize = self.world.finalize(key, tag, body);
        let (conditions, refusal) = self.condition(key, condition);
        finalize.conditions = conditions;
        self.store(
            key,
            (etag(tag), bytes),
            refusal,
            SessionCommand::FinalizeObject(finalize),
        );
    }

    fn set_tags(&mut self, key: &'static str, count: u8) {
        let tags: Vec<_> = (0..count)
            .map(|n| (n.to_string(), self.tag.to_string()))
            .collect();
        let reply = self.world.submit(SessionCommand::SetObjectTags(SetObjectTags {
            actor: ROOT,
            bucket: self.world.bucket,
            key: key.to_owned(),
            version: None,
            tags: tags.clone(),
        }));
        if self.objects.contains_key(key) {
            assert!(matches!(reply, Reply::Changed { .. }), "{reply:?}");
            self.tags.insert(key, tags);
        } else {
            assert_eq!(reply, Reply::Refused(Rejection::NoSuchKey));
        }
    }

    fn copy(&mut self, from: &'static str, to: &'static str, condition: Condition) {
        let mut copy = self.world.copy(from, to);
        let (conditions, refusal) = self.condition(to, condition);
        copy.conditions = conditions;
        let source = self.objects.get(from).copied();
        let refusal = refusal.or(source.is_none().then_some(Rejection::SourceChanged));
        let to_be = source.unwrap_or((etag(0), 0));
        self.store(to, to_be, refusal, SessionCommand::CopyObject(copy));
    }

    fn delete(&mut self, key: &'static str, condition: Condition) {
        let (conditions, refusal) = self.condition(key, condition);
        let delete = SessionCommand::DeleteObject {
            actor: ROOT,
            bucket: self.world.bucket,
            key: key.to_owned(),
            conditions,
        };
        let expected = match refusal {
            Some(refusal) => Reply::Refused(refusal),
            None => {
                self.tags.remove(key);
                Reply::Deleted {
                    existed: self.objects.remove(key).is_some(),
                }
            }
        };
        assert_eq!(self.world.submit(delete), expected);
    }

    fn part(&mut self, upload: sample::Index, number: u32, bytes: u64) {
        if self.uploads.is_empty() {
            return;
        }
        let tag = self.tag();
        let index = upload.index(self.uploads.len());
        let upload = &mut self.uploads[index];
        let body = match bytes {
            0 => crate::command::Body::Empty,
            _ => self.world.chunked(bytes),
        };
        let part = self
            .world
            .finalize_part(upload.key, upload.name, number, tag, body);
        if upload.open {
            self.world.done(part);
            upload.parts.insert(number, (tag, bytes));
        } else {
            assert_eq!(self.world.refused(part), Rejection::NoSuchUpload);
        }
    }

    fn complete(&mut self, upload: sample::Index, mask: u8, condition: Condition, whole: bool) {
        if self.uploads.is_empty() {
            return;
        }
        let index = upload.index(self.uploads.len());
        let Upload { key, name, open, .. } = self.uploads[index];
        let parts: Vec<(u32, u64, u64)> = self.uploads[index]
            .parts
            .iter()
            .filter(|(number, _)| mask & (1 << **number) != 0)
            .map(|(number, (tag, bytes))| (*number, *tag, *bytes))
            .collect();
        let list: Vec<_> = parts
            .iter()
            .map(|(number, tag, _)| listed(*number, *tag))
            .collect();
        if !open || list.is_empty() {
            return;
        }
        let slice = self.world.complete_slice(key, name, None, &list, true);
        let short = parts[..parts.len() - 1]
            .iter()
            .find(|(_, _, bytes)| *bytes < PART_BYTES_MIN);
        if let Some(&(number, _, bytes)) = short {
            assert_eq!(
                self.world.refused(slice),
                Rejection::PartTooSmall { number, bytes }
            );
            return;
        }
        let Reply::Manifest { manifest, .. } = self.world.submit(slice) else {
            panic!("no manifest");
        };
        if !whole {
            return;
        }
        let tag = self.tag();
        let mut complete = self.world.complete_upload(key, name, manifest, tag);
        let (conditions, refusal) = self.condition(key, condition);
        complete.conditions = conditions;
        self.uploads[index].open = refusal.is_some();
        let to_be = (complete.etag, parts.iter().map(|(_, _, bytes)| bytes).sum());
        self.store(key, to_be, refusal, SessionCommand::CompleteUpload(complete));
    }

    fn abort(&mut self, upload: sample::Index) {
        if self.uploads.is_empty() {
            return;
        }
        let index = upload.index(self.uploads.len());
        let upload = &mut self.uploads[index];
        let abort = self.world.abort(upload.key, upload.name);
        if std::mem::replace(&mut upload.open, false) {
            self.world.done(abort);
        } else {
            assert_eq!(self.world.refused(abort), Rejection::NoSuchUpload);
        }
    }

    fn document(&mut self, kind: BucketDocumentKind, document: Option<&'static str>) {
        let set = self.world.document(kind, document);
        self.world.done(set);
        let before = match document {
            Some(text) => self.documents.insert(kind, text),
            None => self.documents.remove(&kind),
        };
        let (now, _) = self.world.bucket_named("first");
        assert_eq!(
            now == self.world.bucket,
            before == document,
            "settings change when a document does"
        );
        self.world.bucket = now;
    }

    fn new_session(&mut self) {
        let session = self.world.session;
        self.world.run(&Command::EndSession { session });
        while self.world.run(&Command::AbandonStep { session }) == (Reply::Progress { more: true }) {}
        self.blobs.clear();
        self.world.open_session();
    }

    /// What is stored is what must be.
    fn compare(&self) {
        for key in ["a", "a\0", "ä/b"] {
            let whole = ByteRange::From {
                first: 0,
                bytes: u64::MAX,
            };
            let bucket = self.world.bucket.bucket;
            let found = query::object(&self.world.rows, bucket, key, Some((whole, PageSize(64))));
            let found = found.expect("readable");
            let stored = found
                .as_ref()
                .map(|found| (found.version.etag, found.version.bytes));
            assert_eq!(stored, self.objects.get(key).copied());
            if let Some(found) = found {
                let tags = self.tags.get(key).cloned().unwrap_or_default();
                assert_eq!(found.version.metadata.tags, tags);
                let located = covered(0, &found.spans);
                assert!(located == found.version.bytes || found.spans.len() == 64);
            }
        }
        for kind in BucketDocumentKind::ALL {
            let bucket = self.world.bucket.bucket;
            let stored = self.world.ask(&Query::BucketDocument { bucket, kind });
            let expected = self.documents.get(&kind).map(|text| (*text).to_owned());
            assert_eq!(stored, Answer::BucketDocument(expected));
        }
        let usage = BucketUsageRow {
            objects: self.objects.len() as u64,
            bytes: self.objects.values().map(|(_, bytes)| bytes).sum(),
            uploads: self.uploads.iter().filter(|upload| upload.open).count() as u64,
        };
        assert_eq!(self.world.usage(), usage);
    }

    /// Deletes everything.
    fn end(mut self) {
        for upload in std::mem::take(&mut self.uploads) {
            if upload.open {
                let abort = self.world.abort(upload.key, upload.name);
                self.world.done(abort);
            }
        }
        for key in self.objects.keys() {
            assert!(self.world.delete(key));
        }
        self.new_session();
        self.world.drain();
        self.world.assert_nothing_stored();
        let remembered = self.world.keys(Column::Uploads);
        assert!(
            remembered.iter().all(|key| key[0] == b'u' || key[0] == b'd'),
            "parts are left"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn objects_are_what_a_map_says(ops in collection::vec(op(), 1..50)) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
            model.compare();
        }
        model.end();
    }
}
