//! Second step, per chunk: which vendors get it, in which order. Choosing is pure; room is taken here.

use crate::engine::Engine;
use crate::error::Error;
use crate::limits::{FAN_OUT_BYTES, ROOM_WAIT};
use crate::path::{Discarded, Ranking, Way};
use crate::put::plan::Plan;
use crate::rooms::Placement;
use crate::session::View;
use std::collections::BTreeSet;
use ullage_model::fat::placement;
use ullage_model::fat::rows::{ClassRow, VendorState};
use ullage_model::ids::{ChunkId, VendorId};
use ullage_model::units::room_bound;

/// Requests for room that one chunk may cause.
const REQUESTS_FOR_ROOM: u32 = 3;

/// A chunk that has its name, vendors for all its copies, and room there.
#[derive(Debug)]
pub struct Probed {
    /// Its name.
    pub chunk: ChunkId,
    /// Its copies to be, best vendor first.
    pub placements: Vec<Placement>,
    /// Sent to each vendor by the gateway itself, not along a chain.
    pub fan_out: bool,
}

/// What further copies of a chunk must respect.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Number of further copies.
    pub copies: usize,
    /// Vendors that were tried or have one.
    pub tried: &'a [VendorId],
    /// Vendors that have a copy, as far as zones go.
    pub kept: &'a [VendorId],
}

/// Takes room for all copies of a chunk of `plaintext_bytes` and names it.
///
/// # Errors
/// `NoRoom` when the class has none; `NotStored` when too few vendors are usable; `Unavailable` when the metadata
/// service does not say.
pub async fn probe(engine: &Engine, plan: &Plan, plaintext_bytes: u64) -> Result<Probed, Error> {
    let wanted = Wanted {
        copies: plan.class.copies as usize,
        tried: &[],
        kept: &[],
    };
    for _ in 0..REQUESTS_FOR_ROOM {
        let mut placements = place(engine, plan, plaintext_bytes, wanted).await?;
        placements.sort_by_key(|placement| std::cmp::Reverse(placement.score));
        let Some(lease) = placements.first().map(|placement| placement.lease) else {
            break;
        };
        // A lease may have been returned just now: then there is another one.
        if let Some(chunk) = plan.session.rooms.name_chunk(&plan.class.name, lease) {
            let vendors: Vec<VendorId> = placements.iter().map(|placement| placement.vendor).collect();
            let now = engine.around.clock.monotonic();
            let fan_out =
                plaintext_bytes <= FAN_OUT_BYTES || engine.around.paths.has_relay_trouble(&vendors, now);
            return Ok(Probed {
                chunk,
                placements,
                fan_out,
            });
        }
    }
    Err(Error::Unavailable(format!(
        "leases of class {} end as soon as they come",
        plan.class.name
    )))
}

/// Takes room for `wanted` copies, waiting for a provisional FAT if need be.
///
/// # Errors
/// As [`probe`].
pub async fn place(
    engine: &Engine,
    plan: &Plan,
    plaintext_bytes: u64,
    wanted: Wanted<'_>,
) -> Result<Vec<Placement>, Error> {
    let class = &plan.class;
    let rooms = &plan.session.rooms;
    let room = room_bound(plaintext_bytes, class.pieces);
    let changed = rooms.wanted(&class.name, engine.around.clock.monotonic());
    let until = tokio::time::Instant::now() + ROOM_WAIT;
    for _ in 0..REQUESTS_FOR_ROOM {
        // Registered before looking, so that what comes in between is not missed.
        let mut arrived = std::pin::pin!(changed.notified());
        arrived.as_mut().enable();
        if let Some(placements) = take(engine, plan, room, wanted) {
            if runs_low(plan, room) {
                plan.session.ask_for_room(class);
            }
            return Ok(placements);
        }
        // A vendor that registered a moment ago has room, but its zone and its key are not known here yet.
        let with_room = rooms.vendors(class, room, plan.session.now());
        let vendors: Vec<VendorId> = with_room.into_iter().map(|(vendor, _)| vendor).collect();
        if engine.keeper.learn(&vendors).await?
            && let Some(placements) = take(engine, plan, room, wanted)
        {
            return Ok(placements);
        }
        if let Some(error) = rooms.refused(&class.name, engine.around.clock.monotonic()) {
            return Err(error);
        }
        if plan.session.is_gone() {
            return Err(Error::SessionLost);
        }
        plan.session.ask_for_room(class);
        if tokio::time::timeout_at(until, arrived).await.is_err() {
            // Who is full says so. Nobody said anything, so asking again may help.
            return Err(Error::Unavailable(format!(
                "no provisional FAT for class {} came in time",
                class.name
            )));
        }
    }
    match take(engine, plan, room, wanted) {
        Some(placements) => Ok(placements),
        None => Err(rooms
            .refused(&class.name, engine.around.clock.monotonic())
            .unwrap_or_else(|| {
                Error::NotStored(format!(
                    "too few usable vendors with room for class {}",
                    class.name
                ))
            })),
    }
}

/// Whether the next provisional FAT should be asked for now: little is left in all, or too few vendors, or vendors
/// in too few zones, have room for two more copies.
fn runs_low(plan: &Plan, room: u64) -> bool {
    let (class, rooms, now) = (&plan.class, &plan.session.rooms, plan.session.now());
    let roomy = rooms.vendors(class, room.saturating_mul(2), now);
    let view = plan.session.view();
    let rows = roomy.iter().filter_map(|(vendor, _)| view.vendors.get(vendor));
    roomy.len() < class.copies as usize
        || placement::zones(rows.map(|info| &info.row)) < placement::least_zones(class)
        || rooms.is_low(&class.name, now)
}

fn take(engine: &Engine, plan: &Plan, room: u64, wanted: Wanted<'_>) -> Option<Vec<Placement>> {
    let session = &plan.session;
    let now = session.now();
    let view = session.view();
    let with_room: Vec<(VendorId, u64)> = session
        .rooms
        .vendors(&plan.class, room, now)
        .into_iter()
        .filter(|(vendor, _)| !wanted.tried.contains(vendor))
        .collect();
    let states: Vec<(VendorId, VendorState)> = with_room
        .iter()
        .map(|&(vendor, _)| (vendor, view.state(vendor)))
        .collect();
    let ranking = engine.around.paths.rank(&states, Way::Write, now.local);
    let random = |_: VendorId| engine.around.random.number();
    let order = order(&ranking, &with_room, random);
    let chosen = choose(&plan.class, &view, &order, wanted)?;
    let mut placements = Vec::with_capacity(chosen.len());
    for (vendor, score) in chosen {
        let mut placement = session.rooms.take(&plan.class, vendor, room, now)?;
        placement.score = score;
        placements.push(placement);
    }
    Some(placements)
}

/// Vendors in the order in which they are to be tried: a random one by weight (score, and room left) among
/// those chosen, so that equals share the load; then discarded ones that may be better than nothing.
fn order(
    ranking: &Ranking,
    with_room: &[(VendorId, u64)],
    mut random: impl FnMut(VendorId) -> u64,
) -> Vec<(VendorId, u16)> {
    let most = with_room
        .iter()
        .map(|&(_, unused)| unused)
        .max()
        .unwrap_or(1)
        .max(1);
    let mut keyed: Vec<(f64, VendorId, u16)> = Vec::with_capacity(ranking.chosen.len());
    for &(vendor, score) in &ranking.chosen {
        let unused = with_room
            .iter()
            .find(|(with, _)| *with == vendor)
            .map_or(0, |(_, unused)| *unused);
        let weight = (f64::from(score) / 1000.0).powi(2) * (0.1 + 0.9 * ratio(unused, most));
        // Efraimidis and Spirakis: sorting by u^(1/w) draws without replacement by weight w.
        let drawn = ratio(random(vendor), u64::MAX);
        keyed.push((
            drawn.max(f64::MIN_POSITIVE).ln() / weight.max(1e-6),
            vendor,
            score,
        ));
    }
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
    let usable = |why: &Discarded| {
        !matches!(
            why,
            Discarded::State(VendorState::Dead | VendorState::Revoked) | Discarded::Tried
        )
    };
    let discarded = ranking.discarded.iter().filter(|(_, _, why)| usable(why));
    let chosen = keyed.into_iter().map(|(_, vendor, score)| (vendor, score));
    chosen
        .chain(discarded.map(|&(vendor, score, _)| (vendor, score)))
        .collect()
}

/// The first vendors of `order` that make `wanted` possible under the class's rule of zones.
fn choose(
    class: &ClassRow,
    view: &View,
    order: &[(VendorId, u16)],
    wanted: Wanted<'_>,
) -> Option<Vec<(VendorId, u16)>> {
    let row_of = |vendor: &VendorId| view.vendors.get(vendor).map(|info| &info.row);
    let kept = wanted.kept.iter().filter_map(row_of);
    let mut zones: BTreeSet<(&str, &str)> = kept.filter_map(placement::zone).collect();
    let least_zones = placement::least_zones(class);
    let mut chosen = Vec::with_capacity(wanted.copies);
    for &(vendor, score) in order {
        if chosen.len() == wanted.copies {
            break;
        }
        // One that the class does not pay for any more, since its room was locked, is passed over.
        let Some(row) = row_of(&vendor).filter(|row| placement::check_price(class, row).is_ok()) else {
            continue;
        };
        let zone = placement::zone(row);
        let zones_missing = least_zones.saturating_sub(zones.len());
        let copies_missing = wanted.copies - chosen.len();
        // A vendor that names no zone counts for none.
        if zones_missing >= copies_missing && zone.is_none_or(|zone| zones.contains(&zone)) {
            continue;
        }
        zones.extend(zone);
        chosen.push((vendor, score));
    }
    (chosen.len() == wanted.copies && zones.len() >= least_zones).then_some(chosen)
}

#[expect(clippy::cast_precision_loss, reason = "a weight needs no more than 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::{Wanted, choose, order};
    use crate::path::{Discarded, Ranking};
    use crate::session::View;
    use bytes::Bytes;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;
    use ullage_model::cluster_time::ClusterTime;
    use ullage_model::fat::rows::{ClassRow, InlineRow, VendorRow, VendorState};
    use ullage_model::ids::VendorId;
    use ullage_model::wire::agent::Characteristics;
    use ullage_model::wire::chunk::{Grant, PublicKey, Signature};
    use ullage_model::wire::metad::VendorInfo;

    fn view(zones: &[&str]) -> View {
        let info = |(at, zone): (usize, &&str)| {
            let vendor = VendorId(at as u64 + 1);
            let row = VendorRow {
                vendor,
                name: String::new(),
                public_key: PublicKey::default(),
                characteristics: Characteristics {
                    zone: (*zone).to_owned(),
                    ..Characteristics::default()
                },
                devices: Vec::new(),
                state: VendorState::Healthy,
                registered: ClusterTime(0),
            };
            let read_grant = Grant {
                body: Bytes::new(),
                issuer: PublicKey::default(),
                signature: Signature(Bytes::new()),
            };
            (vendor, Arc::new(VendorInfo { row, read_grant }))
        };
        View {
            cluster_time: ClusterTime(0),
            read_at: Duration::ZERO,
            vendors: zones.iter().enumerate().map(info).collect(),
            classes: BTreeMap::new(),
            inline: InlineRow {
                cap_bytes: 0,
                budget_bytes: 0,
                used_bytes: 0,
            },
        }
    }

    fn class(copies: u32, zones: u32) -> ClassRow {
        ClassRow {
            name: "A".to_owned(),
            copies,
            zones,
            device_class: None,
            max_price: None,
            chunk_bytes: 1 << 20,
            pieces: 1,
            settings_version: 1,
        }
    }

    fn check(zones: &[&str], class: &ClassRow, kept: &[u64], copies: usize, expected: Option<&[u64]>) {
        let kept: Vec<VendorId> = kept.iter().map(|&vendor| VendorId(vendor)).collect();
        let order: Vec<(VendorId, u16)> = (1..=zones.len() as u64)
            .map(VendorId)
            .filter(|vendor| !kept.contains(vendor))
            .map(|vendor| (vendor, 1000))
            .collect();
        let wanted = Wanted {
            copies,
            tried: &kept,
            kept: &kept,
        };
        let chosen = choose(class, &view(zones), &order, wanted);
        let chosen = chosen.map(|chosen| chosen.iter().map(|(vendor, _)| vendor.0).collect::<Vec<_>>());
        assert_eq!(chosen.as_deref(), expected);
    }

    #[test]
    fn copies_lie_in_as_many_zones_as_the_class_says() {
        check(&["a", "a", "b"], &class(2, 0), &[], 2, Some(&[1, 2]));
        check(&["a", "a", "b"], &class(2, 2), &[], 2, Some(&[1, 3]));
        check(&["a", "a", "a", "b"], &class(3, 2), &[], 3, Some(&[1, 2, 4]));
        check(&["a", "a", "a"], &class(2, 2), &[], 2, None);
        check(&["a", "a", "b"], &class(2, 2), &[1], 1, Some(&[3]));
        check(&["a", "a", "b"], &class(2, 1), &[3], 1, Some(&[1]));
        check(&["a"], &class(2, 0), &[], 2, None);
        check(&["", "a", "", "b"], &class(2, 2), &[], 2, Some(&[2, 4]));
        check(&["", "a", "", "b"], &class(3, 2), &[], 3, Some(&[1, 2, 4]));
        check(&["", "a", ""], &class(2, 2), &[], 2, None);
        check(&["", ""], &class(2, 1), &[], 2, Some(&[1, 2]));
        check(&["", "a", "b"], &class(3, 2), &[1, 2], 1, Some(&[3]));
    }

    #[test]
    fn discarded_vendors_come_last_and_dead_ones_never() {
        let ranking = Ranking {
            chosen: vec![(VendorId(1), 900)],
            discarded: vec![
                (VendorId(2), 500, Discarded::Cooling),
                (VendorId(3), 500, Discarded::State(VendorState::Dead)),
            ],
        };
        let with_room = [(VendorId(1), 10), (VendorId(2), 10), (VendorId(3), 10)];
        assert_eq!(
            order(&ranking, &with_room, |_| 1),
            [(VendorId(1), 900), (VendorId(2), 500)]
        );
    }
}
