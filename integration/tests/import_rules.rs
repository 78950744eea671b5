//! Who may import what: the edges between the crates, and the rules inside them that Cargo cannot see.
//! No server runs here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use ullage_integration::clients::repository;
use ullage_integration::process::visit_files;

/// Normal dependencies of every crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("run cargo metadata");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        let normal = all.into_iter().filter(|dependency| dependency["kind"].is_null());
        normal
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect()
    };
    packages
        .iter()
        .map(|package| {
            (
                package["name"].as_str().expect("name").to_owned(),
                normal(package),
            )
        })
        .collect()
}

/// A source file with its comments, strings and character literals blanked, so that only code is left.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            rest.windows(2)
                .position(|pair| pair == b"*/")
                .map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest, bytes[..at].last().copied()) {
            length
        } else if rest[0] == b'"' {
            quoted(rest)
        } else if rest.starts_with(b"'\"'") {
            3
        } else {
            code.push(rest[0]);
            at += 1;
            continue;
        };
        code.extend(rest[..skipped].iter().filter(|byte| **byte == b'\n'));
        code.push(b' ');
        at += skipped;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if rest[0] != b'r' || before.is_some_and(is_word) && before != Some(b'b') {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = &rest[2 + hashes..];
    Some(
        body.windows(end.len())
            .position(|window| window == end)
            .map_or(rest.len(), |at| 2 + hashes + at + end.len()),
    )
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether code names a path such as `openraft` or `std::fs`, as whole words.
fn names(code: &str, path: &str) -> bool {
    let bytes = code.as_bytes();
    code.match_indices(path).any(|(at, _)| {
        let before = at.checked_sub(1).map(|index| bytes[index]);
        let after = bytes.get(at + path.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Crates are named in paths and `use`; a local variable called `http` is not the crate.
fn names_crate(code: &str, name: &str) -> bool {
    names(code, &format!("{name}::"))
        || code
            .lines()
            .any(|line| line.trim_start().starts_with("use ") && names(line, name))
        || names_after_colons(code, name)
}

fn names_after_colons(code: &str, name: &str) -> bool {
    let bytes = code.as_bytes();
    code.match_indices(&format!("{name}::"))
        .any(|(at, _)| at == 0 || !is_word(bytes[at - 1]) && bytes[at - 1] != b':')
}

/// Source files of a crate with their code; paths relative to its `src`.
fn sources(krate: &str) -> Vec<(PathBuf, String)> {
    let root = repository().join(krate).join("src");
    let mut found = Vec::new();
    visit_files(&root, &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).expect("read a source file");
            found.push((
                path.strip_prefix(&root).expect("below src").to_owned(),
                code_of(&text),
            ));
        }
    });
    assert!(!found.is_empty(), "{krate} has no sources");
    found
}

fn inside(path: &Path, folders: &[&str]) -> bool {
    folders
        .iter()
        .any(|folder| path.starts_with(folder) || path == Path::new(&format!("{folder}.rs")))
}

/// Requires that only files in `folders` of a crate name any of `words`.
fn only_in(krate: &str, folders: &[&str], words: &[&str]) {
    let mut offenders = Vec::new();
    for (path, code) in sources(krate) {
        if inside(&path, folders) {
            continue;
        }
        offenders.extend(
            words
                .iter()
                .filter(|word| names_either(&code, word))
                .map(|word| format!("{} names {word}", path.display())),
        );
    }
    assert!(
        offenders.is_empty(),
        "in {krate}, only {folders:?} may: {offenders:#?}"
    );
}

fn names_either(code: &str, word: &str) -> bool {
    if word.contains("::") || word.chars().next().is_some_and(char::is_uppercase) {
        names(code, word)
    } else {
        names_crate(code, word)
    }
}

#[test]
fn crates_depend_only_on_those_they_may() {
    let dependencies = dependencies();
    let of = |name: &str| {
        dependencies
            .get(name)
            .unwrap_or_else(|| panic!("no crate {name}"))
            .clone()
    };
    let services = ["ullage-metad", "ullage-gateway", "ullage-vendor-agent"];
    for service in services {
        let have = of(service);
        for other in services.iter().filter(|other| **other != service) {
            assert!(!have.contains(*other), "{service} must not know {other}");
        }
        assert!(have.contains("ullage-model"), "{service} is built on the model");
    }
    let ours: Vec<_> = of("ullage-transport")
        .into_iter()
        .filter(|name| name.starts_with("ullage"))
        .collect();
    assert_eq!(ours, ["ullage-model"], "the transport knows no service's words");
    for (name, have) in &dependencies {
        assert!(
            !have.contains("ullage-integration"),
            "{name} must not depend on the tests"
        );
        assert!(!have.contains("ullage"), "{name} must not depend on the binary");
        let knows_services = have
            .iter()
            .any(|dependency| services.contains(&dependency.as_str()));
        assert!(
            !knows_services || name == "ullage" || name == "ullage-integration",
            "{name} must not know a service"
        );
    }
}

#[test]
fn the_model_is_pure() {
    let allowed: BTreeSet<String> = ["blake3", "bytes", "postcard", "serde", "thiserror"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    let have = dependencies().remove("ullage-model").expect("the model");
    let more: Vec<_> = have.difference(&allowed).collect();
    assert!(more.is_empty(), "the model depends on {more:?}");
    let impure = [
        "tokio",
        "http",
        "rocksdb",
        "openraft",
        "rand",
        "SystemTime",
        "Instant",
        "HashMap",
        "HashSet",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
    ];
    only_in("model", &[], &impure);
}

/// Who is trusted, and how connections are made, is decided in one place.
#[test]
fn only_the_transport_does_tls() {
    let tls = ["rustls", "tokio-rustls", "rcgen", "x509-parser"];
    for (name, have) in dependencies() {
        let found: Vec<_> = tls.iter().filter(|krate| have.contains(**krate)).collect();
        assert!(
            name == "ullage-transport" || found.is_empty(),
            "{name} depends on {found:?}"
        );
    }
    only_in("transport", &["authority"], &["rcgen"]);
    only_in("transport", &["network", "client/tests"], &["tokio::net", "nix"]);
    // A simulator runs it: time is tokio's, and there are no threads.
    only_in("transport", &[], &["std::thread", "std::time::Instant"]);
}

#[test]
fn metad_keeps_raft_store_and_http_apart() {
    only_in("metad", &["raft"], &["openraft"]);
    only_in("metad", &["store"], &["rocksdb"]);
    only_in("metad", &["http"], &["axum"]);
}

#[test]
fn the_gateways_put_and_get_know_no_s3() {
    let words = [
        "crate::s3",
        "super::s3",
        "axum",
        "hyper",
        "quick_xml",
        "aws_sigv4",
    ];
    let flows = sources("gateway")
        .into_iter()
        .filter(|(path, _)| inside(path, &["put", "get"]));
    for (path, code) in flows {
        for word in words {
            assert!(!names_either(&code, word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn only_devices_and_the_local_fat_touch_disks() {
    let words = [
        "std::fs",
        "rustix::fs",
        "tokio::fs",
        "rocksdb",
        "std::os::unix::fs",
    ];
    // `enrol` reads the join token, which belongs to the configuration.
    only_in("vendor-agent", &["device", "local_fat", "enrol"], &words);
}

#[test]
fn the_reader_of_code_sees_code_and_nothing_else() {
    let text = "use openraft::Raft; // rocksdb::DB\n/* axum:: */ let s = \"tokio::x\\\"\"; let http = 1; r#\"std::fs\"#; b'\"'; rand::random();";
    let code = code_of(text);
    assert!(names_crate(&code, "openraft") && names_crate(&code, "rand"));
    for absent in ["rocksdb", "axum", "tokio", "http"] {
        assert!(!names_crate(&code, absent), "{absent} in {code:?}");
    }
    assert!(!names(&code, "std::fs"));
    assert!(names("let x: std::fs::File;", "std::fs") && !names("my_std::fsx", "std::fs"));
    assert!(names_crate("use {openraft, x};", "openraft") && !names_crate("my_openraft::x()", "openraft"));
}
