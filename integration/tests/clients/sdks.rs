//! SDKs driven by scripts beside this file, each of which ends with the words `all well`.

use ullage_integration::clients::Client;

use crate::{Work, script, store};

async fn run_script(test: &str, interpreter: &str, name: &str) -> anyhow::Result<()> {
    let store = store().await?;
    let Some(interpreter) = Client::of(test, interpreter, &store)? else {
        return Ok(());
    };
    let work = Work::new()?;
    let printed = work.run(&interpreter, &[&script(name).to_string_lossy()])?;
    assert_eq!(printed.lines().last(), Some("all well"), "{printed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_javascript_streams_pages_waits_and_presigns() -> anyhow::Result<()> {
    let test = "the_sdk_for_javascript_streams_pages_waits_and_presigns";
    run_script(test, "node-aws-sdk", "sdk.cjs").await
}

#[tokio::test(flavor = "multi_thread")]
async fn pyarrow_writes_and_reads_parquet_datasets() -> anyhow::Result<()> {
    run_script(
        "pyarrow_writes_and_reads_parquet_datasets",
        "python",
        "parquet.py",
    )
    .await
}
