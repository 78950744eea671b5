//! `ullage metad`, `ullage gateway` and `ullage vendor-agent`: settings from file, environment and flags, then
//! the service until a signal ends it. What a service does is in its own crate.

pub mod gateway;
mod layers;
pub mod metad;
mod show;
mod signals;
pub mod vendor_agent;

use std::path::PathBuf;

/// What all services take besides their settings.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Common {
    /// TOML file with settings. Their names are those of the flags with `_` in the place of `-`. The
    /// environment wins over the file, flags win over both; a setting that is not known is refused.
    #[arg(long, value_name = "FILE", env = "ULLAGE_CONFIG")]
    config: Option<PathBuf>,
    /// Check the settings, say whether they are sound, and start nothing.
    #[arg(long)]
    check_config: bool,
}

impl Common {
    /// Whether only the settings are to be checked; says so if they are sound, which they are by now.
    fn only_checks(&self) -> bool {
        if self.check_config {
            match &self.config {
                Some(file) => println!("{}: settings are sound", file.display()),
                None => println!("settings are sound"),
            }
        }
        self.check_config
    }
}
