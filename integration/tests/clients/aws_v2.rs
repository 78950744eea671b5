//! The AWS CLI 2 (version 1 is in `main_job.rs`): trees, moves, streams, presigned addresses, s3api.

use std::process::Stdio;

use anyhow::ensure;
use ullage_integration::clients::{Client, find};
use ullage_integration::trees::large;

use crate::{Work, store};

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_2_copies_syncs_moves_and_removes() -> anyhow::Result<()> {
    let name = "the_aws_cli_2_copies_syncs_moves_and_removes";
    let store = store().await?;
    let Some(aws) = Client::version(name, "aws", ("--version", "aws-cli/2."), &store)? else {
        return Ok(());
    };
    let work = Work::new()?;
    // Releases before 2.13 do not know AWS_ENDPOINT_URL.
    let endpoint = format!("--endpoint-url=http://{}", store.s3_address());
    let run = |arguments: &[&str]| work.run(&aws, &[&[endpoint.as_str()], arguments].concat());
    run(&["s3", "mb", "s3://aws-two"])?;
    run(&["s3", "cp", "--recursive", "--quiet", "tree", "s3://aws-two/tree"])?;
    run(&["s3", "sync", "--quiet", "s3://aws-two/tree", "back"])?;
    work.is_tree("back")?;
    assert_eq!(
        run(&["s3", "sync", "--no-progress", "tree", "s3://aws-two/tree"])?,
        "",
        "nothing changed"
    );

    let (source, target) = ("s3://aws-two/tree/with space/a  b.txt", "s3://aws-two/moved");
    run(&["s3", "mv", "--quiet", source, target])?;
    let head = run(&["s3api", "head-object", "--bucket", "aws-two", "--key", "moved"])?;
    let head: serde_json::Value = serde_json::from_str(&head)?;
    assert_eq!(head["ContentLength"], "with space/a  b.txt".len(), "{head}");

    // From a pipe and into one.
    let mut upload = aws.command(
        work.directory.path(),
        &[&endpoint, "s3", "cp", "-", "s3://aws-two/from pipe"],
    );
    let file = std::fs::File::open(work.path("tree/large"))?;
    let status = upload.stdin(Stdio::from(file)).status()?;
    ensure!(status.success(), "cp from a pipe: {status}");
    // What is larger than a part is copied by parts, on the server.
    run(&[
        "s3",
        "mv",
        "--quiet",
        "s3://aws-two/from pipe",
        "s3://aws-two/piped",
    ])?;
    let downloaded = aws.bytes(
        work.directory.path(),
        &[&endpoint, "s3", "cp", "s3://aws-two/piped", "-"],
    )?;
    assert_eq!(large().check(0, &downloaded), Ok(()));
    assert_eq!(downloaded.len() as u64, large().length);

    let address = run(&["s3", "presign", "s3://aws-two/piped", "--expires-in", "60"])?;
    if find("curl").is_some() {
        let curl = Client::of(name, "curl", &store)?.ok_or_else(|| anyhow::anyhow!("curl went"))?;
        work.run(
            &curl,
            &["--silent", "--fail", "--output", "presigned", address.trim()],
        )?;
        work.is_large("presigned")?;
    }
    run(&["s3", "rm", "--recursive", "--quiet", "s3://aws-two/tree"])?;
    let listed = run(&["s3api", "list-objects-v2", "--bucket", "aws-two"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let keys = listed["Contents"]
        .as_array()
        .map(|found| found.iter().map(|entry| &entry["Key"]).collect::<Vec<_>>());
    assert_eq!(keys, Some(vec![&"moved".into(), &"piped".into()]));
    run(&["s3", "rb", "--force", "s3://aws-two"])?;
    assert!(!run(&["s3", "ls"])?.contains("aws-two"));
    Ok(())
}
