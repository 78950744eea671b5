//! s3cmd: puts in parts, synchronizes, continues a download, changes metadata.

use ullage_integration::clients::Client;

use crate::{Work, sorted_lines, store, tree_names};

/// s3cmd asks whether it is there; the first try must tell.
const NO_RETRY: &str = "--max-retries=1";

#[tokio::test(flavor = "multi_thread")]
async fn s3cmd_puts_syncs_continues_and_modifies() -> anyhow::Result<()> {
    let store = store().await?;
    let Some(s3cmd) = Client::of("s3cmd_puts_syncs_continues_and_modifies", "s3cmd", &store)? else {
        return Ok(());
    };
    let work = Work::new()?;
    std::fs::write(work.path("s3cfg"), configuration(&store)?)?;
    let run = |arguments: &[&str]| work.run(&s3cmd, &[&["--config=s3cfg", NO_RETRY], arguments].concat());
    run(&["mb", "s3://s3cmd"])?;

    run(&[
        "put",
        "--multipart-chunk-size-mb=5",
        "tree/large",
        "s3://s3cmd/dir \u{e9}/large +.bin",
    ])?;
    let info = run(&["info", "s3://s3cmd/dir \u{e9}/large +.bin"])?;
    assert!(
        info.contains("File size: 12000000") && info.contains("MD5 sum"),
        "{info}"
    );
    assert!(run(&["info", "s3://s3cmd"])?.contains("Location:  us-east-1"));
    let part = trees_part(3_000_000);
    std::fs::write(work.path("continued"), part)?;
    run(&[
        "get",
        "--continue",
        "s3://s3cmd/dir \u{e9}/large +.bin",
        "continued",
    ])?;
    work.is_large("continued")?;

    run(&["sync", "tree/", "s3://s3cmd/tree/"])?;
    let listed = run(&["ls", "-r", "s3://s3cmd/tree/"])?;
    let names = listed
        .lines()
        .filter_map(|line| line.split_once("s3://s3cmd/tree/"));
    assert_eq!(names.map(|(_, name)| name).collect::<Vec<_>>(), tree_names());
    assert_eq!(
        run(&["sync", "tree/", "s3://s3cmd/tree/"])?,
        "",
        "nothing changed"
    );
    std::fs::write(work.path("tree/.hidden"), "changed")?;
    std::fs::remove_file(work.path("tree/empty"))?;
    run(&["sync", "--delete-removed", "tree/", "s3://s3cmd/tree/"])?;
    std::fs::create_dir(work.path("back"))?;
    run(&["sync", "s3://s3cmd/tree/", "back/"])?;
    work.is_tree("back")?;

    run(&["cp", "s3://s3cmd/tree/large", "s3://s3cmd/copy"])?;
    run(&["mv", "s3://s3cmd/copy", "s3://s3cmd/moved"])?;
    run(&[
        "modify",
        "--add-header=x-amz-meta-vintage:1961",
        "s3://s3cmd/moved",
    ])?;
    assert!(run(&["info", "s3://s3cmd/moved"])?.contains("x-amz-meta-vintage: 1961"));
    run(&["get", "s3://s3cmd/moved", "moved"])?;
    work.is_large("moved")?;
    let used = run(&["du", "s3://s3cmd"])?;
    assert!(used.contains("objects"), "{used}");

    run(&["del", "-r", "--force", "s3://s3cmd"])?;
    run(&["rb", "s3://s3cmd"])?;
    let buckets = run(&["ls"])?;
    assert!(
        !sorted_lines(&buckets)
            .iter()
            .any(|line| line.ends_with("s3://s3cmd")),
        "{buckets}"
    );
    Ok(())
}

/// The first bytes of `tree/large`, as a broken download leaves them.
fn trees_part(length: usize) -> Vec<u8> {
    let large = ullage_integration::trees::large();
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(large.slice(bytes.len() as u64, length - bytes.len()));
    }
    bytes
}

fn configuration(store: &ullage_integration::standalone::Standalone) -> anyhow::Result<String> {
    let (address, credentials) = (store.s3_address(), store.credentials()?);
    Ok(format!(
        "[default]\naccess_key = {}\nsecret_key = {}\nhost_base = {address}\nhost_bucket = {address}\n\
         use_https = False\nsignature_v2 = False\nprogress_meter = False\n",
        credentials.access_key, credentials.secret_key
    ))
}
