//! Who this gateway is, over restarts: a number that its certificate names, kept in its data directory. The
//! metadata service ends the earlier session of the same gateway when it opens another one, so the room that a
//! killed gateway held comes back when it is started again, and not only when its session's time is over.
//!
//! `instance` in the directory holds the number, 16 hexadecimal digits and a line end. It is locked while the
//! gateway runs: two processes with one number would end each other's sessions.

use crate::environment::Randomness;
use crate::error::Error;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Name of the file.
const FILE: &str = "instance";
/// Longest file read, in bytes.
const BYTES_MAX: u64 = 64;

/// A gateway's number. Locked, if it is kept in a directory, until dropped.
#[derive(Debug)]
pub struct Instance {
    number: u64,
    _locked: Option<File>,
}

impl Instance {
    /// A number for this process only.
    #[must_use]
    pub fn passing(random: &dyn Randomness) -> Self {
        Self {
            number: drawn(random),
            _locked: None,
        }
    }

    /// The number kept in `data`; both are made if they are not there.
    ///
    /// # Errors
    /// When another process has it, the file holds something else, or the directory cannot be used.
    pub fn kept(data: &Path, random: &dyn Randomness) -> Result<Self, Error> {
        let path = data.join(FILE);
        let refused = |reason: &dyn std::fmt::Display| {
            Error::Config(format!("data: {} cannot be used: {reason}", path.display()))
        };
        let mut file = open(data, &path).map_err(|error| refused(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused(&"another gateway is running with this directory"));
            }
            Err(TryLockError::Error(error)) => return Err(refused(&error)),
        }
        let mut text = String::new();
        let read = (&mut file).take(BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| refused(&error))?;
        let number = if text.is_empty() {
            let number = drawn(random);
            keep(data, &mut file, number).map_err(|error| refused(&error))?;
            number
        } else {
            parsed(&text).ok_or_else(|| refused(&"it does not hold 16 hexadecimal digits"))?
        };
        Ok(Self {
            number,
            _locked: Some(file),
        })
    }

    /// The number; never 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

fn drawn(random: &dyn Randomness) -> u64 {
    // 0 is a gateway in the metadata service's own process.
    random.number().max(1)
}

fn open(data: &Path, path: &Path) -> io::Result<File> {
    fs::create_dir_all(data)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn keep(data: &Path, file: &mut File, number: u64) -> io::Result<()> {
    // In one write: whoever is killed in between leaves an empty file or a whole one.
    file.write_all(format!("{number:016x}\n").as_bytes())?;
    file.sync_all()?;
    File::open(data)?.sync_all()
}

fn parsed(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('\n')?;
    let well_formed = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    well_formed
        .then(|| u64::from_str_radix(digits, 16).ok())?
        .filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::{FILE, Instance};
    use crate::environment::SystemRandomness;
    use std::fs;

    #[test]
    fn a_gateway_keeps_its_number_and_only_one_process_has_it() -> Result<(), Box<dyn std::error::Error>> {
        let home = tempfile::tempdir()?;
        let data = home.path().join("not/there/yet");
        let first = Instance::kept(&data, &SystemRandomness)?;
        let second = Instance::kept(&data, &SystemRandomness).map_err(|error| error.to_string());
        assert!(second.is_err_and(|error| error.contains("another gateway")));
        let number = first.number();
        drop(first);
        assert_eq!(Instance::kept(&data, &SystemRandomness)?.number(), number);
        assert_ne!(Instance::passing(&SystemRandomness).number(), number);
        Ok(())
    }

    #[test]
    fn what_is_no_number_is_refused_and_left_as_it_is() -> Result<(), Box<dyn std::error::Error>> {
        let home = tempfile::tempdir()?;
        let path = home.path().join(FILE);
        for text in [
            "12\n",
            "0000000000000000\n",
            "00000000000000zz\n",
            "0000000000000001",
        ] {
            fs::write(&path, text)?;
            let refused = Instance::kept(home.path(), &SystemRandomness).map_err(|error| error.to_string());
            assert!(
                refused.is_err_and(|error| error.contains("hexadecimal")),
                "{text:?}"
            );
            assert_eq!(fs::read_to_string(&path)?, text);
        }
        Ok(())
    }
}
