//! Where keys come from: flags, then the AWS environment variables, then a standalone store's credentials
//! file.

use crate::BadConfiguration;
use anyhow::Context;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::path::Path;

/// Name of the credentials file in a standalone store's data directory.
pub const CREDENTIALS_FILE: &str = "credentials";

/// What an environment variable says; one without content says nothing.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// A pair that nobody has yet.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn fresh() -> anyhow::Result<Self> {
        let (mut access_key, mut secret_key) = ([0; 10], [0; 20]);
        for bytes in [&mut access_key[..], &mut secret_key[..]] {
            OsRng
                .try_fill_bytes(bytes)
                .context("cannot get random bytes from the system")?;
        }
        Ok(Self {
            access_key: hex::encode_upper(access_key),
            secret_key: hex::encode(secret_key),
        })
    }

    /// Finds keys: `given`, then the environment, then the file in `data`.
    pub fn find(given: Option<(String, String)>, data: Option<&Path>) -> anyhow::Result<Self> {
        if let Some((access_key, secret_key)) = given {
            return Ok(Self {
                access_key,
                secret_key,
            });
        }
        if let (Some(access_key), Some(secret_key)) =
            (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            return Ok(Self {
                access_key,
                secret_key,
            });
        }
        let Some(data) = data else {
            anyhow::bail!(BadConfiguration(
                "no keys: give --access-key and --secret-key, or set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or name a standalone store's directory with --data"
                    .to_owned()
            ));
        };
        Self::read(&data.join(CREDENTIALS_FILE))
    }

    /// Reads the profile `default` of a file in the AWS credentials format.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| BadConfiguration(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text).map_err(|missing| {
            BadConfiguration(format!(
                "{}: {missing} is missing in profile [default]",
                path.display()
            ))
            .into()
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let Self {
            access_key,
            secret_key,
        } = self;
        format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n")
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut profile = "";
        let (mut access_key, mut secret_key) = (None, None);
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                profile = name.trim();
            } else if let Some((name, value)) = line.split_once('=').filter(|_| profile == "default") {
                match name.trim() {
                    "aws_access_key_id" => access_key = Some(value.trim().to_owned()),
                    "aws_secret_access_key" => secret_key = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
        }
        Ok(Self {
            access_key: access_key
                .filter(|key| !key.is_empty())
                .ok_or("aws_access_key_id")?,
            secret_key: secret_key
                .filter(|key| !key.is_empty())
                .ok_or("aws_secret_access_key")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn what_is_written_is_read_again_and_other_profiles_are_passed_over() {
        let keys = Credentials {
            access_key: "AK".to_owned(),
            secret_key: "s=k/+".to_owned(),
        };
        let text = format!("[other]\naws_access_key_id = no\n{}", keys.to_text());
        assert_eq!(Credentials::parse(&text), Ok(keys));
        assert_eq!(
            Credentials::parse("[default]\naws_access_key_id=a"),
            Err("aws_secret_access_key")
        );
    }
}
