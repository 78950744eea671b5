//! How vendors come in, speak, and are shut out.

use super::harness::{Caller, Cluster, Gateway, Vendor};
use super::is_refused;
use crate::fakes::{self, eventually};
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query;
use ullage_model::ids::{CopyId, VendorId};
use ullage_model::limits::{COPIES_PER_REPORT, OUTCOMES_PER_REPORT};
use ullage_model::rejection::Rejection;
use ullage_model::wire::agent::{
    CommandOutcome, DamagedCopy, Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply,
};
use ullage_model::wire::metad::MetadError;
use ullage_model::wire::routes;
use ullage_transport::client::CallError;
use ullage_transport::identity::Identity;

fn report(vendor: VendorId) -> Heartbeat {
    Heartbeat {
        vendor,
        devices: vec![fakes::device(1 << 30)],
        in_flight_bytes: 0,
        outcomes: Vec::new(),
        damaged: Vec::new(),
        found: Vec::new(),
        directory: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_enrols_once_by_its_invitation_and_again_by_its_key() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (leader, follower) = (&cluster.addresses[leader], &cluster.addresses[follower]);
    let gateway = Gateway::new(1);
    eventually("every node has told its address", async || {
        gateway.invite(follower, 1000).await.metad.len() == 3
    })
    .await;
    let token = gateway.invite(follower, 600_000).await;
    assert_eq!(token.authority, super::harness::authority().fingerprint().0);
    let (one, two) = (Vendor::new("one"), Vendor::new("two"));
    assert_eq!(
        is_refused(one.try_enrol(follower, None).await),
        Rejection::NotInvited
    );
    let (vendor, _) = one.try_enrol(follower, Some(token.secret)).await.unwrap();
    for (address, secret) in [(leader, Some(token.secret)), (follower, None)] {
        let (again, caller) = one.try_enrol(address, secret).await.unwrap();
        assert_eq!(again, vendor);
        let reply: HeartbeatReply = caller
            .call(address, routes::HEARTBEAT, &report(vendor))
            .await
            .unwrap();
        assert_eq!(reply.issuers.len(), 3, "grants of every node are good");
    }
    for address in [leader, follower] {
        let used = two.try_enrol(address, Some(token.secret)).await;
        assert_eq!(is_refused(used), Rejection::NotInvited, "used");
        let guessed = two.try_enrol(address, Some([9; 32])).await;
        assert_eq!(is_refused(guessed), Rejection::NotInvited);
    }
    let short = gateway.invite(follower, 1).await;
    let status = || cluster.nodes[0].as_ref().unwrap().metad().status().unwrap();
    let before = status().cluster_time;
    eventually("time passes", async || status().cluster_time > before.plus(1)).await;
    let late = two.try_enrol(follower, Some(short.secret)).await;
    assert_eq!(is_refused(late), Rejection::NotInvited, "expired");
    // Somebody else's key: a token is not enough, one must have the key that one names.
    let fresh = gateway.invite(follower, 600_000).await;
    let (mut forged, _) = two.enrolment(Some(fresh.secret));
    forged.register.public_key = one.registration().public_key;
    let (other, _) = two.enrolment(None);
    let mut another_tls_key = two.enrolment(Some(fresh.secret)).0;
    another_tls_key.tls_key = other.tls_key;
    for request in [forged, another_tls_key] {
        for address in [leader, follower] {
            let anonymous = Caller::anonymous();
            let answer =
                anonymous.call::<_, ullage_model::wire::enrol::EnrolReply>(address, routes::ENROL, &request);
            assert!(matches!(is_refused(answer.await), Rejection::Invalid(_)));
        }
    }
    two.try_enrol(follower, Some(fresh.secret))
        .await
        .expect("nobody has used it");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_speaks_for_itself_only_and_not_at_all_when_it_is_shut_out() {
    let cluster = Cluster::start(1).await;
    let address = &cluster.addresses[0];
    let gateway = Gateway::new(1);
    let mut vendors = Vec::new();
    for name in ["one", "two"] {
        let token = gateway.invite(address, 600_000).await;
        let vendor = Vendor::new(name);
        let (id, caller) = vendor.try_enrol(address, Some(token.secret)).await.unwrap();
        vendors.push((vendor, id, caller));
    }
    let [(one, first, caller), (two, second, other)] = vendors.try_into().unwrap_or_else(|_| panic!("two"));
    let judge = |vendor| JudgeRequest {
        vendor,
        copies: Vec::new(),
    };
    let beaten: Result<HeartbeatReply, _> = caller.call(address, routes::HEARTBEAT, &report(second)).await;
    is_refused(beaten);
    let judged: Result<JudgeReply, _> = caller.call(address, routes::JUDGE, &judge(second)).await;
    is_refused(judged);
    let registered: Result<RegisterReply, _> =
        caller.call(address, routes::REGISTER, &two.registration()).await;
    is_refused(registered);
    let unknown = Caller::known(Identity::Vendor(VendorId(77)));
    let registered: Result<RegisterReply, _> =
        unknown.call(address, routes::REGISTER, &two.registration()).await;
    assert_eq!(is_refused(registered), Rejection::NoSuchVendor(VendorId(77)));

    let again: RegisterReply = caller
        .call(address, routes::REGISTER, &one.registration())
        .await
        .unwrap();
    assert_eq!(again.vendor, first);
    let _: JudgeReply = caller.call(address, routes::JUDGE, &judge(first)).await.unwrap();

    let revoke = Command::RevokeVendor { vendor: first };
    let done: Reply = gateway
        .caller
        .call(address, routes::OPERATE, &revoke)
        .await
        .unwrap();
    assert_eq!(done, Reply::Done);
    let out = Rejection::VendorRevoked(first);
    let beaten: Result<HeartbeatReply, _> = caller.call(address, routes::HEARTBEAT, &report(first)).await;
    assert_eq!(is_refused(beaten), out);
    let registered: Result<RegisterReply, _> =
        caller.call(address, routes::REGISTER, &one.registration()).await;
    assert_eq!(is_refused(registered), out);
    let judged: Result<JudgeReply, _> = caller.call(address, routes::JUDGE, &judge(first)).await;
    assert_eq!(is_refused(judged), out);
    let token = gateway.invite(address, 600_000).await;
    assert_eq!(is_refused(one.try_enrol(address, Some(token.secret)).await), out);
    let reply: HeartbeatReply = other
        .call(address, routes::HEARTBEAT, &report(second))
        .await
        .unwrap();
    assert_eq!(reply.revoked, [first], "the others are told");
    let rows = cluster.nodes[0].as_ref().unwrap().metad().rows();
    assert_eq!(query::revoked(&**rows).unwrap(), [first]);
    drop(rows);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_longer_than_any_agents_is_refused() {
    let cluster = Cluster::start(1).await;
    let address = &cluster.addresses[0];
    let token = Gateway::new(1).invite(address, 600_000).await;
    let (vendor, caller) = Vendor::new("one")
        .try_enrol(address, Some(token.secret))
        .await
        .unwrap();
    let copies = vec![CopyId::default(); COPIES_PER_REPORT + 1];
    let damaged = |copy: &CopyId| DamagedCopy {
        copy: *copy,
        lost: false,
    };
    let closed = CommandOutcome::LeaseClosed {
        lease: ullage_model::ids::LeaseId(1),
    };
    let long = [
        Heartbeat {
            found: copies.clone(),
            ..report(vendor)
        },
        Heartbeat {
            damaged: copies.iter().map(damaged).collect(),
            ..report(vendor)
        },
        Heartbeat {
            outcomes: vec![closed; OUTCOMES_PER_REPORT + 1],
            ..report(vendor)
        },
    ];
    for report in long {
        let answer: Result<HeartbeatReply, _> = caller.call(address, routes::HEARTBEAT, &report).await;
        assert!(matches!(is_refused(answer), Rejection::Invalid(_)));
    }
    // As many enrolments at once as there never are: some are turned away, and nothing breaks.
    let burst = (0..200).map(|_| async { Vendor::new("one").try_enrol(address, None).await.map(drop) });
    let answers = futures::future::join_all(burst).await;
    let turned_away = answers
        .iter()
        .filter(|answer| matches!(answer, Err(CallError::Application(MetadError::Overloaded))));
    assert!(turned_away.count() > 0);
    assert!(cluster.metric(0, "ullage_metad_calls_not_admitted_total", "") > 0.0);
    cluster.stop().await;
}
