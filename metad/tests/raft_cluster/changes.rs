//! Changes of the members and of the leader.

use super::loopback::addresses;
use super::node::{Node, PATIENCE, World, eventually, free_address, leader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ullage_metad::Error;
use ullage_metad::store::{Step, Steps};
use ullage_model::wire::members::{MembersReply, MembersRequest};

fn change(nodes: &[Node], request: MembersRequest) -> Result<MembersReply, Error> {
    let led = leader(nodes);
    nodes[led].run(nodes[led].group.change_members(request, PATIENCE))
}

fn voters(members: &MembersReply) -> Vec<u64> {
    let voters = members.members.iter().filter(|member| member.voter);
    voters.map(|member| member.node).collect()
}

#[test]
fn a_lost_node_is_replaced_by_a_new_one_in_one_change() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let lost = nodes.remove((led + 1) % 3);
    let (old, number) = (lost.id(), lost.number);
    lost.kill();
    std::fs::rename(world.path(number), world.home.path().join("moved-away")).unwrap();
    // The same machine with an empty disk: another node.
    let fresh = world.start(number, &first[number], &first);
    let new = fresh.id();
    assert_ne!(new, old);
    let request = MembersRequest::Add {
        address: fresh.address.clone(),
        replaces: Some(old),
    };
    let members = change(&nodes, request).unwrap();
    assert!(
        voters(&members).contains(&new) && !voters(&members).contains(&old),
        "{members:?}"
    );
    assert!(
        members.members.iter().all(|member| member.node != old),
        "{members:?}"
    );
    fresh.ready();
    assert!(fresh.applied("before").is_some());
    // It counts: with it, the group survives the loss of another.
    nodes.push(fresh);
    let led = leader(&nodes);
    nodes.remove((led + 1) % 3).kill();
    let led = leader(&nodes);
    nodes[led].put_soon("after", "x");
}

#[test]
fn a_removal_that_would_leave_no_live_majority_is_refused() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let led = leader(&nodes);
    let dead = nodes.remove((led + 1) % 3);
    let dead_id = dead.id();
    dead.kill();
    let led = leader(&nodes);
    let live_id = nodes[1 - led].id();
    let refused = change(&nodes, MembersRequest::Remove { node: live_id });
    assert!(matches!(refused, Err(Error::Members { .. })), "{refused:?}");
    let unknown = change(&nodes, MembersRequest::Remove { node: 12345 });
    assert!(matches!(unknown, Err(Error::Members { .. })), "{unknown:?}");
    let members = change(&nodes, MembersRequest::Remove { node: dead_id }).unwrap();
    assert_eq!(voters(&members).len(), 2, "{members:?}");
}

#[test]
fn a_leader_that_is_removed_goes_and_the_others_go_on() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let gone = nodes[led].id();
    change(&nodes, MembersRequest::Remove { node: gone }).unwrap();
    let removed = nodes.remove(led);
    let led = leader(&nodes);
    nodes[led].put_soon("after", "x");
    assert_eq!(voters(&nodes[led].group.members()).len(), 2);
    eventually("it leads no more", || !removed.group.leads());
    // It does not come back by itself, not even after a while.
    std::thread::sleep(Duration::from_secs(4));
    let members = nodes[leader(&nodes)].group.members();
    assert!(
        members.members.iter().all(|member| member.node != gone),
        "{members:?}"
    );
}

#[test]
fn a_change_left_half_done_is_finished_by_the_next_leader() {
    let world = World::default();
    let slow = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&slow);
    let steps = Steps::hooked(move |step| {
        if step == Step::LogSync && hook.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    });
    let first = addresses(3);
    let mut nodes: Vec<Node> = (0..3)
        .map(|number| {
            world
                .try_start(number, &first[number], &first, steps.clone())
                .unwrap()
        })
        .collect();
    for node in &nodes {
        node.ready();
    }
    let newcomer = world.start(3, &free_address(), &first);
    newcomer.ready();
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let removed = nodes[(led + 1) % 3].id();
    // Slow syncs keep the change from being committed before its leader dies.
    slow.store(true, Ordering::SeqCst);
    let group = Arc::clone(&nodes[led].group);
    let request = MembersRequest::Add {
        address: newcomer.address.clone(),
        replaces: Some(removed),
    };
    drop(nodes[led].spawn(async move { group.change_members(request, PATIENCE).await }));
    let follower = &nodes[(led + 2) % 3];
    eventually("a follower has the half-done change", || {
        follower.group.members().joint
    });
    nodes.remove(led).kill();
    slow.store(false, Ordering::SeqCst);
    nodes.push(newcomer);
    // The one that goes is still needed: without it, the old members have no majority to finish with.
    let at = nodes.iter().position(|node| node.id() == removed).unwrap();
    let leaving = nodes.remove(at);
    eventually("the change is finished", || {
        nodes.iter().all(|node| {
            let members = node.group.members();
            !members.joint && !voters(&members).contains(&removed) && voters(&members).len() == 3
        })
    });
    leaving.kill();
    let led = leader(&nodes);
    nodes[led].put_soon("after", "x");
}

#[test]
fn the_leadership_is_handed_to_a_voter_that_is_there_and_to_no_other() {
    let world = World::default();
    let nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let learner = world.start(3, &free_address(), &first);
    learner.ready();
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let (leads, lags, fit) = (&nodes[led], &nodes[(led + 1) % 3], &nodes[(led + 2) % 3]);
    world.cuts.cut(leads.number, lags.number);
    world.cuts.cut(fit.number, lags.number);
    let soon = Duration::from_millis(1500);
    let hand_over = |to: Option<u64>, patience| leads.run(leads.group.hand_over(to, patience));
    for (to, why) in [
        (leads.id(), "itself"),
        (learner.id(), "a learner"),
        (lags.id(), "a node that is away"),
        (777, "nobody"),
    ] {
        let refused = hand_over(Some(to), soon);
        assert!(
            matches!(refused, Err(Error::Members { .. })),
            "{why}: {refused:?}"
        );
        assert!(leads.group.leads(), "the leadership was given away to {why}");
    }
    let next = hand_over(None, PATIENCE).unwrap();
    assert_eq!(next, fit.id());
    eventually("it leads", || fit.group.leads());
    fit.put_soon("after", "x");
    let refused = leads.run(leads.group.hand_over(None, soon));
    assert!(matches!(refused, Err(Error::NotLeader { .. })), "{refused:?}");
}

#[test]
fn two_operators_at_once_do_not_undo_each_other() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let newcomers = addresses(2);
    let newcomers: Vec<Node> = (0..2)
        .map(|at| world.start(3 + at, &newcomers[at], &first))
        .collect();
    let led = leader(&nodes);
    let group = &nodes[led].group;
    let add = |address: &str| {
        let request = MembersRequest::Add {
            address: address.to_owned(),
            replaces: None,
        };
        group.change_members(request, PATIENCE)
    };
    let (one, other) = (add(&newcomers[0].address), add(&newcomers[1].address));
    let (one, other) = nodes[led].run(async { tokio::join!(one, other) });
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    let members = group.members();
    assert!(!members.joint, "{members:?}");
    assert_eq!(voters(&members).len(), 5, "{members:?}");
    // Five go on without two.
    nodes.extend(newcomers);
    let led = leader(&nodes);
    let mut lost = vec![(led + 1) % 5, led];
    lost.sort_unstable();
    for at in lost.into_iter().rev() {
        nodes.remove(at).kill();
    }
    let led = leader(&nodes);
    nodes[led].put_soon("after", "x");
}

#[test]
fn nobody_waits_long_for_a_hand_over_to_nodes_that_stop_too() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let led = leader(&nodes);
    let leads = nodes.remove(led);
    for other in nodes {
        other.kill();
    }
    let began = std::time::Instant::now();
    let refused = leads.run(leads.group.hand_over(None, 4 * PATIENCE));
    assert!(refused.is_err(), "{refused:?}");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}
