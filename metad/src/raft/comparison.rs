//! Comparing replicas: the leader collects the digests that all members have noted, and says to whoever differs from
//! a majority of the voters that it must stop. Where all voters are heard and none has a majority, as between two
//! that differ, the leader's word counts.

use super::core::Core;
use super::digest::Digest;
use super::link::Lane;
use super::wire::{DIGESTS, DigestsRequest, ODD, Odd};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The digests of one replica.
type Points = Vec<(u64, Digest)>;

/// Compares every so often, while this node leads.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        tokio::time::sleep(Duration::from_millis(core.config.compare_every_ms)).await;
        if core.leads() {
            compare(&core).await;
        }
    }
}

/// One comparison.
async fn compare(core: &Core) {
    let Some(link) = &core.link else { return };
    let membership = core.membership();
    let others = membership.nodes().filter(|(id, _)| **id != core.me.node);
    let ask = others.map(|(id, node)| async move {
        let target = link.target(*id, &node.addr, Lane::Other);
        let asked = link.call::<_, Points>(*id, &target, DIGESTS, DigestsRequest, ANSWER_WITHIN);
        // A member that is away is compared when it is back.
        asked.await.ok().map(|points| (*id, points))
    });
    let mut replicas: BTreeMap<u64, Points> = join_all(ask).await.into_iter().flatten().collect();
    replicas.insert(core.me.node, core.digests.all());
    let voters = membership.voter_ids().collect();
    for (node, index, digest) in odd(&replicas, &voters, core.me.node) {
        tracing::error!(
            node = format!("{node:016x}"),
            index,
            "the state of a replica differs from the others': it must stop"
        );
        if node == core.me.node {
            core.judged(index, &digest);
            continue;
        }
        let address = membership.get_node(&node).map_or("", |node| &node.addr);
        let target = link.target(node, address, Lane::Other);
        let told = link.call::<_, ()>(node, &target, ODD, Odd { index, digest }, ANSWER_WITHIN);
        if let Err(error) = told.await {
            tracing::warn!(%error, "a replica that differs was not told");
        }
    }
}

/// The replicas that differ from a majority of `voters`, with the first index where they do and the digest that is
/// right there.
fn odd(replicas: &BTreeMap<u64, Points>, voters: &BTreeSet<u64>, leader: u64) -> Vec<(u64, u64, Digest)> {
    let mut at: BTreeMap<u64, Vec<(u64, Digest)>> = BTreeMap::new();
    for (node, points) in replicas {
        for (index, digest) in points {
            at.entry(*index).or_default().push((*node, *digest));
        }
    }
    let mut odd: BTreeMap<u64, (u64, Digest)> = BTreeMap::new();
    for (index, digests) in at {
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        for (_, digest) in digests.iter().filter(|(node, _)| voters.contains(node)) {
            *counts.entry(*digest).or_default() += 1;
        }
        let majority = counts.iter().find(|(_, count)| **count * 2 > voters.len());
        let all_heard = counts.values().sum::<usize>() == voters.len();
        let leaders = digests.iter().find(|(node, _)| *node == leader && all_heard);
        let right = majority.map(|(digest, _)| *digest);
        let Some(right) = right.or(leaders.map(|(_, digest)| *digest)) else {
            continue;
        };
        for (node, digest) in &digests {
            if *digest != right {
                // The first index at which it differs says most.
                odd.entry(*node).or_insert((index, right));
            }
        }
    }
    odd.into_iter()
        .map(|(node, (index, digest))| (node, index, digest))
        .collect()
}

impl Core {
    /// The majority's digest at `index` is `digest`: if this replica noted another one, it must not go on.
    pub(super) fn judged(&self, index: u64, digest: &Digest) {
        let mine = self.digests.all().into_iter().find(|(at, _)| *at == index);
        match mine {
            Some((_, mine)) if mine != *digest => self.health.condemn(format!(
                "the state of node {:016x} differs from the others' at log index {index}",
                self.me.node
            )),
            // Only its own record can stop a replica: a mistaken judge cannot.
            _ => tracing::warn!(index, "this replica was called different without reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(replicas: &[(u64, &[(u64, u8)])], expected: &[(u64, u64)]) {
        let replicas = replicas.iter().map(|(node, points)| {
            let points = points.iter().map(|(index, digest)| (*index, [*digest; 32]));
            (*node, points.collect())
        });
        let found = odd(&replicas.collect(), &BTreeSet::from([1, 2, 3]), 1);
        let found: Vec<_> = found.into_iter().map(|(node, index, _)| (node, index)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_odd_one_is_found() {
        check(&[(1, &[(8, 1)]), (2, &[(8, 1)]), (3, &[(8, 1)])], &[]);
        check(&[(1, &[(8, 1)]), (2, &[(8, 2)]), (3, &[(8, 1)])], &[(2, 8)]);
        check(&[(1, &[(8, 2)]), (2, &[(8, 1)]), (3, &[(8, 1)])], &[(1, 8)]);
        check(&[(1, &[(8, 1)]), (2, &[(8, 1)]), (9, &[(8, 3)])], &[(9, 8)]);
        // Two of three that differ: nobody knows which is right until the third is heard.
        check(&[(1, &[(8, 2)]), (2, &[(8, 1)])], &[]);
        check(
            &[(1, &[(8, 1)]), (2, &[(8, 2)]), (3, &[(8, 3)])],
            &[(2, 8), (3, 8)],
        );
        check(
            &[
                (1, &[(8, 1), (16, 5)]),
                (2, &[(8, 2), (16, 6)]),
                (3, &[(8, 1), (16, 5)]),
            ],
            &[(2, 8)],
        );
        check(&[(1, &[(8, 1)]), (2, &[(16, 2)]), (3, &[])], &[]);
    }
}
