//! Random commands against a map of key to versions, while versioning is switched on and off: what is answered, what
//! is stored, what listings show, and that nothing is left when everything was deleted. All invariants are checked
//! after each command.

mod compare;
mod quota;

use super::world::{MIB, ROOT, World, etag, listed};
use crate::command::{
    Command, Conditions, CopySource, DeleteObject, EtagMatch, Reply, SessionCommand, SetObjectTags, UploadRef,
};
use crate::fat::query::ErasePermit;
use crate::ids::{BlobId, VersionId, VersionName};
use crate::limits::PART_BYTES_MIN;
use crate::namespace::rows::{BucketDocumentKind, Etag, Quota, Versioning};
use crate::rejection::Rejection;
use crate::store::Column;
use crate::wire::metad::{Answer, Query};
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
    /// Replaces the tags of a version, or of what is current.
    Tag(&'static str, sample::Index, u8),
    DeleteVersion(&'static str, sample::Index),
    /// From, to.
    Copy(&'static str, &'static str, Condition),
    CopyVersion(&'static str, sample::Index, &'static str),
    SetVersioning(Versioning),
    SetQuota(Quota),
    CreateUpload(&'static str),
    Part(sample::Index, u32, u64),
    /// From, tenths of the source before the range and in it, upload, number.
    CopyPart(&'static str, u8, u8, sample::Index, u32),
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
    let version = any::<sample::Index>;
    let document_kind = sample::select(BucketDocumentKind::ALL.to_vec());
    prop_oneof![
        4 => (key(), size, condition()).prop_map(|(key, size, condition)| Op::Put(key, size, condition)),
        3 => (key(), condition()).prop_map(|(key, condition)| Op::Delete(key, condition)),
        2 => (key(), version(), 0..3_u8).prop_map(|(key, version, tags)| Op::Tag(key, version, tags)),
        4 => (key(), version()).prop_map(|(key, version)| Op::DeleteVersion(key, version)),
        2 => (key(), version(), key()).prop_map(|(from, version, to)| Op::CopyVersion(from, version, to)),
        1 => (sample::select(vec![None, Some(5 * MIB), Some(40 * MIB)]), sample::select(vec![None, Some(2), Some(9)]))
            .prop_map(|(bytes, objects)| Op::SetQuota(Quota { bytes, objects })),
        2 => sample::select(vec![Versioning::Enabled, Versioning::Suspended]).prop_map(Op::SetVersioning),
        4 => (key(), key(), condition()).prop_map(|(from, to, condition)| Op::Copy(from, to, condition)),
        2 => key().prop_map(Op::CreateUpload),
        6 => (upload(), 1..4_u32, part_size).prop_map(|(upload, number, size)| Op::Part(upload, number, size)),
        4 => (key(), 0..6_u8, 1..11_u8, upload(), 1..4_u32)
            .prop_map(|(from, before, within, upload, number)| Op::CopyPart(from, before, within, upload, number)),
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

/// A version, or a delete marker.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kept {
    name: VersionName,
    id: VersionId,
    object: Option<(Etag, u64)>,
}

const KEYS: [&str; 3] = ["a", "a\0", "ä/b"];

/// What must be stored.
struct Model {
    world: World,
    versioning: Versioning,
    /// By key, newest first.
    keys: BTreeMap<&'static str, Vec<Kept>>,
    /// Tags of versions that have some.
    tags: BTreeMap<VersionId, Vec<(String, String)>>,
    uploads: Vec<Upload>,
    documents: BTreeMap<BucketDocumentKind, &'static str>,
    quota: Quota,
    blobs: Vec<BlobId>,
    tag: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            world: World::new(),
            versioning: Versioning::Off,
            keys: KEYS.map(|key| (key, Vec::new())).into(),
            tags: BTreeMap::new(),
            uploads: Vec::new(),
            documents: BTreeMap::new(),
            quota: Quota::default(),
            blobs: Vec::new(),
            tag: 0,
        }
    }

    fn tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    fn current(&self, key: &str) -> Option<(Etag, u64)> {
        self.keys[key].first().and_then(|kept| kept.object)
    }

    /// Puts what a command made in front of a key's versions.
    fn keep(&mut self, key: &'static str, id: VersionId, object: Option<(Etag, u64)>) -> VersionName {
        let kept = self.keys.entry(key).or_default();
        let name = if self.versioning == Versioning::Enabled {
            VersionName::Id(id)
        } else {
            kept.retain(|kept| kept.name != VersionName::Null);
            VersionName::Null
        };
        kept.insert(0, Kept { name, id, object });
        name
    }

    /// The condition as sent, and the refusal that must follow.
    fn condition(&self, key: &str, condition: Condition) -> (Conditions, Option<Rejection>) {
        let stored = self.current(key).map(|(etag, _)| etag.to_string());
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

    /// Submits a command that stores (etag, bytes) under `key` unless it must be refused. Answers whether it did.
    fn store(
        &mut self,
        key: &'static str,
        to_be: (Etag, u64),
        refusal: Option<Rejection>,
        command: SessionCommand,
    ) -> bool {
        let refusal = refusal.or_else(|| {
            self.exceeds(key, to_be, &command)
                .then_some(Rejection::QuotaExceeded)
        });
        match (self.world.submit(command), refusal) {
            (
                Reply::Stored {
                    version, name, etag, ..
                },
                None,
            ) => {
                assert_eq!(etag, to_be.0);
                let kept = self.keep(key, version, Some(to_be));
                assert_eq!(name, (self.versioning != Versioning::Off).then_some(kept));
                true
            }
            (Reply::Refused(got), Some(expected)) => {
                assert_eq!(got, expected);
                false
            }
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Put(key, bytes, condition) => self.put(key, bytes, condition),
            Op::Delete(key, condition) => self.delete(key, condition),
            Op::Tag(key, version, tags) => self.set_tags(key, version, tags),
            Op::DeleteVersion(key, version) => self.delete_version(key, version),
            Op::Copy(from, to, condition) => self.copy(from, to, condition),
            Op::CopyVersion(from, version, to) => self.copy_version(from, version, to),
            Op::SetVersioning(versioning) => {
                self.world.set_versioning(versioning);
                self.versioning = versioning;
            }
            Op::SetQuota(quota) => {
                let bucket = self.world.bucket.bucket;
                self.world.done(SessionCommand::SetBucketQuota { bucket, quota });
                self.world.bucket = self.world.bucket_named("first").0;
                self.quota = quota;
            }
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
            Op::CopyPart(from, before, within, upload, number) => {
                self.copy_part(from, (before, within), upload, number);
            }
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
                self.world.run(&Command::DrainReleases {
                    permit: ErasePermit::ALL,
                });
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

    fn set_tags(&mut self, key: &'static str, version: sample::Index, count: u8) {
        let tags: Vec<_> = (0..count)
            .map(|n| (n.to_string(), self.tag.to_string()))
            .collect();
        let named = self.any_version(key, version);
        let (version, kept) = if named.id == VersionId::default() {
            (None, self.keys[key].first().copied())
        } else {
            (Some(named.name), Some(named))
        };
        let reply = self.world.submit(SessionCommand::SetObjectTags(SetObjectTags {
            actor: ROOT,
            bucket: self.world.bucket,
            key: key.to_owned(),
            version,
            seen: None,
            tags: tags.clone(),
        }));
        let expected = match (kept, version) {
            (
                Some(Kept {
                    id,
                    name,
                    object: Some(_),
                }),
                _,
            ) => {
                self.tags.insert(id, tags);
                Reply::Changed {
                    version: id,
                    name: (self.versioning != Versioning::Off).then_some(name),
                }
            }
            (_, None) => Reply::Refused(Rejection::NoSuchKey),
            (_, Some(_)) => Reply::Refused(Rejection::DeleteMarker),
        };
        assert_eq!(reply, expected);
    }

    fn copy(&mut self, from: &'static str, to: &'static str, condition: Condition) {
        let mut copy = self.world.copy(from, to);
        let (conditions, refusal) = self.condition(to, condition);
        copy.conditions = conditions;
        let source = self.current(from);
        let refusal = refusal.or(source.is_none().then_some(Rejection::SourceChanged));
        let to_be = source.unwrap_or((etag(0), 0));
        self.store(to, to_be, refusal, SessionCommand::CopyObject(copy));
    }

    /// Copies any version, or what is none.
    fn copy_version(&mut self, from: &'static str, version: sample::Index, to: &'static str) {
        let kept = self.any_version(from, version);
        let copy = self.world.copy_of(from, CopySource::Named(kept.id), to);
        let refusal = kept.object.is_none().then_some(Rejection::SourceChanged);
        let to_be = kept.object.unwrap_or((etag(0), 0));
        self.store(to, to_be, refusal, SessionCommand::CopyObject(copy));
    }

    /// Any version or delete marker of a key, or one that it has not.
    fn any_version(&self, key: &str, version: sample::Index) -> Kept {
        let id = VersionId::default();
        let absent = Kept {
            name: VersionName::Id(id),
            id,
            object: None,
        };
        let kept = &self.keys[key];
        let at = version.index(kept.len() + 1);
        kept.get(at).copied().unwrap_or(absent)
    }

    fn delete(&mut self, key: &'static str, condition: Condition) {
        let (conditions, refusal) = self.condition(key, condition);
        let delete = DeleteObject {
            conditions,
            ..self.world.deletion(key, None)
        };
        let random = delete.random;
        let reply = self.world.submit(SessionCommand::DeleteObject(delete));
        if let Some(refusal) = refusal {
            assert_eq!(reply, Reply::Refused(refusal));
            return;
        }
        let existed = self.current(key).is_some();
        let version = match self.versioning {
            Versioning::Off => {
                self.keys.insert(key, Vec::new());
                None
            }
            Versioning::Enabled | Versioning::Suspended => {
                let order = self.world.at.index;
                Some(self.keep(key, VersionId { order, random }, None))
            }
        };
        let expected = Reply::Deleted {
            existed,
            version,
            delete_marker: version.is_some(),
        };
        assert_eq!(reply, expected);
    }

    /// Deletes any version, or one that is not there, for good.
    fn delete_version(&mut self, key: &'static str, version: sample::Index) {
        let kept = self.any_version(key, version);
        let versions = self.keys.entry(key).or_default();
        let before = versions.len();
        versions.retain(|other| other.name != kept.name);
        let existed = versions.len() < before;
        let delete = self.world.deletion(key, Some(kept.name));
        let expected = Reply::Deleted {
            existed,
            version: Some(kept.name),
            delete_marker: existed && kept.object.is_none(),
        };
        assert_eq!(self.world.submit(SessionCommand::DeleteObject(delete)), expected);
    }

    fn part(&mut self, upload: sample::Index, number: u32, bytes: u64) {
        if self.uploads.is_empty() {
            return;
        }
        let tag = self.tag();
        let index = upload.index(self.uploads.len());
        let upload = &self.uploads[index];
        let body = match bytes {
            0 => crate::command::Body::Empty,
            _ => self.world.chunked(bytes),
        };
        let part = self
            .world
            .finalize_part(upload.key, upload.name, number, tag, body);
        if !upload.open {
            assert_eq!(self.world.refused(part), Rejection::NoSuchUpload);
        } else if self.exceeds_with_part(index, number, bytes) {
            assert_eq!(self.world.refused(part), Rejection::QuotaExceeded);
        } else {
            self.world.done(part);
            self.uploads[index].parts.insert(number, (tag, bytes));
        }
    }

    fn copy_part(
        &mut self,
        from: &'static str,
        (before, within): (u8, u8),
        upload: sample::Index,
        number: u32,
    ) {
        if self.uploads.is_empty() {
            return;
        }
        let tag = self.tag();
        let index = upload.index(self.uploads.len());
        let Upload { key, name, open, .. } = self.uploads[index];
        let source = self.current(from);
        let whole = source.map_or(0, |(_, bytes)| bytes);
        let first = whole / 10 * u64::from(before);
        let bytes = (whole / 10 * u64::from(within)).max(1).min(whole - first);
        let part = self
            .world
            .copy_part((from, first, bytes), (key, name), number, tag);
        // Parts are never inlined, and neither is what is made of them.
        let inlined =
            source.is_some_and(|(etag, bytes)| matches!(etag, Etag::Md5(_)) && (1..=4096).contains(&bytes));
        let exceeds = self.exceeds_with_part(index, number, bytes);
        match self.world.submit(SessionCommand::CopyPart(part)) {
            Reply::Done => {
                assert!(open && source.is_some() && !inlined && !exceeds);
                self.uploads[index].parts.insert(number, (tag, bytes));
            }
            Reply::Refused(Rejection::NoSuchUpload) => assert!(!open),
            Reply::Refused(Rejection::SourceChanged) => assert!(source.is_none()),
            Reply::Refused(Rejection::Invalid(_)) => assert!(inlined),
            Reply::Refused(Rejection::QuotaExceeded) => assert!(exceeds),
            other => panic!("{other:?}"),
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
        let count = u32::try_from(parts.len()).expect("a few");
        complete.etag = Etag::Multipart([7; 16], count);
        let (conditions, refusal) = self.condition(key, condition);
        complete.conditions = conditions;
        let to_be = (complete.etag, parts.iter().map(|(_, _, bytes)| bytes).sum());
        let stored = self.store(key, to_be, refusal, SessionCommand::CompleteUpload(complete));
        self.uploads[index].open = !stored;
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
        for kind in BucketDocumentKind::ALL {
            let bucket = self.world.bucket.bucket;
            let stored = self.world.ask(&Query::BucketDocument { bucket, kind });
            let expected = self.documents.get(&kind).map(|text| (*text).to_owned());
            assert_eq!(stored, Answer::BucketDocument(expected));
        }
        for (key, versions) in &self.keys {
            self.compare_found(key, None, versions.first());
            for kept in versions {
                self.compare_found(key, Some(kept.name), Some(kept));
                if kept.name == VersionName::Null {
                    self.compare_found(key, Some(VersionName::Id(kept.id)), None);
                }
            }
            if !versions.iter().any(|kept| kept.name == VersionName::Null) {
                self.compare_found(key, Some(VersionName::Null), None);
            }
        }
        self.compare_listings();
        assert_eq!(self.world.usage(), self.counted());
    }

    /// Deletes everything.
    fn end(mut self) {
        for upload in std::mem::take(&mut self.uploads) {
            if upload.open {
                let abort = self.world.abort(upload.key, upload.name);
                self.world.done(abort);
            }
        }
        for (key, versions) in std::mem::take(&mut self.keys) {
            for kept in versions {
                let delete = self.world.deletion(key, Some(kept.name));
                let reply = self.world.submit(SessionCommand::DeleteObject(delete));
                assert!(matches!(reply, Reply::Deleted { existed: true, .. }));
            }
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
