//! A directory device by itself: segments in order, and large records beside small ones.

use super::super::record::{PieceHeader, RecordBody};
use super::*;
use std::os::unix::fs::FileExt as _;
use ullage_model::ids::{ChunkId, CopyId, Digest, Epoch, LeaseId, SessionId};

fn new_device(home: &Path) -> DirectoryDevice {
    let marker = DeviceMarker {
        format: data_dir::FORMAT,
        device: DeviceId(0),
        vendor_key: String::new(),
    };
    let mut options = DirectoryOptions::new(home.join("device"), marker, true, 1 << 30);
    options.segment_bytes = SEGMENT_BYTES_MIN;
    DirectoryDevice::open(options).unwrap()
}

/// A record of about 25 bytes per copy.
fn record(copies: usize) -> Record {
    let chunk = ChunkId {
        lease: LeaseId(u64::MAX),
        counter: u32::MAX,
    };
    let lease = chunk.lease;
    Record {
        epoch: Epoch::default(),
        body: RecordBody::Kept(vec![CopyId { chunk, lease }; copies]),
    }
}

fn names(device: &DirectoryDevice) -> Vec<String> {
    let entries = std::fs::read_dir(&device.segments_path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_segment_has_no_successor_before_it_is_complete_on_the_medium() {
    let home = tempfile::tempdir().unwrap();
    let device = new_device(home.path());
    device.put_batch(&[record(1)], Purpose::Upkeep).unwrap();
    let first = segment::file_name(1);
    assert_eq!(names(&device), std::slice::from_ref(&first));
    // The first cannot be completed any more: its file takes no writes.
    let path = device.segments_path.join(&first);
    lock(&device.active).as_mut().unwrap().to.file = Arc::new(File::open(path).unwrap());
    let batch: Vec<Record> = (0..8).map(|_| record(10_000)).collect();
    let failed = device.put_batch(&batch, Purpose::Upkeep);
    assert!(matches!(failed, Err(DeviceError::Poisoned { .. })), "{failed:?}");
    assert_eq!(names(&device), [first]);
}

#[test]
fn a_batch_goes_on_in_the_next_segment_and_leaves_nothing_unfinished() {
    let home = tempfile::tempdir().unwrap();
    let device = new_device(home.path());
    let batch: Vec<Record> = (0..12).map(|_| record(10_000)).collect();
    let durable = device.put_batch(&batch, Purpose::Upkeep).unwrap();
    assert!(durable.end.segment >= 3, "{durable:?}");
    let expected: Vec<String> = (1..=durable.end.segment).map(segment::file_name).collect();
    assert_eq!(names(&device), expected);
    let mut found = Vec::new();
    let each = &mut |scanned: Scanned| {
        found.push(scanned.location);
        Ok(())
    };
    device.scan(None, each).unwrap();
    assert_eq!(found, durable.locations);
}

#[test]
fn the_id_of_a_segment_that_the_index_has_seen_does_not_come_back() {
    let home = tempfile::tempdir().unwrap();
    let device = new_device(home.path());
    let indexed = Position {
        segment: 6,
        offset: 800,
    };
    device.scan(Some(indexed), &mut |_| Ok(())).unwrap();
    let durable = device.put_batch(&[record(0)], Purpose::Upkeep).unwrap();
    assert_eq!(durable.end.segment, 7);
}

/// A piece of `bytes` bytes that follow from `seed`. Its checksums are nobody's concern here.
fn piece(seed: u32, bytes: usize) -> (Record, Bytes) {
    let chunk = ChunkId {
        lease: LeaseId(1),
        counter: seed,
    };
    let header = PieceHeader {
        copy: CopyId {
            chunk,
            lease: LeaseId(1),
        },
        piece: 0,
        pieces: 1,
        first_frame: 0,
        frames: 1,
        plaintext_bytes: 1,
        digest: Digest::default(),
        session: SessionId::default(),
    };
    let mut word = seed;
    let content: Vec<u8> = (0..bytes)
        .map(|_| {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            word.to_be_bytes()[0]
        })
        .collect();
    let content = Bytes::from(content);
    // Slices of odd lengths, as they come from the network.
    let slices = (0..bytes)
        .step_by(40_961)
        .map(|at| content.slice(at..bytes.min(at + 40_961)));
    let record = Record {
        epoch: Epoch::default(),
        body: RecordBody::Piece(header, slices.collect()),
    };
    (record, content)
}

/// Puts batches of the given sizes, reading everything after each, and once more after a restart.
fn put_and_read(device: DirectoryDevice, batches: &[&[usize]]) {
    let mut stored: Vec<(Location, Bytes)> = Vec::new();
    let check = |device: &DirectoryDevice, stored: &[(Location, Bytes)]| {
        for (location, content) in stored {
            let at = u64::from(location.offset) + HEADER_BYTES as u64;
            let read = device.read(location.segment, at, content.len(), Wait::ForMedium);
            assert!(read.unwrap() == content, "{location}");
        }
    };
    for batch in batches {
        let first = u32::try_from(stored.len()).unwrap();
        let (records, contents): (Vec<Record>, Vec<Bytes>) = (first..)
            .zip(*batch)
            .map(|(seed, bytes)| piece(seed, *bytes))
            .unzip();
        let durable = device.put_batch(&records, Purpose::Store).unwrap();
        stored.extend(durable.locations.into_iter().zip(contents));
        check(&device, &stored);
    }
    let mut options = device.options.clone();
    options.is_new = false;
    drop(device);
    let device = DirectoryDevice::open(options).unwrap();
    check(&device, &stored);
}

/// Small, aligned and large ones, so that every kind follows every other, longer than what is put together for one
/// call, and over the ends of segments.
const SIZES: [&[usize]; 7] = [
    &[100],
    &[600_000, 70_000, 1_000_000],
    &[5_000, 5_000, 70_000, 700_000, 300],
    &[9_000_000],
    &[
        4_096 - HEADER_BYTES,
        1_048_576 - HEADER_BYTES,
        1_048_577 - HEADER_BYTES,
    ],
    &[5_000_000, 5_000_000, 5_000_000, 40],
    &[70_000, 600_000],
];

#[test]
fn records_written_past_the_page_cache_are_read_through_it() {
    let home = tempfile::tempdir().unwrap();
    let mut device = new_device(home.path());
    device.options.segment_bytes = 16 << 20;
    put_and_read(device, &SIZES);
}

#[test]
fn where_the_file_system_refuses_the_page_cache_is_used() {
    let home = tempfile::tempdir().unwrap();
    let mut device = new_device(home.path());
    device.options.segment_bytes = 16 << 20;
    // Memory that does not begin at a border: refused by file systems that look.
    *lock(&device.staging) = Staging::misaligned();
    put_and_read(device, &SIZES);
}

#[test]
fn what_was_written_past_the_page_cache_is_not_in_it() {
    let home = tempfile::tempdir().unwrap();
    let device = new_device(home.path());
    let path = home.path().join("probe");
    let probe = File::create(&path).unwrap();
    probe.write_all_at(&[1; 4096], 0).unwrap();
    if !matches!(crate::device::direct::open(&path), Ok(Some(_))) {
        eprintln!("SKIPPED: the file system has no way past the page cache");
        return;
    }
    let (record, content) = piece(1, 800_000);
    let durable = device.put_batch(&[record], Purpose::Store).unwrap();
    let location = durable.locations[0];
    let last = u64::from(location.offset) + u64::from(location.bytes) - 1;
    let at_once = |bytes| device.read(location.segment, last, bytes, Wait::Never);
    assert_eq!(at_once(1), Err(DeviceError::WouldWait { device: device.id }));
    let read = device.read(location.segment, last, 1, Wait::ForMedium).unwrap();
    assert_eq!(read[0], content[content.len() - 1]);
}
