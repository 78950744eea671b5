//! Chunks in, frames out: cutting, receipts, refusals, forwarding, ranges.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::*;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;
use tempfile::TempDir;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::ids::{ClusterId, Digest, Epoch, LeaseId, SessionId, VendorId};
use ullage_model::limits::FRAME_BYTES;
use ullage_model::units;
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkPart, ChunkRefusal, GrantAction, GrantBody, Hop, HopReport,
};
use ullage_vendor_agent::Agent;

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_all_shapes_come_back_byte_for_byte_before_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 3, &metad).await;
    let shapes = [
        (1u64, 1u32),
        (4096, 4),
        (8192, 1),
        (FRAME_BYTES, 2),
        (FRAME_BYTES + 1, 2),
        (65_536, 1),
        (100_000, 3),
        (1 << 20, 5),
        (4 << 20, 1),
        ((4 << 20) + 17, 16),
    ];
    for (index, (plaintext, pieces)) in shapes.into_iter().enumerate() {
        let name = copy(1, index as u32);
        let receipt = put_ok(&running.agent, name, plaintext, pieces).await;
        let frames = units::frames(plaintext) as u32;
        assert_eq!(receipt.pieces.len() as u32, pieces.min(frames));
        assert_eq!(
            receipt.pieces.iter().map(|piece| piece.frames).sum::<u32>(),
            frames
        );
        let devices: BTreeSet<_> = receipt.pieces.iter().map(|piece| piece.device).collect();
        assert_eq!(
            devices.len(),
            receipt.pieces.len().min(3),
            "pieces go to different devices"
        );
        check_copy(&running.agent, name, plaintext).await;
    }
    running.stop().await;
    let running = start(dir.path(), 3, &metad).await;
    for (index, (plaintext, _)) in shapes.into_iter().enumerate() {
        check_copy(&running.agent, copy(1, index as u32), plaintext).await;
    }
    assert_eq!(
        running.agent.list_copies(None, 100).await.unwrap().len(),
        shapes.len()
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_give_exactly_the_frames_asked_for() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 2, &metad).await;
    let plaintext = 40 * FRAME_BYTES + 5;
    let name = copy(1, 1);
    put_ok(&running.agent, name, plaintext, 4).await;
    let whole = stored(plaintext, 1001);
    let stride = (FRAME_BYTES + 16) as usize;
    for (first, frames) in [(0, 1), (0, 41), (9, 3), (10, 1), (39, 2), (40, 1), (1, 39)] {
        let got = read(&running.agent, name, first, frames).await.unwrap();
        let end = whole.len().min((first + frames) as usize * stride);
        assert!(
            got == whole[first as usize * stride..end],
            "frames {first}+{frames}"
        );
    }
    for (first, frames) in [(0, 0), (41, 1), (40, 2), (u32::MAX, 2)] {
        let refused = read(&running.agent, name, first, frames).await;
        assert!(
            matches!(refused, Err(ChunkRefusal::Header(_))),
            "{first}+{frames}: {refused:?}"
        );
    }
    let unknown = read(&running.agent, copy(1, 9), 0, 1).await;
    assert!(matches!(unknown, Err(ChunkRefusal::NotFound(_))));
    running.stop().await;
}

async fn refusal(agent: &Arc<Agent>, header: ChunkHeader) -> ChunkRefusal {
    let bytes = stored(header.plaintext_bytes.min(1 << 20), 1);
    let mut reports = agent.put_chunk(header, parts(&bytes, 4096)).await;
    match reports.next().await {
        Some(HopReport::Failed { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_grants_are_refused_and_leave_nothing() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    metad.with(|state| state.epoch = 2);
    let running = start(dir.path(), 1, &metad).await;
    let agent = &running.agent;
    let vendor = VendorId(1);
    let good = GrantBody {
        epoch: Epoch(2),
        ..write_body(vendor, LeaseId(1))
    };
    let with = |grant| ChunkHeader {
        route: vec![Hop {
            vendor,
            lease: LeaseId(1),
            grant,
        }],
        ..header(vendor, copy(1, 1), 100, 1)
    };
    let bodies = [
        (
            "cluster",
            GrantBody {
                cluster: ClusterId(1),
                ..good.clone()
            },
        ),
        (
            "epoch",
            GrantBody {
                epoch: Epoch(1),
                ..good.clone()
            },
        ),
        (
            "session",
            GrantBody {
                session: SessionId(6),
                ..good.clone()
            },
        ),
        (
            "vendor",
            GrantBody {
                vendor: VendorId(2),
                ..good.clone()
            },
        ),
        (
            "deadline",
            GrantBody {
                deadline: ClusterTime(999_999),
                ..good.clone()
            },
        ),
        (
            "action",
            GrantBody {
                action: GrantAction::Read,
                ..good.clone()
            },
        ),
        (
            "lease",
            GrantBody {
                action: GrantAction::Write {
                    lease: LeaseId(2),
                    device_class: "ssd".into(),
                    bytes: 1 << 30,
                },
                ..good.clone()
            },
        ),
        (
            "cap",
            GrantBody {
                action: GrantAction::Write {
                    lease: LeaseId(1),
                    device_class: "ssd".into(),
                    bytes: 100,
                },
                ..good.clone()
            },
        ),
    ];
    for (what, body) in bodies {
        let refused = refusal(agent, with(grant_of(&body, &issuer()))).await;
        assert!(matches!(refused, ChunkRefusal::Grant(_)), "{what}: {refused:?}");
    }
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[4; 32]);
    assert!(matches!(
        refusal(agent, with(grant_of(&good, &stranger))).await,
        ChunkRefusal::Grant(_)
    ));
    let mut forged = grant_of(&good, &stranger);
    forged.issuer = grant_of(&good, &issuer()).issuer;
    assert!(matches!(
        refusal(agent, with(forged)).await,
        ChunkRefusal::Grant(_)
    ));
    // A signature already seen does not vouch for another body.
    let known = grant_of(&good, &issuer());
    assert!(matches!(
        agent
            .put_chunk(with(known.clone()), parts(&stored(100, 1), 50))
            .await
            .next()
            .await,
        Some(HopReport::Stored { .. })
    ));
    let mut changed = known.clone();
    changed.body = grant_of(
        &GrantBody {
            deadline: ClusterTime(u64::MAX),
            ..good.clone()
        },
        &issuer(),
    )
    .body;
    assert!(matches!(
        refusal(agent, with(changed)).await,
        ChunkRefusal::Grant(_)
    ));
    // Time goes on: what was good is not good for ever.
    metad.with(|state| state.time = 3_000_000);
    agent.kick();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let late = ChunkHeader {
        chunk: copy(1, 2).chunk,
        ..with(known)
    };
    assert!(matches!(refusal(agent, late).await, ChunkRefusal::Grant(_)));
    assert_eq!(agent.list_copies(None, 10).await.unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lying_headers_and_bytes_are_refused_and_leave_nothing() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 1, &metad).await;
    let agent = &running.agent;
    let vendor = VendorId(1);
    let good = header(vendor, copy(1, 1), 50_000, 1);
    let headers = [
        ChunkHeader {
            route: vec![],
            ..good.clone()
        },
        ChunkHeader {
            pieces: 0,
            ..good.clone()
        },
        ChunkHeader {
            pieces: 17,
            ..good.clone()
        },
        ChunkHeader {
            plaintext_bytes: (16 << 20) + 1,
            ..good.clone()
        },
        ChunkHeader {
            plaintext_bytes: u64::MAX,
            ..good.clone()
        },
        ChunkHeader {
            route: vec![good.route[0].clone(), good.route[0].clone()],
            ..good.clone()
        },
        ChunkHeader {
            route: vec![Hop {
                vendor: VendorId(2),
                ..good.route[0].clone()
            }],
            ..good.clone()
        },
    ];
    for header in headers {
        let refused = refusal(agent, header.clone()).await;
        assert!(
            matches!(refused, ChunkRefusal::Header(_)),
            "{header:?}: {refused:?}"
        );
    }
    let bytes = stored(50_000, 1);
    let wrong_digest = vec![
        Ok(ChunkPart::Data(bytes.clone())),
        Ok(ChunkPart::End(Digest::of(b"other"))),
    ];
    let short = vec![
        Ok(ChunkPart::Data(bytes.slice(..100))),
        Ok(ChunkPart::End(Digest::of(&bytes[..100]))),
    ];
    let long = vec![
        Ok(ChunkPart::Data(bytes.clone())),
        Ok(ChunkPart::Data(bytes.clone())),
    ];
    let cut = vec![Ok(ChunkPart::Data(bytes.slice(..100)))];
    let failed = vec![Ok(ChunkPart::Data(bytes.slice(..100))), Err(ChunkRefusal::Cut)];
    for (list, expected) in [
        (wrong_digest, ChunkRefusal::Damaged),
        (short, ChunkRefusal::Damaged),
        (long, ChunkRefusal::Damaged),
        (cut, ChunkRefusal::Cut),
        (failed, ChunkRefusal::Cut),
    ] {
        let reports: Vec<HopReport> = agent
            .put_chunk(good.clone(), futures::stream::iter(list).boxed())
            .await
            .collect()
            .await;
        assert_eq!(
            reports,
            [HopReport::Failed {
                vendor,
                from: None,
                refusal: expected
            }]
        );
    }
    assert!(agent.list_copies(None, 10).await.unwrap().is_empty());
    // The same name with the same bytes is the same copy; with other bytes it is refused.
    let first = put(agent, copy(1, 1), &bytes, 50_000, 1).await.unwrap();
    assert_eq!(put(agent, copy(1, 1), &bytes, 50_000, 1).await.unwrap(), first);
    let other = put(agent, copy(1, 1), &stored(50_000, 2), 50_000, 1).await;
    assert!(matches!(other, Err(ChunkRefusal::Header(_))), "{other:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_of_a_lease_holds_in_room_and_over_a_restart() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 1, &metad).await;
    let vendor = VendorId(1);
    let room = units::room(8192, 1);
    let body = GrantBody {
        action: GrantAction::Write {
            lease: LeaseId(1),
            device_class: "ssd".into(),
            bytes: room * 3 + 5,
        },
        ..write_body(vendor, LeaseId(1))
    };
    let capped = |counter| ChunkHeader {
        route: vec![Hop {
            vendor,
            lease: LeaseId(1),
            grant: grant_of(&body, &issuer()),
        }],
        ..header(vendor, copy(1, counter), 8192, 1)
    };
    let bytes = stored(8192, 1);
    for counter in 0..2 {
        let report = running
            .agent
            .put_chunk(capped(counter), parts(&bytes, 4096))
            .await
            .next()
            .await;
        assert!(matches!(report, Some(HopReport::Stored { .. })));
    }
    // A cut upload gives its room back.
    let cut = futures::stream::iter([Ok(ChunkPart::Data(bytes.slice(..10)))]).boxed();
    let report = running.agent.put_chunk(capped(9), cut).await.next().await;
    assert!(matches!(
        report,
        Some(HopReport::Failed {
            refusal: ChunkRefusal::Cut,
            ..
        })
    ));
    running.stop().await;
    let running = start(dir.path(), 1, &metad).await;
    let report = running
        .agent
        .put_chunk(capped(3), parts(&bytes, 4096))
        .await
        .next()
        .await;
    assert!(matches!(report, Some(HopReport::Stored { .. })));
    assert!(matches!(
        refusal(&running.agent, capped(4)).await,
        ChunkRefusal::Grant(_)
    ));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_in_flight_is_bounded() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let peers = Arc::new(Peers::default());
    let mut config = config(dir.path(), 1);
    config.intake_memory = 3 << 20;
    let running = start_with(config, seams(metad.clone(), peers.clone()), metad, &peers).await;
    let vendor = VendorId(1);
    let hanging = |counter| {
        running.agent.put_chunk(
            header(vendor, copy(1, counter), 1 << 20, 1),
            futures::stream::pending().boxed(),
        )
    };
    let _first = hanging(1).await;
    let _second = hanging(2).await;
    let mut admitted = 0;
    for _ in 0..500 {
        admitted = running.agent.in_flight_bytes();
        if admitted > 2 << 20 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(admitted > 2 << 20);
    let refused = refusal(&running.agent, header(vendor, copy(1, 3), 1 << 20, 1)).await;
    assert_eq!(refused, ChunkRefusal::Overloaded);
    assert!(
        running.agent.in_flight_bytes() < 3 << 20,
        "a refused chunk gives its memory back"
    );
}

async fn chain(peers: &Arc<Peers>, dir: &TempDir) -> Vec<Running> {
    let mut agents = Vec::new();
    for vendor in 1..=3 {
        let metad = FakeMetad::new(vendor);
        let config = config(&dir.path().join(vendor.to_string()), 1);
        let seams = seams(metad.clone(), peers.clone());
        agents.push(start_with(config, seams, metad, peers).await);
    }
    agents
}

fn routed(name: ullage_model::ids::CopyId, plaintext: u64) -> ChunkHeader {
    let route = (1..=3)
        .map(|vendor| header(VendorId(vendor), name, plaintext, 1).route.remove(0))
        .collect();
    ChunkHeader {
        route,
        ..header(VendorId(1), name, plaintext, 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_passed_along_its_route_and_every_hop_reports() {
    let dir = TempDir::new().unwrap();
    let peers = Arc::new(Peers::default());
    let agents = chain(&peers, &dir).await;
    let name = copy(1, 7);
    let plaintext = 3 << 20;
    let bytes = stored(plaintext, 1007);
    let reports: Vec<HopReport> = agents[0]
        .agent
        .put_chunk(routed(name, plaintext), parts(&bytes, 50_000))
        .await
        .collect()
        .await;
    let mut stored_at = BTreeSet::new();
    for report in &reports {
        let HopReport::Stored { vendor, receipts } = report else {
            panic!("{report:?}")
        };
        let running = &agents[vendor.0 as usize - 1];
        assert_eq!(check_receipts(&running.agent, receipts).receipts[0].copy, name);
        check_copy(&running.agent, name, plaintext).await;
        stored_at.insert(*vendor);
    }
    assert_eq!(stored_at.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_middle_hop_dies_the_first_still_stores_and_the_link_is_named() {
    let dir = TempDir::new().unwrap();
    let peers = Arc::new(Peers::default());
    let mut agents = chain(&peers, &dir).await;
    agents.remove(1).stop().await;
    let name = copy(1, 7);
    let bytes = stored(100_000, 1007);
    let reports: Vec<HopReport> = agents[0]
        .agent
        .put_chunk(routed(name, 100_000), parts(&bytes, 50_000))
        .await
        .collect()
        .await;
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports.iter().any(|report| matches!(
        report,
        HopReport::Stored {
            vendor: VendorId(1),
            ..
        }
    )));
    assert!(reports.iter().any(|report| matches!(
        report,
        HopReport::Failed {
            vendor: VendorId(2),
            refusal: ChunkRefusal::Link(_),
            ..
        }
    )));
    check_copy(&agents[0].agent, name, 100_000).await;
    assert!(agents[1].agent.list_copies(None, 5).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_cut_at_the_first_hop_is_stored_nowhere() {
    let dir = TempDir::new().unwrap();
    let peers = Arc::new(Peers::default());
    let agents = chain(&peers, &dir).await;
    let bytes = stored(100_000, 1007);
    let cut = futures::stream::iter([Ok(ChunkPart::Data(bytes.slice(..5000)))]).boxed();
    let reports: Vec<HopReport> = agents[0]
        .agent
        .put_chunk(routed(copy(1, 7), 100_000), cut)
        .await
        .collect()
        .await;
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert!(reports.iter().all(|report| matches!(
        report,
        HopReport::Failed {
            refusal: ChunkRefusal::Cut,
            ..
        }
    )));
    for running in &agents {
        assert!(running.agent.list_copies(None, 5).await.unwrap().is_empty());
    }
}
