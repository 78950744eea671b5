//! Files that hold a secret: read only if nobody else can.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest file read, in bytes: keys and tokens are much shorter.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads the text in `path`. It may be read by its owner only; what root owns may be read by its group too, as
/// service managers hand secrets over.
///
/// # Errors
/// Which file, and that it cannot be read, or may be read by others.
pub fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let refused = |reason: &dyn Display| format!("{}: {reason}", path.display());
    let file = File::open(path).map_err(|error| refused(&error))?;
    let metadata = file.metadata().map_err(|error| refused(&error))?;
    let mode = metadata.mode() & 0o777;
    if !private(mode, metadata.uid()) {
        return Err(refused(&format!(
            "mode {mode:03o} lets others than its owner at it; make it 600"
        )));
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| refused(&error))?;
    Ok(text)
}

fn private(mode: u32, owner: u32) -> bool {
    // systemd passes a credential on by an access list, Kubernetes by a group: both show as 440 of root's.
    let others = if owner == 0 { 0o037 } else { 0o077 };
    mode & others == 0
}

#[cfg(test)]
mod tests {
    use super::private;

    #[test]
    fn a_secret_is_its_owners_and_roots_may_be_a_groups() {
        for (mode, owner, expected) in [
            (0o600, 1000, true),
            (0o400, 1000, true),
            (0o640, 1000, false),
            (0o604, 1000, false),
            (0o600, 0, true),
            (0o440, 0, true),
            (0o640, 0, true),
            (0o660, 0, false),
            (0o644, 0, false),
        ] {
            assert_eq!(private(mode, owner), expected, "{mode:o} of {owner}");
        }
    }
}
