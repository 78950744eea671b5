//! Multipart uploads among the random commands: begun, given parts, completed or not, aborted too late.

use super::{Cluster, KEYS, ROOT, pick};
use crate::support::STANDARD;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{
    Body, CompleteSlice, CompleteUpload, Conditions, FinalizePart, ListedPart, Reply, SessionCommand,
    UploadRef,
};
use ullage_model::ids::{ManifestId, SessionId};
use ullage_model::limits::{COMPLETED_UPLOAD_KEPT_MS, PART_BYTES_MIN};
use ullage_model::namespace::rows::{Etag, Metadata};
use ullage_model::rejection::Rejection;
use ullage_model::store::{Column, Direction, KeyRange, Read};

/// An upload as its gateways know it.
#[derive(Debug)]
pub(super) struct Upload {
    name: UploadRef,
    key: String,
    /// (entity tag, bytes) by number.
    parts: BTreeMap<u32, (Etag, u64)>,
    open: bool,
}

/// The session ended or its sequences are used up: nothing was decided.
fn is_not_decided(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Refused(Rejection::SessionGone | Rejection::WindowFull | Rejection::SequenceAbandoned(_))
    )
}

impl Cluster {
    pub(super) fn create_upload(&mut self, at: usize, key: u8) {
        let key = format!("key-{}", key % KEYS);
        let create = SessionCommand::CreateUpload {
            actor: ROOT,
            bucket: self.bucket,
            key: key.clone(),
            random: self.world.index,
            class: STANDARD.to_owned(),
            metadata: Metadata::default(),
            checksum: None,
            now: WallTime(self.world.index),
        };
        match self.submit(at, create) {
            Reply::Upload(name) => self.uploads.push(Upload {
                name,
                key,
                parts: BTreeMap::new(),
                open: true,
            }),
            reply => assert!(is_not_decided(&reply), "create upload: {reply:?}"),
        }
    }

    pub(super) fn part(&mut self, at: usize, (upload, part): (u8, u8), sent: (u8, u8), bytes: u64) {
        let Some(upload) = pick(&self.uploads, upload) else {
            return;
        };
        let body = self.body(at, sent, bytes);
        let bytes = match &body {
            Body::Chunks { plaintext_bytes, .. } => *plaintext_bytes,
            Body::Empty | Body::Inline { .. } => 0,
        };
        let (number, etag) = (
            u32::from(part) + 1,
            Etag::Md5(u128::from(self.world.index).to_be_bytes()),
        );
        let known = &self.uploads[upload];
        let finalize = SessionCommand::FinalizePart(FinalizePart {
            actor: ROOT,
            bucket: self.bucket,
            key: known.key.clone(),
            upload: known.name,
            number,
            now: WallTime(self.world.index),
            etag,
            checksum: None,
            body,
        });
        match self.submit(at, finalize) {
            Reply::Done => {
                assert!(self.uploads[upload].open, "a part after the end");
                self.uploads[upload].parts.insert(number, (etag, bytes));
                if bytes > 0 {
                    self.next_blob(at);
                }
            }
            Reply::Refused(Rejection::NoSuchUpload) => assert!(!self.uploads[upload].open),
            Reply::Stored { .. } => panic!("a part is no object"),
            _ => {}
        }
    }

    pub(super) fn complete(&mut self, at: usize, upload: u8, mask: u8, whole: bool) {
        let Some(upload) = pick(&self.uploads, upload) else {
            return;
        };
        let known = &self.uploads[upload];
        let listed: Vec<(u32, Etag, u64)> = known
            .parts
            .iter()
            .filter(|(number, _)| u32::from(mask) & (1 << (**number - 1)) != 0)
            .map(|(number, (etag, bytes))| (*number, *etag, *bytes))
            .collect();
        let (Some((_, others)), open) = (listed.split_last(), known.open) else {
            return;
        };
        let is_short = others.iter().any(|(_, _, bytes)| *bytes < PART_BYTES_MIN);
        let slice = SessionCommand::CompleteSlice(CompleteSlice {
            actor: ROOT,
            bucket: self.bucket,
            key: known.key.clone(),
            upload: known.name,
            manifest: None,
            parts: listed
                .iter()
                .map(|(number, etag, _)| list(*number, *etag))
                .collect(),
            last: true,
        });
        match self.submit(at, slice) {
            Reply::Manifest { manifest, parts } => {
                assert!(open && !is_short);
                assert!(
                    parts
                        .iter()
                        .map(|part| part.2)
                        .eq(listed.iter().map(|part| part.2))
                );
                if whole {
                    self.complete_whole(at, upload, manifest);
                }
            }
            Reply::AlreadyCompleted { .. } | Reply::Refused(Rejection::NoSuchUpload) => assert!(!open),
            Reply::Refused(Rejection::PartTooSmall { .. }) => assert!(is_short),
            reply => assert!(is_not_decided(&reply), "complete slice: {reply:?}"),
        }
    }

    fn complete_whole(&mut self, at: usize, upload: usize, manifest: ManifestId) {
        let known = &self.uploads[upload];
        let complete = SessionCommand::CompleteUpload(CompleteUpload {
            actor: ROOT,
            bucket: self.bucket,
            key: known.key.clone(),
            upload: known.name,
            manifest,
            conditions: Conditions::default(),
            random: 1,
            now: WallTime(self.world.index),
            etag: Etag::Multipart([0; 16], 1),
            checksum: None,
            expected_bytes: None,
        });
        match self.submit(at, complete) {
            Reply::Stored { .. } => self.uploads[upload].open = false,
            Reply::Refused(Rejection::QuotaExceeded) => {}
            reply => assert!(is_not_decided(&reply), "complete: {reply:?}"),
        }
    }

    fn abort(&self, upload: usize) -> SessionCommand {
        let known = &self.uploads[upload];
        SessionCommand::AbortUpload {
            actor: ROOT,
            bucket: self.bucket,
            key: known.key.clone(),
            upload: known.name,
        }
    }

    pub(super) fn abort_upload(&mut self, at: usize, upload: u8) {
        let Some(upload) = pick(&self.uploads, upload) else {
            return;
        };
        let abort = self.abort(upload);
        match self.submit(at, abort) {
            Reply::Done => assert!(std::mem::replace(&mut self.uploads[upload].open, false)),
            Reply::Refused(Rejection::NoSuchUpload) => assert!(!self.uploads[upload].open),
            reply => assert!(is_not_decided(&reply), "abort: {reply:?}"),
        }
    }

    /// Aborts what is still open.
    pub(super) fn abort_uploads(&mut self, session: SessionId) {
        for upload in 0..self.uploads.len() {
            let expected = match self.uploads[upload].open {
                true => Reply::Done,
                false => Reply::Refused(Rejection::NoSuchUpload),
            };
            let abort = self.abort(upload);
            assert_eq!(self.world.submit(session, abort), expected);
        }
    }

    /// Nothing is known of any upload a day after the last was completed.
    pub(super) fn completed_uploads_are_forgotten(&mut self) {
        self.world.pass(COMPLETED_UPLOAD_KEPT_MS);
        let mut left = 0;
        let count = &mut |_: &[u8], _: &[u8]| {
            left += 1;
            ControlFlow::Continue(())
        };
        let all = KeyRange::all();
        self.world
            .rows
            .scan(Column::Uploads, &all, Direction::Forward, count)
            .unwrap();
        assert_eq!(left, 0, "uploads are remembered");
    }
}

fn list(number: u32, etag: Etag) -> ListedPart {
    ListedPart {
        number,
        etag,
        checksum: None,
    }
}
