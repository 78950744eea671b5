//! Durable before acknowledged, seen from outside: strace shows the syncs that ended before each 200.

use anyhow::ensure;
use ullage_integration::clients::{find, skip};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::layout;
use ullage_integration::seed;
use ullage_integration::standalone::{Options, Standalone};
use ullage_integration::syscalls::{Trace, wrapper};

const BUCKET: &str = "traced";

#[tokio::test(flavor = "multi_thread")]
async fn every_200_comes_after_the_syncs_it_stands_for() -> anyhow::Result<()> {
    let name = "every_200_comes_after_the_syncs_it_stands_for";
    let seed = seed::announce(name);
    if find("strace").is_none() {
        skip(name, "strace is not installed (`make test-tools` installs it)");
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let output = directory.path().join("trace");
    let options = Options {
        wrapper: wrapper(&output)?,
        ..Options::default()
    };
    let mut standalone = Standalone::start(options).await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    let lengths: [u64; 4] = [10, 4_000, 100_000, 9_000_000];
    for length in lengths {
        let content = Content::new(seed, "traced", length);
        s3.put(BUCKET, &format!("object-{length}"), Body::Content(content))
            .await?;
    }
    s3.delete(BUCKET, "object-10").await?;
    s3.put_multipart(BUCKET, "parts", Content::new(seed, "parts", 6 << 20), 5 << 20)
        .await?;
    let data = standalone.data().to_owned();
    standalone.stop().await?;
    let trace = Trace::read(&output).await?;

    let (metad, vendors) = (layout::metad(&data), layout::vendor_directories(&data)?);
    let check = |request: &str, answer: &str, to_vendors: bool| -> anyhow::Result<()> {
        let synced = trace.synced_between(request, answer)?;
        let below = |directory: &std::path::Path| {
            synced
                .iter()
                .any(|path| path.starts_with(&*directory.to_string_lossy()))
        };
        ensure!(
            below(&metad),
            "{request}: nothing of metad was synced before {answer}: {synced:?}"
        );
        let at = vendors.iter().filter(|vendor| below(vendor)).count();
        ensure!(
            !to_vendors || at >= 2,
            "{request}: synced at {at} vendors instead of 2 before {answer}: {synced:?}"
        );
        Ok(())
    };
    check(&format!("PUT /{BUCKET} "), "HTTP/1.1 200", false)?;
    for length in lengths {
        check(
            &format!("PUT /{BUCKET}/object-{length} "),
            "HTTP/1.1 200",
            length > 4096,
        )?;
    }
    check(&format!("DELETE /{BUCKET}/object-10 "), "HTTP/1.1 204", false)?;
    for number in [1, 2] {
        check(
            &format!("PUT /{BUCKET}/parts?partNumber={number}&"),
            "HTTP/1.1 200",
            true,
        )?;
    }
    check(&format!("POST /{BUCKET}/parts?uploadId="), "HTTP/1.1 200", false)
}
