//! Recordings and the world: whether a new one can be written, and an old one can be read.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use cubesync_recording::{Place, Recording};

use super::Finding;
use crate::config::Config;
use crate::replace::folder;
use crate::world::{self, Found};

const ABOUT_RECORD: &str = "recording";

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let record = config.record.as_deref();
    let record = record.map(|wanted| examine_record(wanted, config.record_max_bytes()));
    let replay = config.replay.as_deref().map(|path| {
        let read = std::fs::File::open(path)
            .map_err(|error| error.to_string())
            .and_then(|file| {
                Recording::read(io::BufReader::new(file)).map_err(|error| error.to_string())
            });
        judge_replay(path, read.map(|_| ()))
    });
    let world = config.world.as_deref().zip(config.field());
    let world = world.map(|(path, field)| {
        let found = world::examine(path, &field.cubes);
        judge_world(path, &can_create(folder(path)), found)
    });
    record.into_iter().chain(replay).chain(world).collect()
}

fn examine_record(wanted: &Path, max_bytes: u64) -> Finding {
    match Place::find(wanted) {
        Ok(Place::NewFile(path)) => {
            let space = space_bytes(folder(&path));
            judge_record(&path, &can_write(&path), space, max_bytes)
        }
        // Opening a pipe would tell its reader that something begins.
        Ok(Place::Stream(path)) => {
            let path = path.display();
            Finding::ok(ABOUT_RECORD, format!("{path} is no file and keeps nothing"))
        }
        Err(error) => judge_record(wanted, &Err(error), None, max_bytes),
    }
}

/// Checks whether a file could be written. An existing file is not changed.
pub(super) fn can_write(path: &Path) -> io::Result<()> {
    if path.exists() {
        return OpenOptions::new().write(true).open(path).map(|_| ());
    }
    can_create(folder(path))
}

/// Checks whether a file could be created in a folder.
fn can_create(folder: &Path) -> io::Result<()> {
    // The trial has a name of its own, because an empty recording or key would break a later start.
    let trial = folder.join(format!(".cubesync-doctor-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&trial)?;
    std::fs::remove_file(&trial)
}

/// Returns the free space of a folder, or `None` if the system does not report it.
#[cfg(unix)]
fn space_bytes(folder: &Path) -> Option<u64> {
    let space = nix::sys::statvfs::statvfs(folder).ok()?;
    // Their widths differ from system to system.
    #[allow(clippy::unnecessary_cast)]
    let (blocks, block_bytes) = (
        space.blocks_available() as u64,
        space.fragment_size() as u64,
    );
    Some(blocks.saturating_mul(block_bytes))
}

#[cfg(not(unix))]
fn space_bytes(_: &Path) -> Option<u64> {
    None
}

fn judge_record(
    path: &Path,
    writable: &io::Result<()>,
    space_bytes: Option<u64>,
    max_bytes: u64,
) -> Finding {
    let path = path.display();
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1024 * 1024));
    match (writable, space_bytes) {
        (Err(error), _) => Finding::problem(
            ABOUT_RECORD,
            format!("cannot write {path}: {error}"),
            "let the server's user write there, or choose another file with --record",
        ),
        (Ok(()), Some(space)) if space < max_bytes => Finding::problem(
            ABOUT_RECORD,
            format!(
                "{} are free beside {path}, and it may grow to {}: the recording would end",
                mib(space),
                mib(max_bytes)
            ),
            "make room, or bound it with --record-max",
        ),
        (Ok(()), _) => Finding::ok(
            ABOUT_RECORD,
            format!("the next one goes to {path}, up to {}", mib(max_bytes)),
        ),
    }
}

fn judge_replay(path: &Path, read: Result<(), String>) -> Finding {
    const ABOUT: &str = "replay";
    let path = path.display();
    match read {
        Ok(()) => Finding::ok(ABOUT, format!("{path} can be played")),
        Err(error) => Finding::problem(
            ABOUT,
            format!("{path} cannot be played: {error}"),
            "choose another file with --replay",
        ),
    }
}

fn judge_world(path: &Path, writable: &io::Result<()>, found: Result<Found, String>) -> Finding {
    const ABOUT: &str = "world";
    let path = path.display();
    match (writable, found) {
        (Err(error), _) => Finding::problem(
            ABOUT,
            format!("cannot write beside {path}: {error}"),
            "let the server's user write in its folder, or choose another file with --world",
        ),
        (Ok(()), Err(reason)) => {
            Finding::problem(ABOUT, format!("the world cannot be kept in {path}"), reason)
        }
        (Ok(()), Ok(Found::Nothing)) => {
            Finding::ok(ABOUT, format!("a new one will be kept in {path}"))
        }
        (Ok(()), Ok(Found::World(cubes))) => {
            let count = cubes.len();
            Finding::ok(ABOUT, format!("{count} loose cubes go on as in {path}"))
        }
        (Ok(()), Ok(Found::Other(reason))) => Finding::note(
            ABOUT,
            format!("{path} is not this server's world: {reason}"),
            "a start would keep it aside under another name, and loose cubes would begin anew",
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_recording_needs_permission_and_space() {
        let path = Path::new("game.rec");
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        let verdict = |writable, space| judge_record(path, writable, space, 1_000).verdict;
        assert_eq!(verdict(&Ok(()), Some(1_000)), Verdict::Ok);
        assert_eq!(verdict(&Ok(()), None), Verdict::Ok);
        assert_eq!(verdict(&Ok(()), Some(999)), Verdict::Problem);
        assert_eq!(verdict(&denied, Some(1_000)), Verdict::Problem);
    }

    #[test]
    fn a_file_to_play_must_be_a_recording() {
        let path = Path::new("game.rec");
        assert_eq!(judge_replay(path, Ok(())).verdict, Verdict::Ok);
        let broken = judge_replay(path, Err("broken".into()));
        assert_eq!(broken.verdict, Verdict::Problem);
    }

    #[test]
    fn a_world_needs_a_folder_and_may_be_replaced() {
        let path = Path::new("field.world");
        let verdict = |writable, found| judge_world(path, &writable, found).verdict;
        let found = |found| verdict(Ok(()), Ok(found));
        assert_eq!(found(Found::Nothing), Verdict::Ok);
        assert_eq!(found(Found::World(Vec::new())), Verdict::Ok);
        assert_eq!(found(Found::Other("cut".into())), Verdict::Note);
        let locked = Err("another server".into());
        assert_eq!(verdict(Ok(()), locked), Verdict::Problem);
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(verdict(denied, Ok(Found::Nothing)), Verdict::Problem);
    }

    #[test]
    fn the_check_changes_no_files_and_leaves_none() {
        let folder = std::env::temp_dir().join(format!("doctor-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("game.rec");
        let verdicts = |path: &Path| {
            let flags = ["cubesync-server", "--record", path.to_str().unwrap()];
            let findings = examine(&Config::parse_from(flags));
            findings
                .iter()
                .map(|finding| finding.verdict)
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&folder), [Verdict::Problem]);
        assert_eq!(verdicts(&file), [Verdict::Ok]);
        assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
        std::fs::write(&file, "old").unwrap();
        assert_eq!(verdicts(&file), [Verdict::Ok]);
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        assert_eq!(
            verdicts(&folder.join("missing/game.rec")),
            [Verdict::Problem]
        );
        let finding = examine_record(&file, 1_000);
        assert!(
            finding.summary.contains("game-2.rec"),
            "{}",
            finding.summary
        );
        assert!(!folder.join("game-2.rec").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_no_problem_however_full_the_disk_is() {
        let finding = examine_record(Path::new("/dev/null"), u64::MAX);
        assert_eq!(finding.verdict, Verdict::Ok);
    }

    #[cfg(unix)]
    #[test]
    fn the_system_reports_the_free_space() {
        assert!(space_bytes(Path::new(".")).is_some());
    }
}
