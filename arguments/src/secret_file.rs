//! Secrets in files.

use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file of a secret: thousands of keys.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The marks with which text in UTF-16 begins, as PowerShell's `>` writes it.
const UTF_16_MARKS: [&[u8]; 2] = [&[0xFF, 0xFE], &[0xFE, 0xFF]];

/// A secret that was read from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    text: String,
}

impl SecretFile {
    /// Reads a file of text. A mark of UTF-8 at its start and line ends around the text do not belong to
    /// the secret.
    ///
    /// # Errors
    /// Says why the file cannot be used, without a character of it.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let text = read(&path).map_err(|problem| format!("{}: {problem}", path.display()))?;
        Ok(Self { path, text })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text, without line ends around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the lines that are not blank.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter(|line| !line.trim().is_empty())
    }
}

impl Debug for SecretFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("is too long for a secret".to_owned());
    }
    if UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err("is text in UTF-16; save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no text in UTF-8".to_owned())?;
    let text = text
        .trim_start_matches('\u{FEFF}')
        .trim_matches(['\r', '\n']);
    match text.is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file with these bytes.
    fn read(name: &str, bytes: &[u8]) -> Result<String, String> {
        let name = format!("cubesync-secret-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        let file = SecretFile::read(path.clone());
        std::fs::remove_file(path).unwrap();
        file.map(|file| file.text().to_owned())
    }

    #[test]
    fn what_editors_add_is_not_part_of_the_secret() {
        for (number, written) in ["sesame", "sesame\n", "sesame\r\n", "\u{FEFF}sesame\r\n\r\n"]
            .into_iter()
            .enumerate()
        {
            let text = read(&format!("good-{number}"), written.as_bytes());
            assert_eq!(text.as_deref(), Ok("sesame"), "{written:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let long = vec![b'a'; MAX_FILE_BYTES as usize + 1];
        for (name, bytes, reason) in [
            ("empty", &b"\r\n"[..], "is empty"),
            (
                "utf-16",
                b"\xFF\xFEs\0",
                "is text in UTF-16; save it as UTF-8",
            ),
            ("latin-1", b"caf\xE9", "is no text in UTF-8"),
            ("long", &long, "is too long for a secret"),
        ] {
            let problem = read(name, bytes).unwrap_err();
            assert!(problem.ends_with(reason), "{problem}");
        }
        let problem = SecretFile::read("/nowhere/key".into()).unwrap_err();
        assert!(
            problem.starts_with("/nowhere/key: cannot be read: "),
            "{problem}"
        );
    }

    #[test]
    fn a_secret_is_not_printed() {
        let path = PathBuf::from("key");
        let text = "sesame".to_owned();
        assert!(!format!("{:?}", SecretFile { path, text }).contains("sesame"));
    }
}
