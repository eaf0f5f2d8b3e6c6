//! The manifest of a bundle: its sources, the programs that built it, and its files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::hash;
use super::sources::Sources;
use super::tools::Built;

/// The name of the manifest in the bundle.
pub(super) const MANIFEST: &str = "manifest.json";

/// The manifest of a bundle.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The hash of the sources.
    pub(super) sources: String,
    /// The version of miniquad whose gl.js is in the bundle.
    pub(super) miniquad: String,
    /// The programs that built it: other versions build other bytes from the same sources.
    tools: String,
    /// Every file by its name, without the extension of its compression.
    pub(super) files: BTreeMap<String, Entry>,
}

/// The sizes of one file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Uncompressed, in bytes.
    pub(super) bytes: usize,
    /// Compressed with brotli, if it is stored so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) br: Option<usize>,
    /// Compressed with gzip, if it is stored so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gz: Option<usize>,
}

impl Manifest {
    /// Returns the manifest of a bundle without files.
    pub(super) fn new(sources: &Sources, built: &Built) -> Self {
        Self {
            sources: sources.hash.clone(),
            miniquad: sources.miniquad.version.clone(),
            tools: built.tools.clone(),
            files: BTreeMap::new(),
        }
    }

    /// Reads the manifest of a bundle.
    pub(super) fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join(MANIFEST);
        let text = fs::read(&path).with_context(|| {
            format!(
                "no bundle: cannot read {}; run `cargo xtask web`",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is broken", path.display()))
    }

    /// Returns the manifest as it is stored.
    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Checks that every file exists and has the size and the hash that the manifest and its name state.
    pub(super) fn check_files(&self, bundle: &Path) -> Result<()> {
        for (name, entry) in &self.files {
            let stored = [
                ("", Some(entry.bytes)),
                (".br", entry.br),
                (".gz", entry.gz),
            ];
            // What is there compressed is not there as it is.
            let stored = &stored[usize::from(entry.br.is_some())..];
            for (ending, bytes) in stored {
                let Some(bytes) = bytes else { continue };
                let name = format!("{name}{ending}");
                let content = fs::read(bundle.join(&name))
                    .with_context(|| format!("the bundle lacks {name}"))?;
                if content.len() != *bytes {
                    bail!("{name} was changed by hand: build the bundle again");
                }
                let hash = hash([&content]);
                if ending.is_empty() && name.contains('-') && !name.contains(&hash) {
                    bail!("{name} was changed by hand: build the bundle again");
                }
            }
        }
        Ok(())
    }

    /// Returns the sizes as a table.
    pub(super) fn sizes(&self) -> String {
        let mut table = format!("{:>9} {:>9} {:>9}  bytes\n", "plain", "gzip", "brotli");
        let mut row = |name: &str, [plain, gz, br]: [usize; 3]| {
            let _ = writeln!(table, "{plain:>9} {gz:>9} {br:>9}  {name}");
        };
        let mut total = [0; 3];
        for (name, entry) in &self.files {
            let sizes = [
                entry.bytes,
                entry.gz.unwrap_or(entry.bytes),
                entry.br.unwrap_or(entry.bytes),
            ];
            row(name, sizes);
            total = std::array::from_fn(|column| total[column] + sizes[column]);
        }
        row("in all", total);
        table
    }
}
