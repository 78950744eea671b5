//! The whole gateway as a process runs it.

use super::{Cluster, SECRET, nobody, until};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use ullage_gateway::config::{GatewayConfig, Secret};
use ullage_gateway::error::Error;
use ullage_gateway::{Seams, run};
use ullage_model::fat::query;
use ullage_model::fat::rows::SessionState;

fn secret_file(directory: &Path, name: &str, bytes: [u8; 32]) -> PathBuf {
    use std::io::Write as _;
    let path = directory.join(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    writeln!(file, "{}", hex::encode(bytes)).unwrap();
    path
}

async fn free_port() -> SocketAddr {
    let text = nobody().await;
    let port = text.parse::<SocketAddr>().unwrap().port();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

async fn config(directory: &Path, metad: Vec<String>) -> GatewayConfig {
    GatewayConfig {
        data: Some(directory.to_owned()),
        listen: free_port().await,
        admin_listen: free_port().await,
        metad,
        cluster_secret_file: Some(secret_file(directory, "cluster-secret", SECRET)),
        kek_file: Some(secret_file(directory, "kek", [7; 32])),
        root_access_key: Some("AKROOT".to_owned()),
        root_secret_key: Some(Secret::from("a secret of the tests".to_owned())),
        ..GatewayConfig::default()
    }
}

/// The status and head of an answer to a GET, or nothing when nobody listens.
async fn get(address: SocketAddr, target: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer.to_lowercase())
}

async fn until_ready(address: SocketAddr, status: &str) -> String {
    let began = Instant::now();
    loop {
        if let Some(answer) = get(address, "/health/ready").await
            && answer.starts_with(&format!("http/1.1 {status}"))
        {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "never {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_listens_before_the_metadata_service_answers_and_ends_its_session_when_told_to_stop() {
    let cluster = Cluster::start(3, 1).await;
    let directory = tempfile::tempdir().unwrap();
    let node = &cluster.nodes[0];
    node.1.hangs.store(true, std::sync::atomic::Ordering::SeqCst);
    let config = config(directory.path(), vec![node.0.address.clone()]).await;
    let (s3, admin) = (config.listen, config.admin_listen);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, Seams::real(), stop.clone()));
    until_ready(admin, "503").await;
    let early = get(s3, "/").await.unwrap();
    assert!(
        early.starts_with("http/1.1 503") && early.contains("retry-after"),
        "{early}"
    );
    assert!(
        get(admin, "/health/live")
            .await
            .unwrap()
            .starts_with("http/1.1 200")
    );

    node.1.hangs.store(false, std::sync::atomic::Ordering::SeqCst);
    until_ready(admin, "200").await;
    assert!(
        get(s3, "/").await.unwrap().starts_with("http/1.1 403"),
        "unsigned"
    );
    let live = || {
        let sessions = cluster.metad.read(|rows| query::sessions(rows).unwrap());
        sessions
            .iter()
            .filter(|row| row.state == SessionState::Live && row.gateway.contains(&s3.to_string()))
            .count()
    };
    assert!(live() > 0);
    stop.cancel();
    running.await.unwrap().unwrap();
    // Others may have been opened by calls that hung; they end by their silence.
    until("its session has ended", || live() <= 1).await;
    assert!(get(s3, "/").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_waits_for_the_metadata_service_can_be_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), vec![nobody().await]).await;
    let admin = config.admin_listen;
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, Seams::real(), stop.clone()));
    until_ready(admin, "503").await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_told_at_the_start() {
    let cluster = Cluster::start(2, 1).await;
    cluster.gateway(&cluster.addresses()).await;
    let directory = tempfile::tempdir().unwrap();
    let good = config(directory.path(), cluster.addresses()).await;
    let run = |config| run(config, Seams::real(), CancellationToken::new());
    let without = |change: fn(&mut GatewayConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    for (config, named) in [
        (without(|it| it.kek_file = None), "kek_file"),
        (without(|it| it.cluster_secret_file = None), "cluster_secret_file"),
        (without(|it| it.metad.clear()), "metad"),
        (
            without(|it| {
                it.root_access_key = None;
                it.root_secret_key = None;
            }),
            "root_access_key",
        ),
    ] {
        let error = run(config).await.unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
    let other = secret_file(directory.path(), "other-kek", [8; 32]);
    let mut config = good.clone();
    config.kek_file = Some(other);
    assert!(matches!(run(config).await, Err(Error::WrongKek(_))));
}
