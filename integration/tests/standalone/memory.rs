//! Memory is bounded under load: many large uploads at once, slow senders, an idle server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ullage_integration::content::Content;
use ullage_integration::http1::{Body, Connection};
use ullage_integration::process::anonymous_bytes;
use ullage_integration::s3::{Request, S3};
use ullage_integration::seed;
use ullage_integration::standalone::{Options, Standalone};

const BUCKET: &str = "memory";
const MIB: u64 = 1 << 20;
/// What an idle standalone may hold.
const IDLE_BYTES: u64 = 150 * MIB;
/// What load may add to it.
const ABOVE_IDLE_BYTES: u64 = 512 * MIB;

/// Watches a process; the most anonymous memory seen, once stopped.
fn watch(pid: u32) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(async move {
        let mut most = 0;
        while !stopped.load(Ordering::Relaxed) {
            most = most.max(anonymous_bytes(pid).unwrap_or(0));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        most
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_large_uploads_at_once_stay_within_bounds() -> anyhow::Result<()> {
    let seed = seed::announce("sixty_four_large_uploads_at_once_stay_within_bounds");
    // 256 in the long run; what is held at once does not depend on it.
    let upload_mib = seed::number_from_env("ULLAGE_TEST_UPLOAD_MIB", 32);
    let capacity = (64 * upload_mib * MIB * 5 / 4).max(4 << 30);
    let options = Options {
        device_capacity: Some(capacity),
        ..Options::single()
    };
    let standalone = Standalone::start(options).await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = anonymous_bytes(standalone.pid()?)?;
    assert!(idle <= IDLE_BYTES, "{idle} bytes when idle");

    let (stop, watcher) = watch(standalone.pid()?);
    let mut uploads = Vec::new();
    for index in 0..64 {
        let s3 = s3.clone();
        uploads.push(tokio::spawn(async move {
            let key = format!("large/{index}");
            let content = Content::new(seed, &key, upload_mib * MIB);
            // Refused for lack of memory is an answer; a client tries again.
            for _ in 0..600 {
                let answer = s3
                    .send(&Request::object("PUT", BUCKET, &key), Body::Content(content))
                    .await?;
                if answer.status() == 503 {
                    assert_eq!(answer.element("Code").as_deref(), Some("SlowDown"));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                answer.expect(200)?;
                return anyhow::Ok((key, content));
            }
            anyhow::bail!("{key} was refused again and again")
        }));
    }
    let mut stored = Vec::new();
    for upload in uploads {
        stored.push(upload.await??);
    }
    stop.store(true, Ordering::Relaxed);
    let most = watcher.await?;
    println!("idle {} MiB, at most {} MiB", idle / MIB, most / MIB);
    assert!(
        most <= idle + ABOVE_IDLE_BYTES,
        "{most} bytes under load, {idle} when idle"
    );
    for (key, content) in stored.iter().step_by(8) {
        s3.check(BUCKET, key, *content).await?;
    }
    Ok(())
}

/// A PUT as SDKs do it: told to slow down, they try again, five times in all, each time after a longer pause.
async fn put_patiently(s3: &S3, key: &str, content: Content) -> anyhow::Result<()> {
    let request = Request::object("PUT", BUCKET, key);
    for attempt in 1..5 {
        let answer = s3.send(&request, Body::Content(content)).await?;
        if answer.status() != 503 {
            return answer.expect(200).map(|_| ());
        }
        assert_eq!(answer.element("Code").as_deref(), Some("SlowDown"));
        tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
    }
    s3.put(BUCKET, key, Body::Content(content)).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_and_idle_connections_hold_up_nobody() -> anyhow::Result<()> {
    let seed = seed::announce("slow_senders_and_idle_connections_hold_up_nobody");
    let standalone = Standalone::start_default().await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    let idle = anonymous_bytes(standalone.pid()?)?;
    let content = Content::new(seed, "slow", 64 * MIB);
    let mut held = Vec::new();
    for index in 0..300 {
        let mut connection = Connection::open(s3.address()).await?;
        if index % 3 != 0 {
            let head = s3.head_bytes(
                &Request::object("PUT", BUCKET, &format!("slow/{index}")),
                content.length,
            );
            connection.send_raw(&head).await?;
            // A refused one is closed by the server; that is as good as held.
            let _ = connection.send_raw(content.slice(0, 10_000)).await;
        }
        held.push(connection);
    }
    let begun = std::time::Instant::now();
    for index in 0..20 {
        let content = Content::new(seed, "quick", 100_000);
        put_patiently(&s3, &format!("quick/{index}"), content).await?;
    }
    // Far less than what one slow sender may take by itself.
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "others' PUTs took {:?}",
        begun.elapsed()
    );
    let now = anonymous_bytes(standalone.pid()?)?;
    assert!(
        now <= idle + ABOVE_IDLE_BYTES,
        "{now} bytes with {} slow senders",
        held.len()
    );
    Ok(())
}
