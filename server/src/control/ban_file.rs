//! The file in which bans outlive the server: one on each line, as JSON.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use tracing::{info, warn};

use super::message::BanLine;
use crate::replace::{beside, replace};
use crate::start_error::StartError;
use cubesync_relay::bans::{Ban, Bans};

/// Longest file: as many bans as there may be, with the longest reasons.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The file's rights: it has addresses of people.
const MODE: u32 = 0o600;

/// The file of `--bans`.
#[derive(Debug)]
pub(crate) struct BanFile {
    path: PathBuf,
    /// Held while the file is written.
    writing: Mutex<()>,
}

impl BanFile {
    /// Adds the bans in a file, which need not exist, to `bans`. What is damaged in it is kept aside in a
    /// copy, and the rest counts.
    ///
    /// # Errors
    /// The file cannot be read, and so what is in it would be lost.
    pub(crate) fn open(path: &Path, bans: &Bans) -> Result<Self, StartError> {
        let file = Self {
            path: path.to_owned(),
            writing: Mutex::new(()),
        };
        let bytes = match file.read() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(file),
            Err(error) => {
                return Err(StartError::Bans {
                    path: path.to_owned(),
                    reason: error.to_string(),
                });
            }
        };
        let now = SystemTime::now();
        let (mut damaged, mut count) = (0, 0);
        let lines = bytes.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
            match parse(line).map(|ban| ban.is_over(now) || bans.add(ban, now).is_ok()) {
                Some(true) => count += 1,
                Some(false) | None => damaged += 1,
            }
        }
        if damaged > 0 {
            file.keep_aside(damaged);
        }
        info!(path = %path.display(), count, "bans of before");
        Ok(file)
    }

    /// Writes the bans in place of what the file has. It has either all of the old ones or all of the new.
    ///
    /// # Errors
    /// The file has the old ones.
    pub(crate) fn save(&self, bans: &Bans) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        for ban in bans.all(SystemTime::now()) {
            serde_json::to_writer(&mut bytes, &BanLine::from(&ban))?;
            bytes.push(b'\n');
        }
        replace(&self.path, &bytes, MODE)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Copies the file, since the next change replaces it.
    fn keep_aside(&self, damaged: usize) {
        let (path, aside) = (self.path.display(), beside(&self.path, ".damaged"));
        let kept = fs::copy(&self.path, &aside);
        let kept = kept.map_or_else(|error| error.to_string(), |_| aside.display().to_string());
        warn!(%path, lines = damaged, kept, "lines that are no bans; the others count");
    }
}

fn parse(line: &[u8]) -> Option<Ban> {
    let BanLine {
        network,
        until,
        reason,
    } = serde_json::from_slice(line).ok()?;
    let until = match until {
        Some(text) => Some(SystemTime::from(text.parse::<Timestamp>().ok()?)),
        None => None,
    };
    Some(Ban {
        network,
        until,
        reason,
    })
}

impl From<&Ban> for BanLine {
    fn from(ban: &Ban) -> Self {
        let second = |until: SystemTime| {
            let until = Timestamp::try_from(until).unwrap_or(Timestamp::MAX);
            let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
            until.to_string()
        };
        Self {
            network: ban.network,
            until: ban.until.map(second),
            reason: ban.reason.clone(),
        }
    }
}
