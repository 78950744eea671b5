//! Initialising, ticks, KEK check values, inline settings, classes.

use crate::support::{World, class};
use bytes::Bytes;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query;
use ullage_model::fat::rows::{ClassRow, InlineRow};
use ullage_model::ids::{ClusterId, KekId};
use ullage_model::limits::{CHUNK_BYTES_MIN, CLASSES_MAX, FRAME_BYTES, INLINE_BYTES_MAX};
use ullage_model::rejection::Rejection;

fn inline(cap_bytes: u64) -> InlineRow {
    InlineRow {
        cap_bytes,
        budget_bytes: 1000,
        used_bytes: 9,
    }
}

#[test]
fn a_cluster_is_initialised_once_and_nothing_goes_before() {
    let mut world = World::default();
    let classes = vec![class(1, 0)];
    let initialise = Command::Initialise {
        cluster: ClusterId(1),
        classes,
        inline: inline(0),
    };
    for early in [
        Command::Tick { to: ClusterTime(5) },
        Command::OpenSession {
            gateway: String::new(),
            instance: 0,
        },
        Command::SetInline(inline(0)),
        Command::SetClass(class(1, 0)),
        Command::CheckKek {
            kek: KekId(1),
            value: Bytes::from_static(b"value"),
        },
    ] {
        assert!(matches!(world.refused(&early), Rejection::Cluster(_)));
    }
    assert_eq!(world.decide(&initialise), Reply::Done);
    assert!(matches!(world.refused(&initialise), Rejection::Cluster(_)));
    let row = query::cluster(&world.rows).unwrap().unwrap();
    assert_eq!(row.cluster, ClusterId(1));
}

#[test]
fn a_cluster_needs_the_standard_class_and_settings_in_bounds() {
    let mut world = World::default();
    let other = ClassRow {
        name: "OTHER".to_owned(),
        ..class(1, 0)
    };
    for (classes, cap) in [
        (vec![other], 0),
        (vec![], 0),
        (vec![class(0, 0)], 0),
        (vec![class(1, 0)], INLINE_BYTES_MAX + 1),
    ] {
        let command = Command::Initialise {
            cluster: ClusterId(1),
            classes,
            inline: inline(cap),
        };
        assert!(matches!(world.refused(&command), Rejection::Invalid(_)));
    }
}

#[test]
fn cluster_time_never_goes_back() {
    let mut world = World::new(1);
    for (to, then) in [(50, 50), (20, 50), (51, 51)] {
        assert_eq!(world.decide(&Command::Tick { to: ClusterTime(to) }), Reply::Done);
        assert_eq!(world.now(), ClusterTime(then));
    }
}

#[test]
fn the_first_check_value_of_a_kek_stays() {
    let mut world = World::new(1);
    let check = |kek, value: &'static [u8]| Command::CheckKek {
        kek: KekId(kek),
        value: value.into(),
    };
    let first = Reply::KekValue(Bytes::from_static(b"one"));
    assert_eq!(world.decide(&check(1, b"one")), first);
    assert_eq!(world.decide(&check(1, b"two")), first);
    assert!(matches!(world.refused(&check(2, b"")), Rejection::Invalid(_)));
    assert_eq!(
        world.decide(&check(3, b"x")),
        Reply::KekValue(Bytes::from_static(b"x"))
    );
    assert_eq!(query::keks(&world.rows).unwrap(), [KekId(1), KekId(3)]);
}

#[test]
fn inline_settings_change_and_usage_stays() {
    let mut world = World::new(1);
    assert_eq!(world.decide(&Command::SetInline(inline(100))), Reply::Done);
    let row = query::inline(&world.rows).unwrap();
    assert_eq!((row.cap_bytes, row.budget_bytes, row.used_bytes), (100, 1000, 0));
    let too_much = Command::SetInline(inline(INLINE_BYTES_MAX + 1));
    assert!(matches!(world.refused(&too_much), Rejection::Invalid(_)));
}

#[test]
fn a_class_gets_a_new_version_when_it_changes_and_only_then() {
    let mut world = World::new(2);
    let version = |world: &World| world.placed().1;
    let first = version(&world);
    assert_eq!(world.decide(&Command::SetClass(class(2, 0))), Reply::Done);
    assert_eq!(version(&world), first);
    assert_eq!(world.decide(&Command::SetClass(class(3, 0))), Reply::Done);
    assert!(version(&world) > first);
}

#[test]
fn classes_out_of_bounds_are_refused() {
    let mut world = World::new(2);
    let good = class(2, 0);
    for bad in [
        ClassRow {
            name: String::new(),
            ..good.clone()
        },
        ClassRow {
            name: "with space".to_owned(),
            ..good.clone()
        },
        ClassRow {
            copies: 0,
            ..good.clone()
        },
        ClassRow {
            copies: 17,
            ..good.clone()
        },
        ClassRow {
            zones: 3,
            ..good.clone()
        },
        ClassRow {
            device_class: Some(String::new()),
            ..good.clone()
        },
        ClassRow {
            chunk_bytes: CHUNK_BYTES_MIN + 1,
            ..good.clone()
        },
        ClassRow {
            chunk_bytes: CHUNK_BYTES_MIN - FRAME_BYTES,
            ..good.clone()
        },
        ClassRow {
            chunk_bytes: u64::MAX,
            ..good.clone()
        },
        ClassRow {
            pieces: 0,
            ..good.clone()
        },
        ClassRow {
            pieces: 17,
            ..good.clone()
        },
    ] {
        assert!(matches!(
            world.refused(&Command::SetClass(bad)),
            Rejection::Invalid(_)
        ));
    }
    for number in 1..CLASSES_MAX {
        let more = ClassRow {
            name: format!("C{number}"),
            ..good.clone()
        };
        assert_eq!(world.decide(&Command::SetClass(more)), Reply::Done);
    }
    let too_many = ClassRow {
        name: "LAST".to_owned(),
        ..good
    };
    assert!(matches!(
        world.refused(&Command::SetClass(too_many)),
        Rejection::Invalid(_)
    ));
}
