//! Who is listened to: each of the four names in a message's head must fit, and an empty node is adopted once.

use super::Appender;
use crate::raft::wire::{Head, PeerError};
use crate::raft::{Group, GroupConfig, GroupParts, Metrics, Peers};
use crate::store::{Budget, DataDirectory, NO_CLUSTER, Steps};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::{Identity, Peer};
use ullage_transport::network::TokioNetwork;

/// A member that nobody has spoken to yet.
async fn empty_member(home: &Path) -> Group {
    let data = DataDirectory::open_member(home, 0, &mut |bytes| bytes.fill(3)).unwrap();
    let authority = Authority::derive(&ClusterSecret::new([1; 32])).unwrap();
    let me = Identity::Metad(data.identity().node);
    let credentials = Credentials::issued_by(&authority, me, SystemTime::now()).unwrap();
    let peers = Peers {
        client: Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default()),
        first: Vec::new(),
    };
    let parts = GroupParts {
        data,
        budget: Budget::new(8 << 20, 16 << 20),
        machine: Arc::new(Appender),
        metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
        steps: Steps::default(),
        peers: Some(peers),
        seed: None,
    };
    let config = GroupConfig::member("127.0.0.1:1".to_owned());
    Group::start(&config, parts).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_messages_that_name_everybody_rightly_are_heard() {
    let home = tempfile::tempdir().unwrap();
    let group = empty_member(home.path()).await;
    let core = group.core();
    let me = core.me.node;
    let right = Head {
        cluster: 5,
        group: 0,
        from: 11,
        to: me,
    };
    let sender = Peer::Known(Identity::Metad(11));
    let nobodys = Head {
        cluster: NO_CLUSTER,
        ..right
    };
    let wrong = [
        (right, Peer::Anonymous, PeerError::OtherSender),
        (right, Peer::Known(Identity::Metad(12)), PeerError::OtherSender),
        (right, Peer::Known(Identity::Gateway(11)), PeerError::OtherSender),
        (Head { to: me + 1, ..right }, sender, PeerError::OtherNode(me)),
        (Head { group: 1, ..right }, sender, PeerError::OtherGroup(0)),
        (nobodys, sender, PeerError::OtherCluster(NO_CLUSTER)),
    ];
    for (head, peer, why) in wrong.clone() {
        assert_eq!(core.admit(&head, peer).await, Err(why));
        assert_eq!(core.me.cluster(), None, "nobody who is refused adopts: {head:?}");
    }
    assert_eq!(core.admit(&right, sender).await, Ok(()));
    assert_eq!(core.me.cluster(), Some(5));
    assert_eq!(
        core.data.identity().cluster,
        5,
        "it is on disk before it is believed"
    );
    let other = Head { cluster: 6, ..right };
    assert_eq!(core.admit(&other, sender).await, Err(PeerError::OtherCluster(5)));
    for (head, peer, _) in wrong {
        assert!(core.admit(&head, peer).await.is_err(), "{head:?}");
    }
    drop(core);
    group.shutdown().await;
}
