//! Where a new recording goes: never over anything that is there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The largest number behind a recording's name. More recordings of one name are a service that
/// fails at each start.
const MAX_NUMBER: u32 = 9_999;
/// The longest chain of symbolic links that is followed, as in Linux.
const MAX_LINKS: usize = 40;

/// The place of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A new file.
    NewFile(PathBuf),
    /// A device, a pipe or a socket: it keeps nothing, so nothing in it can be lost.
    Stream(PathBuf),
}

impl Place {
    /// Returns where a recording into `wanted` would go if it began now: where a file is there
    /// already, to the next free name, such as `lobby-2.rec` for `lobby.rec`.
    ///
    /// # Errors
    /// The path is a folder, or no name is free.
    pub fn find(wanted: &Path) -> io::Result<Self> {
        let target = match target(wanted)? {
            Self::NewFile(target) => target,
            stream @ Self::Stream(_) => return Ok(stream),
        };
        // Unlike `exists`, this sees a link to nothing as well.
        let free = names(&target).find(|name| fs::symlink_metadata(name).is_err());
        free.map(Self::NewFile).ok_or_else(all_are_taken)
    }
}

/// Opens the place of a recording for writing. Of two programs that ask for the same new file at once,
/// each gets its own.
pub(crate) fn open(wanted: &Path) -> io::Result<(File, Place)> {
    match target(wanted)? {
        Place::NewFile(target) => {
            let (file, path) = create_new(&target)?;
            Ok((file, Place::NewFile(path)))
        }
        Place::Stream(path) => Ok((open_stream(&path)?, Place::Stream(path))),
    }
}

/// Creates the first file of these names that does not exist: `lobby.rec`, `lobby-2.rec` and so on.
pub(crate) fn create_new(target: &Path) -> io::Result<(File, PathBuf)> {
    for name in names(target) {
        let mut options = File::options();
        let created = options.read(true).write(true).create_new(true).open(&name);
        let error = match created {
            Ok(file) => return Ok((file, name)),
            Err(error) => error,
        };
        let folder = name.parent().unwrap_or(&name);
        if !folder.is_dir() {
            let reason = format!("there is no folder {}; make it first", folder.display());
            return Err(io::Error::new(error.kind(), reason));
        }
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
    }
    Err(all_are_taken())
}

/// Returns what `wanted` names behind its symbolic links, which need not exist.
fn target(wanted: &Path) -> io::Result<Place> {
    match fs::metadata(wanted) {
        Ok(known) if known.is_dir() => {
            let kind = io::ErrorKind::IsADirectory;
            let reason = "it is a folder; name a file in it";
            return Err(io::Error::new(kind, reason));
        }
        Ok(known) if !known.is_file() => return Ok(Place::Stream(wanted.to_owned())),
        _ => {}
    }
    let mut target = std::path::absolute(wanted)?;
    for _ in 0..MAX_LINKS {
        let Ok(link) = fs::read_link(&target) else {
            return Ok(Place::NewFile(target));
        };
        target.pop();
        target.push(link);
    }
    Err(io::Error::other("too many symbolic links"))
}

fn names(target: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = (2..=MAX_NUMBER).map(|number| {
        let mut name = target.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{number}"));
        if let Some(extension) = target.extension() {
            name.push(".");
            name.push(extension);
        }
        target.with_file_name(name)
    });
    std::iter::once(target.to_owned()).chain(numbered)
}

fn all_are_taken() -> io::Error {
    let reason = format!("there are {MAX_NUMBER} files of this name; move them away");
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}

#[cfg(unix)]
fn open_stream(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    // Opening a pipe waits for its reader, possibly for ever, but for this flag.
    let without_waiting = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut options = File::options();
    let _reader_is_there = options
        .write(true)
        .custom_flags(without_waiting)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(code) if code == nix::errno::Errno::ENXIO as i32 => {
                io::Error::new(error.kind(), "nobody reads from it; start its reader first")
            }
            _ => error,
        })?;
    File::options().write(true).open(path)
}

#[cfg(not(unix))]
fn open_stream(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// Whether a file is still the one at this path: not moved, deleted or replaced.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let known = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let there = fs::symlink_metadata(path).map(known);
    file.metadata().map(known).ok() == there.ok()
}

/// Whether a file is still the one at this path. Here an open file stays where it is.
#[cfg(not(unix))]
pub(crate) fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_before_the_ending() {
        for (name, second) in [
            ("a.rec", "a-2.rec"),
            ("/x.y/lobby", "/x.y/lobby-2"),
            ("a.b.rec", "a.b-2.rec"),
            (".rec", ".rec-2"),
            ("a-2.rec", "a-2-2.rec"),
        ] {
            let names: Vec<_> = names(Path::new(name)).take(2).collect();
            assert_eq!(names, [Path::new(name), Path::new(second)]);
        }
    }
}
