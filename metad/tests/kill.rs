//! The service killed in the middle of storing, deleting, closing and erasing: what was acknowledged holds, the
//! table's sums hold, and in the end all room comes back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fakes;

use fakes::{GIB, Gateway, Node, Vendor, eventually};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::limits::{CHUNK_BYTES_DEFAULT, SESSION_MS};
use ullage_model::wire::metad::{Answer, Found, Query};

const CHILD_HOME: &str = "ULLAGE_TEST_CHILD_HOME";
const ROUNDS: usize = 5;

async fn vendors(node: &Node) -> [Arc<Vendor>; 2] {
    [
        Vendor::register(node, "a", 8 * GIB).await,
        Vendor::register(node, "b", 8 * GIB).await,
    ]
}

/// One gateway that stores, deletes, gives up and returns without end, and says what was acknowledged.
async fn work(node: &Node, gateway: &Gateway, vendors: &[Arc<Vendor>; 2]) {
    let both = [&*vendors[0], &*vendors[1]];
    let class = gateway.class(node).await;
    for turn in 0_u64.. {
        let fat = gateway.allocate(node, 64 << 20).await;
        for object in 0..4 {
            let key = format!("{}/{turn}/{object}", gateway.session.0);
            gateway.put(node, &key, fat.lease, &both).await;
            println!("stored {key}");
            if object % 2 == 0 {
                println!("deleting {key}");
                gateway.delete(node, &key).await;
                println!("deleted {key}");
            }
        }
        let blob = gateway.blob();
        let chunks = (0..4).map(|_| gateway.chunk(fat.lease, CHUNK_BYTES_DEFAULT, &both));
        let slice = Gateway::slice(blob, 0, chunks.collect(), class.clone());
        assert_eq!(gateway.submit(node, slice).await, Ok(Reply::Done));
        if turn % 2 == 0 {
            let abandoned = gateway.submit(node, SessionCommand::AbandonBlob { blob }).await;
            assert_eq!(abandoned, Ok(Reply::Done));
        }
        let returned = SessionCommand::ReturnLease { lease: fat.lease };
        assert_eq!(gateway.submit(node, returned).await, Ok(Reply::Done));
        gateway.renew(node, u64::MAX).await.unwrap();
    }
}

/// Runs only as a child of the next test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_works_until_it_is_killed() {
    let Ok(home) = std::env::var(CHILD_HOME) else {
        return;
    };
    let node = Node::start(Path::new(&home)).await;
    let vendors = vendors(&node).await;
    for vendor in &vendors {
        vendor.heartbeat(&node).await;
    }
    let (one, two) = (Gateway::open(&node).await, Gateway::open(&node).await);
    let beats = async {
        loop {
            for vendor in &vendors {
                vendor.heartbeat(&node).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::join!(work(&node, &one, &vendors), work(&node, &two, &vendors), beats);
}

/// What the child has acknowledged: objects that must be there, and those that may be gone or must be.
#[derive(Default)]
struct Acknowledged {
    stored: BTreeSet<String>,
    deleting: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace().rev();
        let (Some(key), Some(word)) = (words.next(), words.next()) else {
            return;
        };
        let set = match word {
            "stored" => &mut self.stored,
            "deleting" => &mut self.deleting,
            "deleted" => &mut self.deleted,
            _ => return,
        };
        set.insert(key.to_owned());
    }
}

fn run_and_kill(home: &Path, lines_wanted: usize, acknowledged: &mut Acknowledged) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_that_works_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_HOME, home)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut heard) = (String::new(), 0);
    while output.read_line(&mut line).unwrap() > 0 {
        // The kill may cut the last line short; what it would have said is not claimed.
        if line.ends_with('\n') {
            acknowledged.hear(&line);
        }
        line.clear();
        heard += 1;
        if heard == lines_wanted {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(
        heard >= lines_wanted,
        "the child stopped by itself after {heard} lines"
    );
}

async fn is_there(node: &Node, gateway: &Gateway, key: &str) -> bool {
    let object = Query::Object {
        bucket: gateway.bucket.bucket,
        key: key.to_owned(),
        version: None,
        range: None,
    };
    matches!(node.ask(object).await, Answer::Object(Found::Object(_)))
}

async fn verify(home: &Path, acknowledged: &Acknowledged) {
    let node = Node::start(home).await;
    let gateway = Gateway::open(&node).await;
    for key in acknowledged.stored.difference(&acknowledged.deleting) {
        assert!(is_there(&node, &gateway, key).await, "{key} was stored");
    }
    for key in &acknowledged.deleted {
        assert!(!is_there(&node, &gateway, key).await, "{key} was deleted");
    }
    node.metad.end_session(gateway.session).await.unwrap();
    node.stop(home).await;
}

/// Deletes everything and lets everybody go: all room must come back.
async fn clean_up(home: &Path) {
    let node = Node::start(home).await;
    let vendors = vendors(&node).await;
    node.pass(SESSION_MS + 1000).await;
    let gateway = Gateway::open(&node).await;
    loop {
        let list = Query::List(ullage_model::wire::metad::ListRequest {
            bucket: gateway.bucket.bucket,
            prefix: String::new(),
            delimiter: String::new(),
            after: None,
            limit: 100,
        });
        let Answer::List(page) = node.ask(list).await else {
            panic!("no list")
        };
        if page.objects.is_empty() {
            break;
        }
        for (key, _) in page.objects {
            gateway.delete(&node, &key).await;
        }
    }
    eventually("all room is free", async || {
        gateway.renew(&node, u64::MAX).await.unwrap();
        for vendor in &vendors {
            vendor.heartbeat(&node).await;
        }
        let rooms = node.vendors().await;
        rooms.iter().all(|(_, _, room)| room.free() == room.capacity)
    })
    .await;
    node.stop(home).await;
}

#[test]
fn after_kills_what_was_acknowledged_holds_and_all_room_comes_back() {
    let home = TempDir::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        run_and_kill(home.path(), 60 + 70 * round, &mut acknowledged);
        runtime.block_on(verify(home.path(), &acknowledged));
    }
    runtime.block_on(clean_up(home.path()));
}
