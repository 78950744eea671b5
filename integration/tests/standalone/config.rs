//! Bad configuration names the key and the file and exits 2. A data directory that is not this
//! cluster's, or in use, is refused and never written to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ullage_integration::daemon::{binary, output_within, ready_deadline};
use ullage_integration::http1::Body;
use ullage_integration::layout;
use ullage_integration::process::visit_files;
use ullage_integration::standalone::{Options, Standalone, command, free_addresses};

fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ULLAGE_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    output_within(&mut command, ready_deadline())
}

fn assert_refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn bad_configuration_names_the_key_and_the_file() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("store.toml");
    let path = file.to_string_lossy().into_owned();
    let data = directory.path().join("data");
    let with_file = ["standalone", "--config", &path];
    assert_refused(&run(&with_file)?, &[&path]);
    for (text, key) in [
        (format!("data = {data:?}\nbrightness = 11\n"), "brightness"),
        ("data = [1, 2]\n".to_owned(), "data"),
        ("data = \"unfinished\n".to_owned(), "data"),
        (String::new(), "data"),
        (format!("data = {data:?}\nlisten = \"nowhere\"\n"), "listen"),
        (format!("data = {data:?}\nvendors = -1\n"), "vendors"),
        (format!("data = {data:?}\nvendors = 0\n"), "vendors"),
        (format!("data = {data:?}\nvendors = 2\ncopies = 3\n"), "copies"),
        (format!("data = {data:?}\nlisten = \"0.0.0.0:9000\"\n"), "listen"),
    ] {
        std::fs::write(&file, text)?;
        assert_refused(&run(&with_file)?, &[&path, key]);
    }
    assert!(!data.exists(), "a refused start made the directory");
    Ok(())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("store.toml");
    let path = file.to_string_lossy().into_owned();
    let data = directory.path().join("data");
    std::fs::write(&file, format!("data = {data:?}\nvendors = 1001\n"))?;
    // What is refused is what holds.
    for (environment, flags, holds) in [
        (None, &[][..], "1001"),
        (Some("1002"), &[], "1002"),
        (Some("1002"), &["--vendors", "1003"], "1003"),
    ] {
        let mut all = vec!["standalone", "--config", &path];
        all.extend_from_slice(flags);
        let environment: Vec<_> = environment
            .map(|value| ("ULLAGE_VENDORS", value))
            .into_iter()
            .collect();
        assert_refused(&run_with(&all, &environment)?, &["vendors", holds]);
    }
    assert_refused(
        &run_with(&["standalone"], &[("ULLAGE_COPIES", "many")])?,
        &["copies", "many"],
    );
    Ok(())
}

#[test]
fn flags_that_make_no_sense_are_refused() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let data_text = data.to_string_lossy().into_owned();
    for (arguments, words) in [
        (&["--copies", "4", "--vendors", "3"][..], &["--copies"][..]),
        (&["--copies", "0"], &["--copies"]),
        (&["--vendors", "0"], &["--vendors"]),
        (&["--devices-per-vendor", "0"], &["--devices-per-vendor"]),
        (&["--device-capacity", "10"], &["--device-capacity"]),
        (&["--device-capacity", "lots"], &["--device-capacity"]),
        (&["--listen", "nowhere"], &["--listen"]),
        (&["--colour", "red"], &["--colour"]),
    ] {
        let mut all = vec!["standalone", "--data", &data_text];
        all.extend_from_slice(arguments);
        assert_refused(&run(&all)?, words);
        assert!(
            !data.exists(),
            "{arguments:?} was refused after it had made the directory"
        );
    }
    assert_refused(&run(&["standalone"])?, &["--data"]);
    assert_refused(&run(&["stand-alone"])?, &["stand-alone"]);
    Ok(())
}

#[test]
fn help_names_every_flag_of_the_contract() -> anyhow::Result<()> {
    let help = run(&["standalone", "--help"])?;
    assert!(help.status.success());
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    let flags = [
        "--data",
        "--vendors",
        "--devices-per-vendor",
        "--copies",
        "--device-capacity",
        "--listen",
        "--admin-listen",
    ];
    for flag in flags {
        assert!(text.contains(flag), "{flag} is missing in: {text}");
    }
    Ok(())
}

#[test]
fn keygen_makes_a_secret_for_its_owner_and_never_overwrites() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("secret");
    let path = file.to_string_lossy().into_owned();
    assert!(run(&["keygen", &path])?.status.success());
    let first = std::fs::read(&file)?;
    assert!(first.len() >= 32);
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    assert!(
        !run(&["keygen", &path])?.status.success(),
        "an existing secret must not be replaced"
    );
    assert_eq!(std::fs::read(&file)?, first);
    Ok(())
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    visit_files(directory, &mut |path| {
        files.insert(path.to_owned(), std::fs::read(path).unwrap_or_default());
    });
    files
}

fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, bytes)| after.get(*path) != Some(*bytes))
        .map(|(path, _)| path)
        .collect();
    assert!(changed.is_empty(), "written to: {changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused() -> anyhow::Result<()> {
    let first = Standalone::start_default().await?;
    let (s3_address, admin_address) = free_addresses()?;
    let second = output_within(
        &mut command(&Options::default(), first.data(), s3_address, admin_address)?,
        ready_deadline(),
    )?;
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        text.contains(&*first.data().to_string_lossy()),
        "the refusal names the directory: {text}"
    );
    let s3 = first.s3()?;
    s3.create_bucket("still-alive").await?;
    s3.put("still-alive", "key", Body::Bytes(b"value")).await?;
    assert_eq!(s3.get("still-alive", "key").await?.body, b"value");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vendors_of_another_cluster_are_refused_and_not_written_to() -> anyhow::Result<()> {
    let (mut mine, mut other) = (
        Standalone::start_default().await?,
        Standalone::start_default().await?,
    );
    for standalone in [&mut mine, &mut other] {
        let s3 = standalone.s3()?;
        s3.create_bucket("cluster").await?;
        s3.put("cluster", "key", Body::Bytes(&[7; 100_000])).await?;
        standalone.stop().await?;
    }
    let (own, foreign) = (layout::vendors(mine.data()), layout::vendors(other.data()));
    let aside = mine.data().join("vendors.aside");
    std::fs::rename(&own, &aside)?;
    std::fs::rename(&foreign, &own)?;
    let before = contents(&own);
    mine.spawn()?;
    let status = mine.wait_exit(ready_deadline()).await?;
    assert!(!status.success());
    assert_same(&before, &contents(&own));
    std::fs::rename(&own, &foreign)?;
    std::fs::rename(&aside, &own)?;
    for standalone in [&mut mine, &mut other] {
        standalone.restart().await?;
        assert_eq!(standalone.s3()?.get("cluster", "key").await?.body, [7; 100_000]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_full_of_something_else_is_refused() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("thesis.txt"), "years of work")?;
    let before = contents(directory.path());
    let (s3_address, admin_address) = free_addresses()?;
    let output = output_within(
        &mut command(&Options::default(), directory.path(), s3_address, admin_address)?,
        ready_deadline(),
    )?;
    assert!(!output.status.success());
    assert_same(&before, &contents(directory.path()));
    Ok(())
}
