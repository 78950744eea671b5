//! How a group begins, who is let in and who is refused.

use super::loopback::addresses;
use super::node::{PATIENCE, World, eventually, free_address, leader};
use std::time::Duration;
use ullage_metad::store::NO_CLUSTER;
use ullage_model::wire::members::MembersRequest;

#[test]
fn the_first_listed_node_makes_the_cluster_and_the_others_are_adopted() {
    let world = World::default();
    let first = addresses(3);
    let second = world.start(1, &first[1], &first);
    let third = world.start(2, &first[2], &first);
    // Two of three, the founder not among them: nothing begins.
    let early = second.run(second.group.ready(Duration::from_secs(2)));
    assert!(early.is_err(), "a cluster began without its founder");
    assert_eq!(second.group.identity().cluster, NO_CLUSTER);
    let founder = world.start(0, &first[0], &first);
    let nodes = [founder, second, third];
    for node in &nodes {
        node.ready();
    }
    let cluster = nodes[0].group.identity().cluster;
    assert_ne!(cluster, NO_CLUSTER);
    let members = nodes[0].group.members();
    assert!(
        members.members.iter().all(|member| member.voter) && !members.joint,
        "{members:?}"
    );
    for node in &nodes {
        assert_eq!(node.group.identity().cluster, cluster);
        assert_eq!(node.group.members().members.len(), 3);
    }
    // All of it is remembered.
    let ids: Vec<u64> = nodes.iter().map(super::node::Node::id).collect();
    for node in nodes {
        node.shut_down();
    }
    let nodes: Vec<_> = (0..3)
        .map(|number| world.start(number, &first[number], &first))
        .collect();
    for (node, id) in nodes.iter().zip(ids) {
        node.ready();
        assert_eq!((node.id(), node.group.identity().cluster), (id, cluster));
    }
}

#[test]
fn an_empty_node_that_finds_a_cluster_learns_and_becomes_a_voter_by_an_operators_word_only() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let led = leader(&nodes);
    nodes[led].put_soon("before", "x");
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let newcomer = world.start(3, &free_address(), &first);
    newcomer.ready();
    eventually("the newcomer has what was written", || {
        newcomer.applied("before").is_some()
    });
    let members = nodes[led].group.members();
    let found = members.members.iter().find(|member| member.node == newcomer.id());
    assert!(found.is_some_and(|member| !member.voter), "{members:?}");
    let request = MembersRequest::Add {
        address: newcomer.address.clone(),
        replaces: None,
    };
    let members = nodes[led]
        .run(nodes[led].group.change_members(request, PATIENCE))
        .unwrap();
    assert_eq!(
        members.members.iter().filter(|member| member.voter).count(),
        4,
        "{members:?}"
    );
    nodes.push(newcomer);
}

#[test]
fn a_node_that_comes_back_elsewhere_is_found_there() {
    let world = World::default();
    let mut nodes = world.cluster(3);
    let first: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let led = leader(&nodes);
    let follower = (led + 1) % 3;
    nodes.remove(follower).shut_down();
    let elsewhere = free_address();
    let back = world.start(follower, &elsewhere, &first);
    back.ready();
    let id = back.id();
    nodes.push(back);
    eventually("everybody knows the new address", || {
        nodes.iter().all(|node| {
            let members = node.group.members();
            let member = members.members.into_iter().find(|member| member.node == id);
            member.is_some_and(|member| member.address == elsewhere && member.voter)
        })
    });
    let led = leader(&nodes);
    nodes[led].put_soon("after", "x");
    eventually("it is given entries there", || {
        nodes[2].applied("after").is_some()
    });
}

#[test]
fn nodes_of_another_secret_do_not_meet() {
    let world = World::default();
    let first = addresses(2);
    let founder = world.start(0, &first[0], &first);
    let stranger = World {
        secret: [8; 32],
        ..World::default()
    };
    let stranger = stranger.start(1, &first[1], &first);
    let waited = founder.run(founder.group.ready(Duration::from_secs(3)));
    assert!(waited.is_err(), "a cluster began with a stranger");
    assert_eq!(founder.group.identity().cluster, NO_CLUSTER);
    assert_eq!(stranger.group.identity().cluster, NO_CLUSTER);
}
