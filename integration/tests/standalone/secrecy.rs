//! What lies on the disks: no plaintext of objects, no user's secret, and no object names at vendors.
//! A wrong key-encryption key refuses to start.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use rand::Rng as _;
use ullage_integration::admin_json::Admin;
use ullage_integration::daemon::{binary, ready_deadline};
use ullage_integration::http1::Body;
use ullage_integration::layout;
use ullage_integration::process::visit_files;
use ullage_integration::s3::{Request, S3};
use ullage_integration::seed;
use ullage_integration::sign::Credentials;
use ullage_integration::standalone::Standalone;

const BUCKET: &str = "secrets";

/// A word that no compressor shortens and no accident repeats.
fn marker(random: &mut rand::rngs::StdRng) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..32)
        .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
        .collect()
}

/// Files below a directory that contain a word.
fn files_with(directory: &Path, word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit_files(directory, &mut |path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        if path.to_string_lossy().contains(word)
            || bytes.windows(word.len()).any(|window| window == word.as_bytes())
        {
            found.push(path.to_owned());
        }
    });
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_plaintext_no_secret_and_no_names_at_vendors() -> anyhow::Result<()> {
    let seed = seed::announce("no_plaintext_no_secret_and_no_names_at_vendors");
    let mut random = seed::generator(seed, 1);
    let mut standalone = Standalone::start_default().await?;
    let (s3, admin) = (standalone.s3()?, Admin::of(&standalone)?);
    s3.create_bucket(BUCKET).await?;
    let (plaintext, name, secret) = (marker(&mut random), marker(&mut random), marker(&mut random));
    for repeats in [1, 100, 3_000, 200_000] {
        let body = format!("{plaintext}\n").repeat(repeats);
        let key = format!("{name}/{repeats}");
        s3.put(BUCKET, &key, Body::Bytes(body.as_bytes())).await?;
    }
    admin.run(&[
        "user",
        "create",
        "vintner",
        "--access-key",
        "VINTNERKEY0000000001",
        "--secret-key",
        &secret,
    ])?;
    let vintner = Credentials {
        access_key: "VINTNERKEY0000000001".into(),
        secret_key: secret.clone(),
    };
    let as_vintner = S3::new(standalone.s3_address(), vintner);
    as_vintner
        .send(&Request::list_buckets(), Body::Empty)
        .await?
        .expect(200)?;
    let root_secret = standalone.credentials()?.secret_key;

    let look = |standalone: &Standalone| {
        let data = standalone.data();
        assert_eq!(
            files_with(data, &plaintext),
            [] as [PathBuf; 0],
            "plaintext of an object"
        );
        assert_eq!(files_with(data, &secret), [] as [PathBuf; 0], "a user's secret");
        assert_eq!(
            files_with(data, &root_secret),
            [layout::credentials(data)],
            "the root secret"
        );
        assert_eq!(
            files_with(&layout::vendors(data), &name),
            [] as [PathBuf; 0],
            "an object's name at a vendor"
        );
        assert_eq!(
            files_with(&layout::vendors(data), BUCKET),
            [] as [PathBuf; 0],
            "a bucket's name at a vendor"
        );
    };
    look(&standalone);
    // A stop flushes what was in memory; a restart may rewrite it.
    standalone.stop().await?;
    look(&standalone);
    standalone.restart().await?;
    look(&standalone);
    for secret in [&plaintext, &secret, &root_secret] {
        let log = standalone.log()?;
        let mentions: Vec<_> = log
            .lines()
            .filter(|line| line.contains(secret.as_str()))
            .collect();
        // The first start shows the root keys once; that is how their owner learns them.
        assert!(
            mentions.is_empty() || *secret == root_secret,
            "the log tells a secret: {mentions:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_files_are_for_their_owner_alone() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let standalone = Standalone::start_default().await?;
    for path in [
        layout::credentials(standalone.data()),
        layout::kek(standalone.data()),
    ] {
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_kek_refuses_to_start_and_changes_nothing() -> anyhow::Result<()> {
    let mut standalone = Standalone::start_default().await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    s3.put(BUCKET, "key", Body::Bytes(b"value")).await?;
    standalone.stop().await?;
    let kek = layout::kek(standalone.data());
    let right = std::fs::read(&kek)?;
    std::fs::remove_file(&kek)?;
    let made = Command::new(binary()?).arg("keygen").arg(&kek).output()?;
    ensure!(
        made.status.success(),
        "keygen: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    ensure!(std::fs::read(&kek)? != right, "keygen made the same key again");

    standalone.spawn()?;
    let status = standalone.wait_exit(ready_deadline()).await?;
    assert!(!status.success());
    let log = standalone.log_tail().to_lowercase();
    assert!(
        log.contains("kek") || log.contains("key-encryption key"),
        "the refusal names the key:\n{log}"
    );

    std::fs::write(&kek, right)?;
    standalone.restart().await?;
    assert_eq!(standalone.s3()?.get(BUCKET, "key").await?.body, b"value");
    Ok(())
}
