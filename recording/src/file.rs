//! The file that a recording is written to, and its bound.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::chunk::FILE_HEADER;
use crate::place::{self, Place};

/// How long a recording's file gets unless told otherwise: hours of a few players.
pub const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The least that can be asked for: a few chunks of a full room.
const MIN_MAX_BYTES: u64 = 1024 * 1024;

/// A file of chunks that never gets longer than its bound: before it would, its oldest chunks go. A
/// device or a pipe keeps nothing, and has no bound.
#[derive(Debug)]
pub struct BoundedFile {
    place: Place,
    file: File,
    max_bytes: u64,
    /// The lengths of the chunks in it.
    chunks: Vec<u64>,
}

impl BoundedFile {
    /// Begins a recording in a file of its own: at `path`, or beside what is there already
    /// ([`Place::find`]). Nothing that exists is changed.
    ///
    /// # Errors
    /// The file cannot be created, or nobody reads from the pipe.
    pub fn create(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let (mut file, place) = place::open(path)?;
        file.write_all(&FILE_HEADER)?;
        Ok(Self {
            place,
            file,
            max_bytes: max_bytes.max(MIN_MAX_BYTES),
            chunks: Vec::new(),
        })
    }

    /// Returns where the recording goes, which need not be where it was wanted.
    pub fn path(&self) -> &Path {
        let (Place::NewFile(path) | Place::Stream(path)) = &self.place;
        path
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// The disk is full, or broken; what was written before stays readable.
    pub fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        if matches!(self.place, Place::Stream(_)) {
            return self.file.write_all(chunk);
        }
        let len_bytes = chunk.len() as u64;
        if self.len() + len_bytes > self.max_bytes {
            self.drop_oldest(len_bytes)?;
        }
        self.file.write_all(chunk)?;
        self.chunks.push(len_bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        FILE_HEADER.len() as u64 + self.chunks.iter().sum::<u64>()
    }

    /// Drops the oldest quarter, and more if need be, so that `coming` bytes have room. What is kept
    /// is copied into a new file beside this one, which then takes its place: there is a whole
    /// recording at every moment.
    fn drop_oldest(&mut self, coming: u64) -> io::Result<()> {
        let target = (self.max_bytes / 4 * 3).min(self.max_bytes.saturating_sub(coming));
        let mut dropped = 0;
        let mut left = self.len();
        while left > target && dropped < self.chunks.len() {
            left -= self.chunks[dropped];
            dropped += 1;
        }
        let dropped_bytes: u64 = self.chunks.drain(..dropped).sum();
        let mut name = self.path().to_owned().into_os_string();
        name.push(".new");
        let (new, name) = place::create_new(Path::new(&name))?;
        let replaced = self.replace_by(new, &name, dropped_bytes);
        if replaced.is_err() {
            // Half a copy on a full disk would help nobody.
            let _ = fs::remove_file(&name);
        }
        replaced
    }

    fn replace_by(&mut self, mut new: File, name: &Path, dropped_bytes: u64) -> io::Result<()> {
        new.write_all(&FILE_HEADER)?;
        let kept = FILE_HEADER.len() as u64 + dropped_bytes;
        self.file.seek(SeekFrom::Start(kept))?;
        io::copy(&mut self.file, &mut new)?;
        if !place::is_at(&self.file, self.path()) {
            // Somebody moved the file away, and there may be another one in its place by now.
            let (_, path) = place::create_new(self.path())?;
            self.place = Place::NewFile(path);
        }
        fs::rename(name, self.path())?;
        self.file = new;
        Ok(())
    }
}

/// A length in bytes as a person writes it: `500K`, `64M`, `2G`, in steps of 1,024.
///
/// # Errors
/// In words, for the command line.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size of at least 1M, such as 64M or 2G".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let size = number.checked_mul(1 << shift).ok_or_else(expected)?;
    if size < MIN_MAX_BYTES {
        return Err(expected());
    }
    Ok(size)
}
