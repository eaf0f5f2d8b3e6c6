//! The file of the control socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::start_error::StartError;

/// Only the server's user, and root, may give orders.
const MODE: u32 = 0o600;

/// A socket that listens for orders. Its file goes with it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    pub(super) listener: UnixListener,
    file: SocketFile,
}

/// A file that is removed when this is dropped, unless another server has put its own in place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Begins to listen at a path, where no other server may. What a dead one has left there is replaced.
    ///
    /// # Errors
    /// The path and the cause, in words.
    pub(crate) async fn open(path: &Path) -> Result<Self, StartError> {
        let opened = match check_place(path).await {
            Ok(()) => listen(path).map_err(|error| reason(&error)),
            Err(reason) => Err(reason),
        };
        opened.map_err(|reason| StartError::Control {
            path: path.to_owned(),
            reason,
        })
    }

    /// Returns where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Checks that a path is free, or has the socket of a server that is gone.
async fn check_place(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(reason(&error)),
        Ok(found) if !found.file_type().is_socket() => {
            Err("there is a file of another kind; choose another path".to_owned())
        }
        // A full queue of a server that is busy is an error as well, but another one.
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err("another user's server has it; choose another path".to_owned())
            }
            _ => {
                Err("another server listens there; choose another path for each server".to_owned())
            }
        },
    }
}

/// Listens at a path. The file appears there with its final rights, in place of another one.
fn listen(path: &Path) -> io::Result<ControlSocket> {
    // Callers could not name a longer one.
    SocketAddr::from_pathname(path)?;
    // Nobody else can open what is in this folder, whatever rights new files have.
    let folder = path.with_file_name(format!(".cubesync-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let hidden = folder.join("s");
    let listening = bind(&hidden, path);
    if listening.is_err() {
        // It may be there or not.
        let _ = fs::remove_file(&hidden);
    }
    // It is empty, and ours.
    let _ = fs::remove_dir(&folder);
    listening
}

fn bind(hidden: &Path, path: &Path) -> io::Result<ControlSocket> {
    let listener = UnixListener::bind(hidden)?;
    fs::set_permissions(hidden, Permissions::from_mode(MODE))?;
    let metadata = fs::symlink_metadata(hidden)?;
    fs::rename(hidden, path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    Ok(ControlSocket { listener, file })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "its folder does not exist".to_owned(),
        ErrorKind::PermissionDenied => "no permission to write in its folder".to_owned(),
        ErrorKind::InvalidInput => {
            "the system takes no longer path for a socket; choose a shorter one".to_owned()
        }
        _ => error.to_string(),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // It goes with the machine's next start otherwise.
            let _ = fs::remove_file(&self.path);
        }
    }
}
