//! Settings in layers: a TOML file, over it what the environment and flags say. The command line's parser has
//! laid flags over the environment already.

use crate::BadConfiguration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};
use ullage_transport::secret_file;

/// The settings in `file` with those in `over` laid over them, as the service wants them. What is absent in
/// `over` (`None`) stays as the file has it.
///
/// # Errors
/// `BadConfiguration`, naming the file and the setting.
pub fn load<C: DeserializeOwned>(file: Option<&Path>, over: &impl Serialize) -> anyhow::Result<C> {
    let mut table = match file {
        Some(file) => read::<C>(file)?,
        None => Table::new(),
    };
    let over = Table::try_from(over)
        .map_err(|error| BadConfiguration(format!("a flag is out of bounds: {error}")))?;
    lay_over(&mut table, over);
    C::deserialize(table).map_err(|error| explain(file, &error).into())
}

/// Reads a file that must hold settings of `C`, though not all that `C` needs.
fn read<C: DeserializeOwned>(file: &Path) -> Result<Table, BadConfiguration> {
    let bad = |error: String| BadConfiguration(format!("--config {}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    // Its own errors show the line; only what is missing may come from elsewhere.
    if let Err(error) = toml::from_str::<C>(&text)
        && lacks(&error).is_none()
    {
        return Err(bad(error.to_string()));
    }
    toml::from_str(&text).map_err(|error| bad(error.to_string()))
}

fn lay_over(table: &mut Table, over: Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                table.insert(name, value);
            }
        }
    }
}

/// The setting that an error says is missing.
fn lacks(error: &toml::de::Error) -> Option<&str> {
    let rest = error.message().strip_prefix("missing field `")?;
    Some(rest.split('`').next().unwrap_or(rest))
}

fn explain(file: Option<&Path>, error: &toml::de::Error) -> BadConfiguration {
    let message = error.to_string().trim().replace('\n', " ");
    match (lacks(error), file) {
        // Of the settings at the top; those of a device or the like are named by the message.
        (Some(name), file) if message == error.message() => missing(file, name),
        (_, Some(file)) => BadConfiguration(format!("{message} (settings are from {})", file.display())),
        (_, None) => BadConfiguration(message),
    }
}

/// That nobody gave the setting `name`, and how to give it.
pub fn missing(file: Option<&Path>, name: &str) -> BadConfiguration {
    let flag = name.replace('_', "-");
    BadConfiguration(match file {
        Some(file) => format!(
            "{name} is missing: give --{flag}, or set it in {}",
            file.display()
        ),
        None => format!("{name} is missing: give --{flag}, or a file with settings by --config"),
    })
}

/// What a service says against its settings, with the file that they may come from.
pub fn refused(file: Option<&Path>, reason: &dyn std::fmt::Display) -> BadConfiguration {
    BadConfiguration(match file {
        Some(file) => format!("{reason} (settings are from {} too)", file.display()),
        None => reason.to_string(),
    })
}

/// Requires that `address` is HOST:PORT.
///
/// # Errors
/// `BadConfiguration`, naming the setting.
pub fn check_address(name: &str, address: &str) -> Result<(), BadConfiguration> {
    let parts = address.rsplit_once(':');
    match parts.map(|(host, port)| (host.is_empty(), port.parse::<u16>())) {
        Some((false, Ok(_))) => Ok(()),
        _ => Err(BadConfiguration(format!("{name} = {address:?} is not HOST:PORT"))),
    }
}

/// A secret, given by itself or as what a file holds.
///
/// # Errors
/// `BadConfiguration` when both were used, or the file cannot be read, may be read by others, or is empty.
pub fn secret(name: &str, given: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let text = match (given, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(file)) => anyhow::bail!(BadConfiguration(format!(
            "{name} is given twice: by itself and by the file {}",
            file.display()
        ))),
        (Some(text), None) => text.to_owned(),
        (None, Some(file)) => {
            let text = secret_file::read(file);
            let text = text.map_err(|error| BadConfiguration(format!("{name}_file: {error}")))?;
            text.to_string()
        }
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        anyhow::bail!(BadConfiguration(format!("{name} is empty")));
    }
    Ok(Some(text))
}

#[cfg(test)]
pub mod testing {
    //! That the flags of a subcommand and the settings of its service are the same.

    use clap::CommandFactory;
    use serde::de::DeserializeOwned;
    use std::collections::BTreeSet;

    /// The names of all settings at the top of `C`, as it lists them itself when it refuses an unknown one.
    pub fn settings_of<C: DeserializeOwned>() -> BTreeSet<String> {
        let refused = toml::from_str::<C>("no_such_setting = 1\n").err();
        let message = refused
            .map(|error| error.message().to_owned())
            .unwrap_or_default();
        let (_, list) = message.split_once("expected").unwrap_or_default();
        let names = list.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    }

    /// The names of all flags of `L` as settings. Each must say in `--help` what it is for, and have its
    /// environment variable.
    pub fn flags_of<L: CommandFactory>() -> BTreeSet<String> {
        let command = L::command();
        let flags = command.get_arguments().filter(|flag| {
            let name = flag.get_id().as_str();
            !["help", "version", "config", "check_config", "show"].contains(&name)
        });
        let checked = flags.map(|flag| {
            let name = flag.get_id().to_string();
            assert!(flag.get_help().is_some(), "{name} has no help");
            let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            let wanted = name.to_uppercase().replace('.', "_");
            assert_eq!(variable, Some(format!("ULLAGE_{wanted}")));
            name
        });
        checked.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{load, secret};
    use serde::{Deserialize, Serialize};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        data: PathBuf,
        #[serde(default)]
        price: u64,
        #[serde(default)]
        raft: Raft,
        #[serde(default)]
        device: Vec<Device>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Raft {
        election_ms: u64,
        heartbeat_ms: u64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Device {
        path: PathBuf,
    }

    #[derive(Default, Serialize)]
    struct Over {
        data: Option<PathBuf>,
        price: Option<u64>,
        raft: Option<RaftOver>,
    }

    #[derive(Default, Serialize)]
    struct RaftOver {
        election_ms: Option<u64>,
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("settings.toml");
        std::fs::write(&path, text).expect("file");
        (directory, path)
    }

    #[test]
    fn what_is_given_wins_over_the_file_setting_by_setting() {
        let (_directory, path) = file(
            "data = \"d\"\nprice = 1\n[raft]\nelection_ms = 2\nheartbeat_ms = 3\n[[device]]\npath = \"p\"\n",
        );
        let over = Over {
            price: Some(7),
            raft: Some(RaftOver { election_ms: Some(8) }),
            ..Over::default()
        };
        let config: Config = load(Some(&path), &over).expect("settings");
        assert_eq!((config.data, config.price), (PathBuf::from("d"), 7));
        assert_eq!((config.raft.election_ms, config.raft.heartbeat_ms), (8, 3));
        assert_eq!(config.device[0].path, PathBuf::from("p"));
    }

    #[test]
    fn what_a_file_lacks_may_be_given_and_what_nobody_gives_is_named() {
        let (_directory, path) = file("price = 1\n");
        let given = Over {
            data: Some("there".into()),
            ..Over::default()
        };
        let config: Config = load(Some(&path), &given).expect("settings");
        assert_eq!(config.data, PathBuf::from("there"));
        let name = path.to_string_lossy().into_owned();
        let refused = load::<Config>(Some(&path), &Over::default()).expect_err("no data");
        assert!(refused.is::<crate::BadConfiguration>());
        let refused = refused.to_string();
        assert!(
            refused.starts_with("data is missing: give --data") && refused.contains(&name),
            "{refused}"
        );
        let refused = load::<Config>(None, &Over::default()).expect_err("no data");
        assert!(refused.to_string().contains("--config"), "{refused}");
    }

    #[test]
    fn a_bad_file_is_named_with_its_setting_and_its_line() {
        for (text, words) in [
            (
                "data = \"d\"\nbrightness = 1\n",
                &["brightness", "line 2", "`price`"][..],
            ),
            ("data = \"d\"\n[raft]\nspeed = 1\n", &["speed", "line 3"]),
            ("data = \"d\"\nprice = \"high\"\n", &["price", "line 2"]),
            ("data = \"d\nprice = 1\n", &["line 1"]),
            ("data = \"d\"\n[[device]]\n", &["path", "device"]),
        ] {
            let (_directory, path) = file(text);
            let refused = load::<Config>(Some(&path), &Over::default()).expect_err(text);
            let name = path.to_string_lossy().into_owned();
            let message = refused.to_string();
            assert!(refused.is::<crate::BadConfiguration>(), "{message}");
            for word in words.iter().chain([&name.as_str()]) {
                assert!(message.contains(word), "{word:?} is missing in: {message}");
            }
        }
        let gone = load::<Config>(Some("/no/such/file".as_ref()), &Over::default());
        assert!(gone.is_err_and(|error| error.to_string().contains("/no/such/file")));
    }

    #[test]
    fn a_secret_is_given_once_and_is_not_empty() {
        let (_directory, path) = file("hush \n");
        let mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
        mode(0o600);
        let read = secret("root_secret_key", None, Some(&path)).expect("a secret");
        assert_eq!(read.as_deref(), Some("hush"));
        assert!(secret("root_secret_key", Some("a"), Some(&path)).is_err());
        assert!(secret("root_secret_key", Some(" "), None).is_err());
        assert!(secret("root_secret_key", None, Some("/no/such/file".as_ref())).is_err());
        mode(0o644);
        let refused = secret("root_secret_key", None, Some(&path)).expect_err("others may read it");
        assert!(refused.is::<crate::BadConfiguration>());
        let (refused, name) = (refused.to_string(), path.to_string_lossy());
        assert!(
            refused.starts_with("root_secret_key_file:")
                && refused.contains(&*name)
                && refused.contains("644"),
            "{refused}"
        );
    }
}
