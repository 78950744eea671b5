//! restic: a repository on the store through its whole life.

use ullage_integration::clients::Client;
use ullage_integration::trees::{assert_same_trees, make_odd_tree};

use crate::{Work, store};

#[tokio::test(flavor = "multi_thread")]
async fn restic_backs_up_checks_restores_and_prunes() -> anyhow::Result<()> {
    let store = store().await?;
    let Some(restic) = Client::of("restic_backs_up_checks_restores_and_prunes", "restic", &store)? else {
        return Ok(());
    };
    let work = Work::new()?;
    let restic = restic
        .with(
            "RESTIC_REPOSITORY",
            &format!("s3:http://{}/restic/deep/inside", store.s3_address()),
        )
        .with("RESTIC_PASSWORD", "cellar")
        .with("RESTIC_CACHE_DIR", &work.path("cache").to_string_lossy());
    let run = |arguments: &[&str]| work.run(&restic, arguments);
    run(&["init"])?;
    assert!(work.fails(&restic, &["init"])?.contains("already"));

    run(&["backup", "--tag", "first", "tree"])?;
    std::fs::rename(work.path("tree"), work.path("first"))?;
    make_odd_tree(&work.path("tree"))?;
    std::fs::write(work.path("tree/added"), vec![7; 3_000_000])?;
    std::fs::remove_file(work.path("tree/.hidden"))?;
    let second = run(&["backup", "--json", "--tag", "second", "tree"])?;
    let summary = second.lines().find(|line| line.contains("\"summary\""));
    let summary: serde_json::Value = serde_json::from_str(summary.unwrap_or_default())?;
    assert!(
        summary["data_added"]
            .as_u64()
            .is_some_and(|bytes| bytes < 6_000_000),
        "the second backup holds what is new: {summary}"
    );
    run(&["check", "--read-data"])?;
    let snapshots: serde_json::Value = serde_json::from_str(&run(&["snapshots", "--json"])?)?;
    assert_eq!(snapshots.as_array().map(Vec::len), Some(2), "{snapshots}");

    run(&[
        "restore",
        "--tag",
        "first",
        "--target",
        "restored-first",
        "latest",
    ])?;
    assert_same_trees(&work.path("first"), &work.path("restored-first/tree"))?;
    run(&["restore", "--target", "restored", "latest"])?;
    work.is_tree("restored/tree")?;

    run(&["forget", "--keep-tag", "second", "--prune"])?;
    run(&["check", "--read-data"])?;
    run(&["restore", "--target", "pruned", "latest"])?;
    work.is_tree("pruned/tree")
}
