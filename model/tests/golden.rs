//! Rows and commands as they lie on disk: each sample must encode to the bytes in `golden/`, and those bytes
//! must decode to the sample for as long as there are disks that hold them. A layout that changes gets the
//! next version number and a file of its own; no file here is ever changed.
//!
//! `ULLAGE_WRITE_GOLDEN=1` writes the files that are missing, and only those. (Until the first release, when there are
//! no disks yet, a file may be deleted and written anew.)

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Debug;
use std::fmt::Write as _;
use std::path::PathBuf;
use support::{HDD, chunk, class, device, registration};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec::{Versioned, decode, encode};
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query::ErasePermit;
use ullage_model::fat::rows::{
    ClassRow, ClusterRow, CopyPlace, CopyState, CountersRow, EraseOrderRow, InlineRow, InviteRow, LeaseRow,
    LeaseState, LeaseVendorRow, MemberRow, ReleaseItem, RoomRow, SessionRow, SessionState, VendorRow,
    VendorState,
};
use ullage_model::ids::{
    BlobId, ClusterId, Digest, Epoch, LeaseId, ManifestId, SessionId, UploadId, VendorId,
};
use ullage_model::rejection::Rejection;
use ullage_model::session::OutcomeRow;
use ullage_model::wire::chunk::PublicKey;

fn check<T: Versioned + PartialEq + Debug>(sample: &str, value: &T) {
    let name = format!("{}-{}-{sample}.hex", T::NAME, T::VERSION);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(&name);
    let encoded = encode(value);
    let mut hex = String::new();
    for byte in &encoded {
        write!(hex, "{byte:02x}").unwrap();
    }
    if !path.exists() && std::env::var_os("ULLAGE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{hex}\n")).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(hex, golden.trim_end(), "{name}: the layout has changed");
    assert_eq!(&decode::<T>(&encoded).unwrap(), value, "{name}");
}

const SESSION: SessionId = SessionId((1 << 48) + 5);
const BLOB: BlobId = BlobId {
    session: SESSION,
    counter: 300,
};
const LEASE: LeaseId = LeaseId(70_000);

#[test]
fn system_rows() {
    check(
        "sample",
        &ClusterRow {
            cluster: ClusterId(1 << 100),
            epoch: Epoch(1),
            format_level: 1,
        },
    );
    let counters = CountersRow {
        vendor: 1,
        bucket: 2,
        user: 3,
        session: 4,
        lease: 1 << 20,
        manifest: 6,
        upload: 7,
    };
    check("sample", &counters);
    check(
        "sample",
        &InlineRow {
            cap_bytes: 4096,
            budget_bytes: 1 << 30,
            used_bytes: 5,
        },
    );
    check("sample", &ClusterTime(123_456));
    let member = MemberRow {
        node: 1 << 50,
        address: "metad-1:9310".to_owned(),
        issuer: PublicKey([7; 32]),
        format_level: 1,
        left: None,
    };
    check("member", &member);
    let left = Some(ClusterTime(9));
    check("left", &MemberRow { left, ..member });
    check(
        "sample",
        &InviteRow {
            expires: ClusterTime(86_400_000),
        },
    );
}

#[test]
fn vendors_rooms_and_classes() {
    let request = registration(
        "vendor",
        "zone",
        vec![device(0, HDD, 1 << 40), device(1, "ssd", 7)],
    );
    let mut characteristics = request.characteristics.clone();
    characteristics.owner = "owner".to_owned();
    characteristics.price = 1000;
    let vendor = VendorRow {
        vendor: VendorId(9),
        name: request.name,
        public_key: request.public_key,
        characteristics,
        devices: request.devices,
        state: VendorState::Stale,
        registered: ClusterTime(8),
    };
    check("sample", &vendor);
    check(
        "sample",
        &RoomRow {
            capacity: 1 << 40,
            leased: 300,
            used: 5,
            erasing: 0,
        },
    );
    check("bare", &class(2, 0));
    let full = ClassRow {
        device_class: Some(HDD.to_owned()),
        max_price: Some(12),
        pieces: 4,
        ..class(3, 2)
    };
    check("full", &full);
}

#[test]
fn sessions_and_leases() {
    let live = SessionRow {
        session: SESSION,
        gateway: "gateway".to_owned(),
        instance: 1 << 40,
        state: SessionState::Live,
        renewed: ClusterTime(500),
        window_start: 12,
        forgotten_below: 10,
        observed_index: 999,
    };
    check("live", &live);
    check(
        "ended",
        &SessionRow {
            state: SessionState::Ended { at: ClusterTime(600) },
            ..live
        },
    );
    let open = LeaseRow {
        lease: LEASE,
        session: SESSION,
        class: "STANDARD".to_owned(),
        deadline: ClusterTime(60_000),
        state: LeaseState::Open,
        recalled: true,
    };
    check("open", &open);
    check(
        "closing",
        &LeaseRow {
            state: LeaseState::Closing,
            ..open
        },
    );
    let row = LeaseVendorRow {
        device_class: HDD.to_owned(),
        locked: 1 << 33,
        settled: 9,
        confirmed: false,
    };
    check("sample", &row);
    check("abandoned", &OutcomeRow::Abandoned);
    check("done", &OutcomeRow::Done(Reply::Deadline(ClusterTime(4))));
    check(
        "refused",
        &OutcomeRow::Done(Reply::Refused(Rejection::LeaseClosed(LEASE))),
    );
}

#[test]
fn chunks_and_releases() {
    let mut row = chunk(LEASE, 3, 1 << 20, &[VendorId(1), VendorId(2)]);
    row.copies[1].state = CopyState::Damaged;
    check("sample", &row);
    let place = CopyPlace { blob: BLOB, index: 4 };
    check("sample", &place);
    let order = EraseOrderRow {
        room: 1 << 20,
        device_class: HDD.to_owned(),
        place,
        released: ClusterTime(77),
    };
    check("sample", &order);
    let released = ClusterTime(78);
    check(
        "blob",
        &ReleaseItem::Blob {
            blob: BLOB,
            chunks: 5,
            next: 2,
            released,
        },
    );
    check(
        "manifest",
        &ReleaseItem::Manifest {
            manifest: ManifestId(6),
            released,
        },
    );
    check(
        "upload",
        &ReleaseItem::Upload {
            upload: UploadId(7),
            released,
        },
    );
}

#[test]
fn commands_of_the_fat() {
    check(
        "tick",
        &Command::Tick {
            to: ClusterTime(1000),
        },
    );
    let initialise = Command::Initialise {
        cluster: ClusterId(5),
        classes: vec![class(1, 0)],
        inline: InlineRow {
            cap_bytes: 1,
            budget_bytes: 2,
            used_bytes: 0,
        },
    };
    check("initialise", &initialise);
    check(
        "register",
        &Command::RegisterVendor(registration("v", "z", vec![device(0, HDD, 5)])),
    );
    let command = SessionCommand::Allocate {
        class: "STANDARD".to_owned(),
        rows: vec![(VendorId(1), HDD.to_owned(), 1 << 30)],
        duration_ms: 60_000,
    };
    check(
        "allocate",
        &Command::InSession {
            session: SESSION,
            sequence: 3,
            command,
        },
    );
    check(
        "drain",
        &Command::DrainReleases {
            permit: ErasePermit::ALL,
        },
    );
    check(
        "resolve",
        &Command::Resolve {
            session: SESSION,
            sequence: 4,
        },
    );
}

#[test]
fn commands_about_who_is_in_the_cluster() {
    let open = Command::OpenSession {
        gateway: "gateway".to_owned(),
        instance: 1 << 33,
    };
    check("open-session", &open);
    let set = Command::SetMember {
        node: 1 << 50,
        address: "metad-1:9310".to_owned(),
        issuer: PublicKey([7; 32]),
        format_level: 1,
    };
    check("set-member", &set);
    check("remove-member", &Command::RemoveMember { node: 1 << 50 });
    check("raise-format", &Command::RaiseFormat { to: 2 });
    let invite = Command::Invite {
        secret: Digest([9; 32]),
        life_ms: 86_400_000,
    };
    check("invite", &invite);
    let enrol = Command::EnrolVendor {
        register: registration("v", "z", vec![device(0, HDD, 5)]),
        invite: Some(Digest([9; 32])),
    };
    check("enrol", &enrol);
    let revoke = Command::RevokeVendor { vendor: VendorId(9) };
    check("revoke", &revoke);
}
