//! s5cmd: many files at once, wildcards, parts side by side.

use ullage_integration::clients::Client;

use crate::{Work, store, tree_names};

#[tokio::test(flavor = "multi_thread")]
async fn s5cmd_copies_syncs_moves_and_removes() -> anyhow::Result<()> {
    let store = store().await?;
    let Some(s5cmd) = Client::of("s5cmd_copies_syncs_moves_and_removes", "s5cmd", &store)? else {
        return Ok(());
    };
    let work = Work::new()?;
    let run = |arguments: &[&str]| work.run(&s5cmd, arguments);
    run(&["mb", "s3://s5cmd"])?;
    run(&[
        "cp",
        "--part-size",
        "5",
        "--concurrency",
        "4",
        "tree/",
        "s3://s5cmd/tree/",
    ])?;
    let listed = run(&["--json", "ls", "s3://s5cmd/tree/*"])?;
    let mut names = Vec::new();
    for line in listed.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        names.push(
            entry["key"]
                .as_str()
                .unwrap_or_default()
                .replace("s3://s5cmd/tree/", ""),
        );
    }
    assert_eq!(names, tree_names());
    run(&["cp", "s3://s5cmd/tree/*", "back/"])?;
    work.is_tree("back")?;
    assert_eq!(
        run(&["sync", "--size-only", "tree/", "s3://s5cmd/tree/"])?,
        "",
        "nothing changed"
    );

    std::fs::write(work.path("tree/.hidden"), "another length")?;
    std::fs::remove_file(work.path("tree/empty"))?;
    let synced = run(&["sync", "--delete", "tree/", "s3://s5cmd/tree/"])?;
    assert!(synced.contains("rm s3://s5cmd/tree/empty"), "{synced}");
    assert!(synced.contains("cp tree/.hidden"), "{synced}");
    run(&["sync", "--delete", "s3://s5cmd/tree/*", "synced/"])?;
    work.is_tree("synced")?;

    run(&["mv", "s3://s5cmd/tree/large", "s3://s5cmd/moved"])?;
    run(&[
        "cp",
        "--part-size",
        "5",
        "--concurrency",
        "3",
        "s3://s5cmd/moved",
        "moved",
    ])?;
    work.is_large("moved")?;
    let head: serde_json::Value = serde_json::from_str(&run(&["head", "s3://s5cmd/moved"])?)?;
    assert_eq!(head["size"], 12_000_000, "{head}");
    let missing = work.fails(&s5cmd, &["head", "s3://s5cmd/tree/large"])?;
    assert!(missing.contains("not found"), "{missing}");

    run(&["rm", "s3://s5cmd/*"])?;
    run(&["rb", "s3://s5cmd"])?;
    assert!(!run(&["ls"])?.contains("s3://s5cmd"));
    Ok(())
}
