//! A recording that was read: chunks by time, and what is wrong with it.

use std::io::Read;
use std::time::Duration;

use crate::chunk::{Chunk, Damage, Direction, Entry, FILE_HEADER, FILE_NAME, is_playable};

/// Why a file is no recording at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It begins otherwise.
    #[error("it is no recording of cubesync")]
    Foreign,
    /// A program of another time wrote it.
    #[error("it was recorded by a version of cubesync with another format or another wire")]
    Version,
    /// Nothing in it is whole.
    #[error("nothing is in it that can be played{}", because(*.0))]
    Empty(Option<Damage>),
}

/// A recording, up to its end or to the first damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Not empty, by rising time.
    chunks: Vec<Chunk>,
    damage: Option<Damage>,
}

/// A place in a recording: before an entry.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    next_chunk: usize,
    entries: std::vec::IntoIter<Entry>,
    next: Option<Entry>,
    /// The opening of the next chunk is wanted: what was said before it was not heard.
    is_start: bool,
}

impl Recording {
    /// Reads a whole recording; it stays packed in memory.
    ///
    /// # Errors
    /// [`OpenError`] when there is nothing to play. [`damage`](Self::damage) says whether something is
    /// missing at the end.
    pub fn read(mut from: impl Read) -> Result<Self, OpenError> {
        let mut header = Vec::new();
        let read = (&mut from)
            .take(FILE_HEADER.len() as u64)
            .read_to_end(&mut header);
        read.map_err(|error| OpenError::Unreadable(error.to_string()))?;
        if !header.starts_with(&FILE_NAME) {
            return Err(OpenError::Foreign);
        }
        if header
            .first_chunk()
            .is_some_and(|whole| !is_playable(whole))
        {
            return Err(OpenError::Version);
        }
        let mut chunks: Vec<Chunk> = Vec::new();
        let damage = loop {
            match Chunk::read(&mut from) {
                Ok(None) => break None,
                Err(damage) => break Some(damage),
                Ok(Some(chunk)) => {
                    let before = chunks.last().map_or(Duration::ZERO, |last| last.end);
                    if chunk.start < before || chunk.end < chunk.start {
                        break Some(Damage::Nonsense);
                    }
                    chunks.push(chunk);
                }
            }
        };
        if chunks.is_empty() {
            return Err(OpenError::Empty(damage));
        }
        Ok(Self { chunks, damage })
    }

    /// When it begins.
    pub fn start(&self) -> Duration {
        self.chunks
            .first()
            .map_or(Duration::ZERO, |first| first.start)
    }

    /// When it ends.
    pub fn end(&self) -> Duration {
        self.chunks.last().map_or(Duration::ZERO, |last| last.end)
    }

    /// Returns a description of the damage and the time up to which it can be played; `None` for a
    /// whole recording.
    pub fn damage(&self) -> Option<String> {
        let damage = self.damage?;
        let length = (self.end() - self.start()).as_secs_f64();
        Some(format!(
            "the recording is damaged: {damage}; its first {length:.1} s can be played"
        ))
    }

    /// The last place at or before a time from which it can be played: the beginning of a chunk.
    pub fn seek(&self, at: Duration) -> Cursor {
        let after = self.chunks.partition_point(|chunk| chunk.start <= at);
        Cursor {
            next_chunk: after.saturating_sub(1),
            is_start: true,
            ..Cursor::default()
        }
    }
}

impl Cursor {
    /// The entry after this place. The first ones are an [opening](Direction::Opening); later
    /// openings are left out, and so is everything behind a chunk that makes no sense.
    pub fn peek(&mut self, recording: &Recording) -> Option<&Entry> {
        while self.next.is_none() {
            self.next = self.entries.next();
            if self.next.is_none() {
                let chunk = recording.chunks.get(self.next_chunk)?;
                self.next_chunk += 1;
                match chunk.entries() {
                    Ok(entries) => self.entries = entries.into_iter(),
                    Err(_) => self.next_chunk = recording.chunks.len(),
                }
                continue;
            }
            let is_opening =
                self.next.as_ref().map(|entry| entry.direction) == Some(Direction::Opening);
            if is_opening && !self.is_start {
                self.next = None;
            }
            self.is_start &= is_opening;
        }
        self.next.as_ref()
    }

    /// Goes on by an entry if it is of this time.
    pub fn next_at(&mut self, recording: &Recording, at: Duration) -> Option<Entry> {
        self.peek(recording).filter(|entry| entry.at == at)?;
        self.next.take()
    }

    /// Goes on by an entry.
    pub fn next(&mut self, recording: &Recording) -> Option<Entry> {
        self.peek(recording)?;
        self.next.take()
    }
}

fn because(damage: Option<Damage>) -> String {
    damage.map_or(String::new(), |damage| format!(": {damage}"))
}
