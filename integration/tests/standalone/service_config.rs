//! Settings of the services: file, environment, flags, in that order; unknown ones refused by name; every one in
//! `--help`. Bad ones exit 2 before anything is made.

use std::path::Path;
use std::process::Output;

use ullage_integration::daemon::{output_within, ready_deadline, ullage};

/// A file that is sound for each service, but for `data`.
const SOUND: [(&str, &str); 3] = [
    (
        "metad",
        "peers = [\"127.0.0.1:9310\"]\nadvertise = \"127.0.0.1:9310\"\ncluster_secret_file = \"secret\"\n",
    ),
    (
        "gateway",
        "metad = [\"127.0.0.1:9310\"]\ncluster_secret_file = \"secret\"\nkek_file = \"kek\"\n\
         root_access_key = \"root\"\nroot_secret_key = \"hush-hush\"\n",
    ),
    (
        "vendor-agent",
        "name = \"v\"\nmetad = [\"127.0.0.1:9310\"]\njoin_token_file = \"token\"\n\
         [[device]]\npath = \"disk\"\ncapacity = 1000000000\n",
    ),
];

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = ullage(&[])?;
    command.args(arguments).envs(environment.iter().copied());
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

fn assert_sound(output: &Output) {
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
}

/// Writes a sound file with `more` in front; answers its path.
fn write(directory: &Path, sound: &str, more: &str) -> anyhow::Result<String> {
    let path = directory.join("settings.toml");
    let data = directory.join("data");
    std::fs::write(&path, format!("data = {data:?}\n{more}\n{sound}"))?;
    Ok(path.to_string_lossy().into_owned())
}

#[test]
fn bad_settings_are_named_with_their_file_and_make_nothing() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for (service, sound) in SOUND {
        let path = write(directory.path(), sound, "")?;
        assert_sound(&run(&[service, "--check-config", "--config", &path], &[])?);
        for (line, word) in [
            ("brightness = 11", "brightness"),
            ("admin_listen = 7", "admin_listen"),
            ("listen = [\"a\"]", "listen"),
            ("listen = \"nowhere\"", "listen"),
            ("unfinished = \"", "line 2"),
        ] {
            let path = write(directory.path(), sound, line)?;
            // Refused as much when it would start.
            assert_refused(&run(&[service, "--config", &path], &[])?, &[word, &path]);
        }
        let missing = directory.path().join("missing.toml");
        let missing = missing.to_string_lossy().into_owned();
        assert_refused(&run(&[service, "--config", &missing], &[])?, &[&missing]);
        // What must be there and is not.
        std::fs::write(&path, "")?;
        let lacking = run(&[service, "--check-config", "--config", &path], &[])?;
        let first = if service == "gateway" { "--metad" } else { "--data" };
        assert_refused(&lacking, &["missing", first, &path]);
    }
    assert!(
        !directory.path().join("data").exists(),
        "a refused start made the directory"
    );
    Ok(())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for (service, sound) in SOUND {
        let path = write(directory.path(), sound, "listen = \"file\"")?;
        let start = [service, "--check-config", "--config", &path];
        // What is refused is what holds.
        assert_refused(&run(&start, &[])?, &["file"]);
        assert_refused(&run(&start, &[("ULLAGE_LISTEN", "variable")])?, &["variable"]);
        let flags = [&start[..], &["--listen", "flag"]].concat();
        assert_refused(&run(&flags, &[("ULLAGE_LISTEN", "127.0.0.1:1")])?, &["flag"]);
    }
    Ok(())
}

#[test]
fn help_names_every_setting_of_the_contract() -> anyhow::Result<()> {
    let contract = [
        (
            "metad",
            &[
                "data",
                "listen",
                "advertise",
                "admin-listen",
                "peers",
                "cluster-secret-file",
                "raft-",
            ][..],
        ),
        (
            "gateway",
            &[
                "data",
                "listen",
                "admin-listen",
                "metad",
                "cluster-secret-file",
                "kek-file",
                "region",
                "domain",
                "root-access-key",
                "root-secret-key",
                "inline-bytes",
                "upload-memory",
            ],
        ),
        (
            "vendor-agent",
            &[
                "data",
                "name",
                "listen",
                "advertise",
                "admin-listen",
                "metad",
                "join-token-file",
                "owner",
                "region",
                "zone",
                "rack",
                "price",
                "device",
            ],
        ),
    ];
    for (service, settings) in contract {
        let help = run(&[service, "--help"], &[])?;
        assert_sound(&help);
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        for setting in settings {
            assert!(
                text.contains(&format!("--{setting}")),
                "{service} --help lacks --{setting}"
            );
        }
        let secret = run(
            &[service, "--help"],
            &[("ULLAGE_ROOT_SECRET_KEY", "do-not-print-me")],
        )?;
        assert!(!String::from_utf8_lossy(&secret.stdout).contains("do-not-print-me"));
    }
    Ok(())
}

#[test]
fn secrets_that_are_not_there_or_open_to_others_are_refused_by_name() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir()?;
    for (service, sound) in SOUND {
        if service == "vendor-agent" {
            continue;
        }
        let secret = directory.path().join("secret");
        let text = secret.to_string_lossy().into_owned();
        let path = write(
            directory.path(),
            sound,
            "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"",
        )?;
        let start = [service, "--config", &path, "--cluster-secret-file", &text];
        let kek = directory.path().join("kek");
        let kek = kek.to_string_lossy().into_owned();
        let mut start = start.to_vec();
        if service == "gateway" {
            assert_sound(&run(&["keygen", &kek], &[])?);
            start.extend(["--kek-file", &kek]);
        }
        assert_refused(&run(&start, &[])?, &["cluster_secret_file", &text]);
        std::fs::write(&secret, "0123\n")?;
        assert_refused(&run(&start, &[])?, &["cluster_secret_file", &text]);
        std::fs::remove_file(&secret)?;
        assert_sound(&run(&["keygen", &text], &[])?);
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644))?;
        assert_refused(&run(&start, &[])?, &["cluster_secret_file", "644"]);
        std::fs::remove_file(&secret)?;
    }
    let (service, sound) = SOUND[1];
    let path = write(directory.path(), sound, "")?;
    let key = directory.path().join("root-secret-key");
    std::fs::write(&key, "from-a-file\n")?;
    let text = key.to_string_lossy().into_owned();
    let check = [
        service,
        "--check-config",
        "--config",
        &path,
        "--root-secret-key-file",
        &text,
    ];
    for (mode, sound) in [(0o644, false), (0o600, true)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode))?;
        let checked = run(&check, &[])?;
        if sound {
            assert_sound(&checked);
        } else {
            assert_refused(&checked, &["root_secret_key_file", &text, "644"]);
        }
    }
    Ok(())
}
