//! s3fs: a bucket mounted as a file system, and what programs do with files.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use ullage_integration::clients::{Client, find, skip};
use ullage_integration::standalone::Standalone;
use ullage_integration::trees::large;

use crate::{Work, store};

/// A mounted bucket, unmounted when dropped.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts the bucket; returns once it answers.
    fn new(s3fs: &Client, work: &Work, store: &Standalone) -> anyhow::Result<Self> {
        let at = work.path("mount");
        fs::create_dir_all(&at)?;
        let url = format!("url=http://{}", store.s3_address());
        let options = [
            "s3fs",
            "mount",
            "-o",
            &url,
            "-o",
            "passwd_file=passwd",
            "-o",
            "use_path_request_style",
            "-o",
            "multipart_size=5",
            // Larger files are copied by parts when they are renamed.
            "-o",
            "singlepart_copy_limit=5",
            "-o",
            "parallel_count=3",
        ];
        work.run(s3fs, &options)?;
        let mount = Self { at };
        // s3fs goes into the background before it has asked for the bucket; a failed look at it comes back as an error.
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while device(&mount.at)? == device(work.directory.path())? {
            ensure!(
                std::time::Instant::now() < deadline,
                "s3fs did not mount the bucket"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(mount)
    }

    fn end(self) -> anyhow::Result<()> {
        let status = Command::new("fusermount").arg("-u").arg(&self.at).status()?;
        ensure!(status.success(), "unmount: {status}");
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Fails where `end` did it already.
        let _ = Command::new("fusermount").arg("-uzq").arg(&self.at).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3fs_is_a_file_system_to_programs() -> anyhow::Result<()> {
    let name = "s3fs_is_a_file_system_to_programs";
    let store = store().await?;
    let Some(s3fs) = Client::of(name, "s3fs", &store)? else {
        return Ok(());
    };
    if find("fusermount").is_none()
        || OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .is_err()
    {
        skip(name, "it needs fusermount and the right to open /dev/fuse");
        return Ok(());
    }
    store.s3()?.create_bucket("s3fs").await?;
    let work = Work::new()?;
    let credentials = store.credentials()?;
    let passwd = work.path("passwd");
    fs::write(
        &passwd,
        format!("{}:{}", credentials.access_key, credentials.secret_key),
    )?;
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o600))?;
    // Files are read and written by blocking calls that the store in its own process answers.
    let mount = Mount::new(&s3fs, &work, &store)?;
    small_files(&mount.at)?;
    large_files(&mount.at, &work)?;
    mount.end()?;
    let mount = Mount::new(&s3fs, &work, &store)?;
    after_mounting_again(&mount.at, &work)?;
    mount.end()?;
    assert_eq!(store.s3()?.list_keys("s3fs", "").await?, Vec::<String>::new());
    Ok(())
}

fn small_files(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("folder \u{fc} +%20/deep");
    fs::create_dir_all(&folder)?;
    let file = folder.join("file");
    fs::write(&file, "first line\n")?;
    let mut appended = OpenOptions::new().append(true).open(&file)?;
    appended.write_all(b"second line\n")?;
    drop(appended);
    assert_eq!(fs::read_to_string(&file)?, "first line\nsecond line\n");
    OpenOptions::new().write(true).open(&file)?.set_len(5)?;
    assert_eq!(fs::read_to_string(&file)?, "first");
    let renamed = folder.join("renamed");
    fs::rename(&file, &renamed)?;
    ensure!(!file.exists(), "the old name is still there");
    fs::set_permissions(&renamed, fs::Permissions::from_mode(0o640))?;
    assert_eq!(fs::metadata(&renamed)?.permissions().mode() & 0o777, 0o640);
    std::os::unix::fs::symlink("renamed", folder.join("link"))?;
    assert_eq!(fs::read_to_string(folder.join("link"))?, "first");
    assert_eq!(names(&folder)?, ["link", "renamed"]);
    // A folder is moved by copying what is in it.
    fs::rename(root.join("folder \u{fc} +%20"), root.join("moved"))?;
    assert_eq!(fs::read_to_string(root.join("moved/deep/renamed"))?, "first");
    assert_eq!(names(root)?, ["moved"]);
    let missing = fs::read(root.join("nothing"));
    assert_eq!(
        missing.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::NotFound)
    );
    Ok(())
}

fn large_files(root: &Path, work: &Work) -> anyhow::Result<()> {
    let file = root.join("large");
    fs::copy(work.path("tree/large"), &file)?;
    work.is_large("mount/large")?;
    fs::rename(&file, root.join("renamed"))?;
    // A hole before the only bytes.
    let mut sparse = fs::File::create(root.join("sparse"))?;
    sparse.seek(SeekFrom::Start(6_000_000))?;
    sparse.write_all(b"end")?;
    sparse.sync_all()?;
    Ok(())
}

fn after_mounting_again(root: &Path, work: &Work) -> anyhow::Result<()> {
    assert_eq!(names(root)?, ["moved", "renamed", "sparse"]);
    assert_eq!(fs::read_to_string(root.join("moved/deep/link"))?, "first");
    let renamed = fs::File::open(root.join("renamed"))?;
    let mut bytes = vec![0; 100];
    renamed.read_exact_at(&mut bytes, 5_999_999)?;
    assert_eq!(large().check(5_999_999, &bytes), Ok(()));
    drop(renamed);
    work.is_large("mount/renamed")?;
    more_at_the_end(&root.join("renamed"))?;
    let mut sparse = Vec::new();
    fs::File::open(root.join("sparse"))?.read_to_end(&mut sparse)?;
    assert_eq!(sparse.len(), 6_000_003);
    ensure!(
        sparse[..6_000_000].iter().all(|byte| *byte == 0),
        "the hole is not zeros"
    );
    assert_eq!(&sparse[6_000_000..], b"end");
    for entry in names(root)? {
        let path = root.join(entry);
        if path.is_dir() {
            fs::remove_dir_all(path)?
        } else {
            fs::remove_file(path)?
        }
    }
    assert_eq!(names(root)?, Vec::<String>::new());
    Ok(())
}

/// What was there already becomes parts of the new object without being sent again.
fn more_at_the_end(file: &Path) -> anyhow::Result<()> {
    let more = vec![b'm'; 5 << 20];
    let mut appended = OpenOptions::new().append(true).open(file)?;
    appended.write_all(&more)?;
    appended.sync_all()?;
    drop(appended);
    let bytes = fs::read(file)?;
    let (old, new) = bytes.split_at(usize::try_from(large().length)?);
    assert_eq!(large().check(0, old), Ok(()));
    ensure!(new == more, "what was appended differs");
    Ok(())
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
