//! docs/examples/cluster: its settings are sound, and its README, block by block as a person would paste it,
//! brings up a cluster that stores, survives a loss and stops.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ullage_integration::clients::{TOOLS_VARIABLE, find, repository, skip};
use ullage_integration::daemon::{binary, output_within, ready_deadline, ullage};
use ullage_integration::process::visit_files;

fn example() -> PathBuf {
    repository().join("docs/examples/cluster")
}

/// The subcommand that a file of the example is for.
fn subcommand(file: &str) -> &'static str {
    match file.split('-').next() {
        Some("metad") => "metad",
        Some("gateway") => "gateway",
        _ => "vendor-agent",
    }
}

#[test]
fn every_file_of_the_example_holds_sound_settings() -> anyhow::Result<()> {
    let mut files = 0;
    for entry in std::fs::read_dir(example()).context("read the example")? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut command = ullage(&[])?;
        command
            .args([subcommand(&name), "--check-config", "--config"])
            .arg(&path)
            .env("ULLAGE_ROOT_SECRET_KEY", "hush");
        let output = output_within(&mut command, ready_deadline())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {complaint}");
        files += 1;
    }
    assert_eq!(files, 3 + 4 + 2);
    Ok(())
}

#[test]
fn the_units_start_subcommands_that_there_are() -> anyhow::Result<()> {
    let units = example().join("systemd");
    let mut seen = Vec::new();
    visit_files(&units, &mut |path| seen.push(path.to_owned()));
    assert_eq!(seen.len(), 3);
    for unit in seen {
        let text = std::fs::read_to_string(&unit)?;
        let start = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/ullage "))
            .with_context(|| format!("{} starts something else", unit.display()))?;
        let name = unit
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let service = name.trim_start_matches("ullage-");
        assert_eq!(start, format!("{service} --config /etc/ullage/{service}.toml"));
        // The variables that it sets are settings of that service.
        let mut help = ullage(&[])?;
        let help = output_within(help.args([service, "--help"]), ready_deadline())?;
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for line in text.lines().filter_map(|line| line.strip_prefix("Environment=")) {
            let variable = line.split('=').next().unwrap_or_default();
            assert!(
                help.contains(variable),
                "{name}: {variable} is no variable of {service}"
            );
        }
    }
    Ok(())
}

#[test]
fn systemd_finds_nothing_amiss_in_the_units() -> anyhow::Result<()> {
    let name = "systemd_finds_nothing_amiss_in_the_units";
    let Some(analyze) = find("systemd-analyze") else {
        skip_tool(name, "systemd-analyze");
        return Ok(());
    };
    // The units name a program that need not be installed here.
    let directory = tempfile::tempdir()?;
    let program = binary()?;
    let mut units = Vec::new();
    visit_files(&example().join("systemd"), &mut |path| {
        units.push(path.to_owned())
    });
    for unit in units {
        let text =
            std::fs::read_to_string(&unit)?.replace("/usr/local/bin/ullage", &program.to_string_lossy());
        let copy = directory.path().join(unit.file_name().unwrap_or_default());
        std::fs::write(&copy, text)?;
        let mut command = Command::new(&analyze);
        let output = output_within(command.arg("verify").arg(&copy), ready_deadline())?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let about_it = complaint.lines().filter(|line| line.contains("ullage-"));
        let about_it: Vec<_> = about_it.collect();
        ensure!(about_it.is_empty(), "{}: {about_it:?}", unit.display());
    }
    Ok(())
}

/// systemd is no need of the tests: outside Debian there may be none.
fn skip_tool(name: &str, tool: &str) {
    println!("{name}: {tool} is not installed");
}

/// The blocks of a page that are marked as shell.
fn shell_blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("\n```").next())
        .map(str::to_owned)
        .collect()
}

/// Kills what a script started, whatever became of it.
struct Group(rustix::process::Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Gone already if all is well.
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

/// The same text with loopback addresses that a cluster somebody else brought up here by the README does not use.
fn elsewhere(text: &str) -> String {
    text.replace("127.0.", &format!("127.{}.", 20 + std::process::id() % 200))
}

fn copy_example(to: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    visit_files(&example(), &mut |path| files.push(path.to_owned()));
    for path in files {
        let copy = to.join(path.strip_prefix(example())?);
        std::fs::create_dir_all(copy.parent().context("a file has a directory")?)?;
        std::fs::write(copy, elsewhere(&std::fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// `PATH` with the binary under test and the tests' tools in front.
fn path_with_tools() -> anyhow::Result<std::ffi::OsString> {
    let program = binary()?;
    let tools = std::env::var_os(TOOLS_VARIABLE).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = program
        .parent()
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&tools))
        .chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(directories)?)
}

#[test]
fn the_walk_through_does_what_it_says() -> anyhow::Result<()> {
    let name = "the_walk_through_does_what_it_says";
    for tool in ["aws", "curl", "bash"] {
        if find(tool).is_none() {
            skip(
                name,
                &format!("{tool} is not installed (`make test-tools` installs it)"),
            );
            return Ok(());
        }
    }
    let page = elsewhere(&std::fs::read_to_string(example().join("README.md"))?);
    let blocks = shell_blocks(&page);
    ensure!(blocks.len() >= 8, "only {} blocks", blocks.len());
    let directory = tempfile::tempdir()?;
    copy_example(directory.path())?;
    let script = format!(
        "set -eu -o pipefail\nset -x\n{}\necho all of it\n",
        blocks.join("\n")
    );
    let printed = directory.path().join("printed");
    let file = std::fs::File::create(&printed)?;
    let mut command = Command::new("bash");
    for (variable, _) in std::env::vars() {
        if variable.starts_with("ULLAGE_") || variable.starts_with("AWS_") {
            command.env_remove(variable);
        }
    }
    let mut child = command
        .args(["-c", &script])
        .current_dir(directory.path())
        .env("PATH", path_with_tools()?)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let _group = Group(pid.context("no process id")?);
    let deadline = Instant::now() + 5 * ready_deadline();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let text = std::fs::read_to_string(&printed)?;
    ensure!(
        status.is_some_and(|status| status.success()) && text.trim_end().ends_with("all of it"),
        "{status:?}:\n{text}\n{}",
        logs(directory.path())
    );
    assert_eq!(
        text.lines().filter(|line| *line == "identical").count(),
        2,
        "{text}"
    );
    for row in ["vendor-1  alive", "vendor-4  alive", "units/ullage-metad.service"] {
        assert!(text.contains(row), "no {row} in:\n{text}");
    }
    Ok(())
}

fn logs(directory: &Path) -> String {
    let mut all = String::new();
    visit_files(&directory.join("run"), &mut |path| {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log && path.parent().is_some_and(|parent| parent.ends_with("run")) {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(20)..].join("\n");
            all += &format!("--- {}\n{tail}\n", path.display());
        }
    });
    all
}
