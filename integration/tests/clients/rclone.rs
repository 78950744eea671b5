//! rclone, today's and the one of Debian 12: sync, check, changes, copies on the server, streams, deletes.

use ullage_integration::clients::Client;

use crate::{Work, sorted_lines, store, tree_names};

/// Parts from this size on, so that a file of a few MB shows them.
const PARTS: [&str; 4] = ["--s3-chunk-size", "5M", "--s3-upload-cutoff", "5M"];

#[tokio::test(flavor = "multi_thread")]
async fn rclone_of_today_syncs_checks_copies_and_deletes() -> anyhow::Result<()> {
    check(
        "rclone_of_today_syncs_checks_copies_and_deletes",
        "v1.75",
        "rclone-today",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_of_debian_syncs_checks_copies_and_deletes() -> anyhow::Result<()> {
    check(
        "rclone_of_debian_syncs_checks_copies_and_deletes",
        "v1.60",
        "rclone-debian",
    )
    .await
}

async fn check(test: &str, version: &str, bucket: &str) -> anyhow::Result<()> {
    let store = store().await?;
    let Some(rclone) = Client::version(test, "rclone", ("version", version), &store)? else {
        return Ok(());
    };
    let work = Work::new()?;
    let run = |arguments: &[&str]| work.run(&rclone, &[arguments, &PARTS].concat());
    let remote = |path: &str| format!("ullage:{bucket}/{path}");
    run(&["mkdir", &remote("")])?;

    run(&["sync", "tree", &remote("tree")])?;
    run(&["check", "tree", &remote("tree")])?;
    run(&["check", "--download", "tree", &remote("tree")])?;
    let listed = run(&["lsf", "-R", "--files-only", &remote("tree")])?;
    assert_eq!(sorted_lines(&listed), tree_names());
    run(&["sync", &remote("tree"), "back"])?;
    work.is_tree("back")?;

    // Only what changed is sent, by the times and checksums that rclone keeps.
    let sync = |log: &str| -> anyhow::Result<(usize, usize)> {
        run(&["sync", "-v", "--log-file", log, "tree", &remote("tree")])?;
        let log = std::fs::read_to_string(work.path(log))?;
        let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        Ok((count(": Copied ("), count(": Deleted")))
    };
    assert_eq!(sync("unchanged.log")?, (0, 0));
    std::fs::write(work.path("tree/empty"), "no more")?;
    std::fs::remove_file(work.path("tree/.hidden"))?;
    assert_eq!(sync("changed.log")?, (1, 1));
    run(&["check", "--download", "tree", &remote("tree")])?;

    // Copies stay on the server.
    let large = remote("tree/large");
    run(&[
        "copyto",
        "-v",
        "--log-file",
        "copies.log",
        &large,
        &remote("copies/kept"),
    ])?;
    run(&["copyto", &large, &remote("copies/whole")])?;
    run(&["moveto", &remote("copies/whole"), &remote("copies/moved")])?;
    // By parts too.
    run(&[
        "copyto",
        "--s3-copy-cutoff",
        "5M",
        &large,
        &remote("copies/parts"),
    ])?;
    assert!(std::fs::read_to_string(work.path("copies.log"))?.contains("server-side copy"));
    assert_eq!(
        sorted_lines(&run(&["lsf", &remote("copies")])?),
        ["kept", "moved", "parts"]
    );
    for name in ["kept", "moved", "parts"] {
        run(&["copyto", &remote(&format!("copies/{name}")), name])?;
        work.is_large(name)?;
    }
    let seen = run(&[
        "cat",
        "--offset",
        "5",
        "--count",
        "5",
        &remote("tree/dot./trailing."),
    ])?;
    assert_eq!(seen, "trail");

    for name in ["moved", "parts"] {
        run(&["deletefile", &remote(&format!("copies/{name}"))])?;
    }
    run(&["purge", &remote("tree")])?;
    assert_eq!(run(&["lsf", "-R", "--files-only", &remote("")])?, "copies/kept\n");
    run(&["purge", &remote("")])?;
    assert!(!run(&["lsd", "ullage:"])?.contains(bucket));
    Ok(())
}
