//! The file of `--world`: where the lobby's loose cubes are, so that they outlive the server.
//!
//! A text of half a megabyte at most, which is written beside the room, on a thread of its own, and replaced whole.

mod text;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cubesync_relay::mechanics::{FieldCube, Kept, KeptCube};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::blocking;
use crate::replace::{beside, replace};
use crate::start_error::StartError;

/// The file's rights: everybody in the game sees what is in it.
const MODE: u32 = 0o644;

/// Time that a stopping server gives a file that takes nothing.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The file, which no other server may use meanwhile.
#[derive(Debug)]
pub(crate) struct WorldFile {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
    newest: watch::Receiver<Vec<KeptCube>>,
    /// The content of the file.
    written: Vec<KeptCube>,
    /// Whether the last write failed.
    is_failing: bool,
}

/// The outcome of reading a path.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    World(Vec<KeptCube>),
    /// Something else, which is kept aside.
    Other(String),
}

impl WorldFile {
    /// Opens the file for a room of such cubes, and returns what the room begins with. What is in the file but is no
    /// such world is kept aside.
    ///
    /// # Errors
    /// [`StartError::World`].
    pub(crate) async fn open(
        path: PathBuf,
        room: Arc<[FieldCube]>,
    ) -> Result<(Self, Kept), StartError> {
        let what = path.display().to_string();
        let failed = |reason| StartError::World {
            path: path.clone(),
            reason,
        };
        let wanted = path.clone();
        let open = move || {
            // The file itself, where the path is a link to it.
            let path = fs::canonicalize(&wanted).unwrap_or(wanted);
            open(&path, &room).map(|(lock, cubes)| (path, lock, cubes))
        };
        let (path, lock, cubes) = blocking::run(&what, open).await?.map_err(failed)?;
        let (kept, newest) = watch::channel(cubes.clone());
        let file = Self {
            path,
            _lock: lock,
            newest,
            written: cubes,
            is_failing: false,
        };
        Ok((file, kept))
    }

    /// Writes what the room notes, until the server is over.
    pub(crate) async fn keep(mut self, is_over: CancellationToken) {
        loop {
            let is_last = tokio::select! {
                biased;
                changed = self.newest.changed() => changed.is_err(),
                () = is_over.cancelled() => true,
            };
            self.write(&is_over).await;
            if is_last {
                return;
            }
        }
    }

    /// Writes the newest note, if it is not what the file has. After `is_over`, a file that takes nothing is given up.
    async fn write(&mut self, is_over: &CancellationToken) {
        let cubes = self.newest.borrow_and_update().clone();
        if cubes == self.written {
            return;
        }
        let what = self.path.display().to_string();
        let (path, written) = (self.path.clone(), cubes.clone());
        let writing = blocking::run(&what, move || save(&path, &written));
        let patience = async {
            is_over.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        let outcome = tokio::select! {
            outcome = writing => outcome.flatten(),
            () = patience => Err(ErrorKind::TimedOut.into()),
        };
        match outcome {
            Ok(()) => {
                if self.is_failing {
                    info!(file = what, "the world is kept again");
                }
                (self.written, self.is_failing) = (cubes, false);
            }
            Err(error) => {
                if !self.is_failing {
                    warn!(%error, file = what, "where loose cubes are is not kept: the file cannot be written");
                }
                self.is_failing = true;
            }
        }
    }
}

/// Locks a path, and returns the world that is there or a new one. Writes it, to find out whether that works.
fn open(path: &Path, room: &[FieldCube]) -> Result<(File, Vec<KeptCube>), String> {
    check_kind(path)?;
    let mut options = OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false);
    let lock = lock.open(lock_of(path)).map_err(|error| reason(&error))?;
    lock.try_lock().map_err(|error| not_locked(&error))?;
    let file = path.display();
    let found = find(path, room).map_err(|error| reason(&error))?;
    let kept = match found {
        Found::World(cubes) => {
            info!(%file, count = cubes.len(), "loose cubes are where they were");
            Some(cubes)
        }
        Found::Nothing => {
            info!(%file, "a new world is kept");
            None
        }
        Found::Other(problem) => {
            let aside = keep_aside(path).map_err(|error| reason(&error))?;
            let kept = aside.display();
            warn!(%file, %problem, %kept, "this is not the world of this server: loose cubes begin anew");
            None
        }
    };
    let cubes = kept.unwrap_or_else(|| room.iter().map(KeptCube::from).collect());
    save(path, &cubes).map_err(|error| reason(&error))?;
    Ok((lock, cubes))
}

/// Checks what a server with this file would find, and changes nothing.
///
/// # Errors
/// Why it would not start, in words.
pub(crate) fn examine(path: &Path, room: &[FieldCube]) -> Result<Found, String> {
    check_kind(path)?;
    if let Ok(lock) = File::open(lock_of(path)) {
        lock.try_lock_shared().map_err(|error| not_locked(&error))?;
    }
    find(path, room).map_err(|error| reason(&error))
}

/// Refuses what is no file: reading a pipe could hang, and a device would be replaced.
fn check_kind(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            Err("it is no file; choose another with --world".to_owned())
        }
        _ => Ok(()),
    }
}

fn find(path: &Path, room: &[FieldCube]) -> io::Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    // One byte more shows that it is too long.
    file.take(text::MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)?;
    Ok(match text::parse(&text, room) {
        Ok(cubes) => Found::World(cubes),
        Err(problem) => Found::Other(problem.to_string()),
    })
}

fn save(path: &Path, cubes: &[KeptCube]) -> io::Result<()> {
    replace(path, &text::write(cubes)?, MODE)
}

/// Gives a file the first free name of `.aside-1`, `.aside-2` and so on behind its own.
fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    let names = (1..).map(|number| beside(path, &format!(".aside-{number}")));
    let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    let Some(aside) = { names }.find(is_free) else {
        return Err(ErrorKind::AlreadyExists.into());
    };
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Returns the file that is locked: the world's own is replaced by each write.
fn lock_of(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

fn not_locked(error: &TryLockError) -> String {
    match error {
        TryLockError::WouldBlock => {
            "another server keeps its world there; give each server a file of its own".to_owned()
        }
        TryLockError::Error(error) => {
            format!("it cannot be locked: {error}; choose a file on a disk of this machine")
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "its folder does not exist; create it, or choose another file".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "no permission; let the server's user read it and write in its folder, or choose another file"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
