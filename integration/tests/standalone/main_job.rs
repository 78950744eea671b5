//! The main job with the tools that people use: the AWS CLI, boto3 and rclone on this repository's own
//! sources and on a 1 GiB file.

use std::path::Path;

use anyhow::{Context as _, ensure};
use ullage_integration::admin_json::Admin;
use ullage_integration::clients::{Client, repository, skip};
use ullage_integration::content::Content;
use ullage_integration::daemon::binary;
use ullage_integration::process::visit_files;
use ullage_integration::seed;
use ullage_integration::standalone::Standalone;
use ullage_integration::trees::assert_same_trees;

/// Folders of the repository that are no sources.
const NO_SOURCES: [&str; 3] = ["target", ".git", "ullage-data"];

/// Copies the repository's sources, so that somebody who edits them meanwhile does not fail the test.
fn copy_sources(to: &Path) -> anyhow::Result<usize> {
    let root = repository();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).context("read the repository")?.flatten() {
        let path = entry.path();
        if path.is_file() {
            files.push(path);
        } else if !NO_SOURCES.iter().any(|name| path.ends_with(name)) {
            visit_files(&path, &mut |file| files.push(file.to_owned()));
        }
    }
    for file in &files {
        let copy = to.join(file.strip_prefix(root).context("below the root")?);
        std::fs::create_dir_all(copy.parent().context("a file has a directory")?)
            .context("make a directory")?;
        std::fs::copy(file, &copy).with_context(|| format!("copy {}", file.display()))?;
    }
    ensure!(files.len() > 20, "only {} source files", files.len());
    Ok(files.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_stores_a_source_tree_and_gives_it_back() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let name = "the_aws_cli_stores_a_source_tree_and_gives_it_back";
    let Some(aws) = Client::of(name, "aws", &standalone)? else {
        return Ok(());
    };
    let work = tempfile::tempdir()?;
    let (sources, back, synced) = (
        work.path().join("sources"),
        work.path().join("back"),
        work.path().join("synced"),
    );
    let files = copy_sources(&sources)?;
    let run = |arguments: &[&str]| aws.run(work.path(), arguments);

    run(&["s3", "mb", "s3://cellar"])?;
    assert!(run(&["s3", "ls"])?.contains("cellar"));
    run(&[
        "s3",
        "cp",
        "--recursive",
        "--quiet",
        "sources",
        "s3://cellar/tree",
    ])?;
    let listed = run(&["s3", "ls", "--recursive", "s3://cellar/tree/"])?;
    assert_eq!(listed.lines().count(), files);
    run(&["s3", "cp", "--recursive", "--quiet", "s3://cellar/tree", "back"])?;
    assert_same_trees(&sources, &back)?;

    assert_eq!(
        run(&["s3", "sync", "--no-progress", "sources", "s3://cellar/tree"])?,
        "",
        "nothing changed, so nothing is copied"
    );
    std::fs::write(sources.join("README.md"), "changed\n")?;
    std::fs::remove_file(sources.join("Cargo.toml"))?;
    let changes = run(&[
        "s3",
        "sync",
        "--no-progress",
        "--delete",
        "sources",
        "s3://cellar/tree",
    ])?;
    assert_eq!(
        changes.lines().filter(|line| line.starts_with("upload:")).count(),
        1,
        "{changes}"
    );
    assert_eq!(
        changes.lines().filter(|line| line.starts_with("delete:")).count(),
        1,
        "{changes}"
    );
    run(&["s3", "sync", "--quiet", "s3://cellar/tree", "synced"])?;
    assert_same_trees(&sources, &synced)?;

    let refused = aws.output(work.path(), &["s3", "rb", "s3://cellar"])?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("BucketNotEmpty"));
    run(&["s3", "rm", "--recursive", "--quiet", "s3://cellar"])?;
    assert_eq!(
        aws.output(work.path(), &["s3", "ls", "--recursive", "s3://cellar"])?
            .stdout,
        b""
    );
    run(&["s3", "rb", "s3://cellar"])?;
    assert_eq!(run(&["s3", "ls"])?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_up_and_down_and_the_fat_says_where_it_is() -> anyhow::Result<()> {
    let name = "a_large_file_goes_up_and_down_and_the_fat_says_where_it_is";
    let seed = seed::announce(name);
    let standalone = Standalone::start_default().await?;
    let Some(aws) = Client::of(name, "aws", &standalone)? else {
        return Ok(());
    };
    let work = tempfile::tempdir()?;
    let length = seed::number_from_env("ULLAGE_TEST_LARGE_MIB", 1024) << 20;
    let content = Content::new(seed, "large", length);
    content.write_file(&work.path().join("large"))?;
    aws.run(work.path(), &["s3", "mb", "s3://cellar"])?;
    aws.run(
        work.path(),
        &["s3", "cp", "--quiet", "large", "s3://cellar/large"],
    )?;
    std::fs::remove_file(work.path().join("large"))?;
    aws.run(work.path(), &["s3", "cp", "--quiet", "s3://cellar/large", "back"])?;
    content.check_file(&work.path().join("back"))?;

    let admin = Admin::of(&standalone)?;
    let shown = admin.fat_show("cellar", "large")?;
    assert_eq!((shown.length, shown.inline), (length, false));
    let mut offset = 0;
    for chunk in &shown.chunks {
        assert_eq!(chunk.offset, offset, "chunks follow each other");
        offset += chunk.length;
        let vendors: std::collections::BTreeSet<_> = chunk.copies.iter().map(|copy| &copy.vendor).collect();
        assert_eq!(
            (chunk.copies.len(), vendors.len()),
            (2, 2),
            "two copies at two vendors: {chunk:?}"
        );
        assert!(
            chunk
                .copies
                .iter()
                .all(|copy| copy.pieces >= 1 && copy.state == "good")
        );
    }
    assert_eq!(offset, length);
    let table = admin.run(&["fat", "show", "cellar/large"])?;
    assert!(
        table.lines().count() >= shown.chunks.len(),
        "the table for people names each chunk:\n{table}"
    );
    admin.compare_local_fats()
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_does_its_basics_with_todays_defaults() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let name = "boto3_does_its_basics_with_todays_defaults";
    let Some(python) = Client::of(name, "python3", &standalone)? else {
        return Ok(());
    };
    let work = tempfile::tempdir()?;
    if !python
        .output(work.path(), &["-c", "import boto3"])?
        .status
        .success()
    {
        skip(name, "boto3 is not installed (`make test-tools` installs it)");
        return Ok(());
    }
    let (binary, admin) = (binary()?, format!("http://{}", standalone.admin_address()));
    let for_admin = [&*binary.to_string_lossy(), &admin];
    let scripts: [(&str, &[&str]); 5] = [
        ("boto3_basics.py", &[]),
        ("boto3_objects.py", &[]),
        ("boto3_buckets.py", &[]),
        ("boto3_access.py", &for_admin),
        ("boto3_versions.py", &[]),
    ];
    for (script, arguments) in scripts {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/scripts")
            .join(script);
        let path = path.to_string_lossy();
        let command: Vec<&str> = std::iter::once(&*path).chain(arguments.iter().copied()).collect();
        let printed = python.run(work.path(), &command)?;
        assert!(printed.trim_end().ends_with("all well"), "{script}: {printed}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_copies_checks_and_purges() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let Some(rclone) = Client::of("rclone_copies_checks_and_purges", "rclone", &standalone)? else {
        return Ok(());
    };
    let work = tempfile::tempdir()?;
    let sources = work.path().join("sources");
    copy_sources(&sources)?;
    Content::new(1, "larger", 30_000_000).write_file(&sources.join("larger"))?;
    let run = |arguments: &[&str]| rclone.run(work.path(), arguments);
    run(&["mkdir", "ullage:cellar"])?;
    run(&[
        "copy",
        "--s3-chunk-size",
        "5M",
        "--s3-upload-cutoff",
        "10M",
        "sources",
        "ullage:cellar/tree",
    ])?;
    run(&["check", "--download", "sources", "ullage:cellar/tree"])?;
    run(&["copy", "ullage:cellar/tree", "back"])?;
    assert_same_trees(&sources, &work.path().join("back"))?;
    run(&["purge", "ullage:cellar/tree"])?;
    assert_eq!(run(&["lsf", "-R", "ullage:cellar"])?, "");
    Ok(())
}
