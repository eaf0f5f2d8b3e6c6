//! Files with secrets: who can read them.

use std::path::Path;

use super::Finding;
use crate::config::Config;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let files = config.secret_files().into_iter();
    files.filter_map(|path| judge(path, mode(path))).collect()
}

/// Judges the permissions of a file, which other users should not be able to read.
fn judge(path: &Path, mode: Option<u32>) -> Option<Finding> {
    let is_open = mode.is_some_and(|mode| mode & 0o007 != 0);
    let path = path.display();
    is_open.then(|| {
        Finding::note(
            "secrets",
            format!("every user of this machine can read {path}"),
            format!("`chmod o= {path}`"),
        )
    })
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = path.metadata().ok()?;
    // A pipe, such as a shell's `<(...)`, belongs to the one who made it.
    metadata.is_file().then(|| metadata.permissions().mode())
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_secret_that_every_user_can_read_is_worth_a_note() {
        let verdict = |mode| judge(Path::new("key.pem"), mode).map(|finding| finding.verdict);
        assert_eq!(verdict(Some(0o100644)), Some(Verdict::Note));
        assert_eq!(verdict(Some(0o100640)), None);
        assert_eq!(verdict(None), None);
    }
}
