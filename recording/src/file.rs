//! The file that a recording is written to, and its bound.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::chunk::{FILE_HEADER, FILE_NAME};

/// How long a recording's file gets unless told otherwise: hours of a few players.
pub const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The least that can be asked for: a few chunks of a full room.
const MIN_MAX_BYTES: u64 = 1024 * 1024;

/// A file of chunks that never gets longer than its bound: before it would, its oldest chunks go.
#[derive(Debug)]
pub struct BoundedFile {
    path: PathBuf,
    file: File,
    max_bytes: u64,
    /// The lengths of the chunks in it.
    chunks: Vec<u64>,
}

impl BoundedFile {
    /// Begins a recording. A recording that is there is replaced; any other file is not.
    ///
    /// # Errors
    /// The file cannot be made, or is something else.
    pub fn create(path: &Path, max_bytes: u64) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|known| known.is_file() && known.len() > 0) {
            let mut name = [0; FILE_NAME.len()];
            let read = File::open(path)?.read_exact(&mut name);
            if read.is_err() || name != FILE_NAME {
                let kind = io::ErrorKind::AlreadyExists;
                return Err(io::Error::new(kind, "the file exists and is no recording"));
            }
        }
        let mut file = File::create(path)?;
        file.write_all(&FILE_HEADER)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            max_bytes: max_bytes.max(MIN_MAX_BYTES),
            chunks: Vec::new(),
        })
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// The disk is full, or broken; what was written before stays readable.
    pub fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
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
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let mut old = File::open(&self.path)?;
        old.seek(SeekFrom::Start(FILE_HEADER.len() as u64 + dropped_bytes))?;
        let mut new = File::create(&name)?;
        new.write_all(&FILE_HEADER)?;
        io::copy(&mut old, &mut new)?;
        fs::rename(&name, &self.path)?;
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
