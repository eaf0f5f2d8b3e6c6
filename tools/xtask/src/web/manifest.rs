//! What a bundle says about itself: what it was built from and by, and what is in it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::hash;
use super::sources::Sources;
use super::tools::Built;

/// The file's name, in the bundle.
pub(super) const MANIFEST: &str = "manifest.json";

/// A bundle's description.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The hash of the sources.
    pub(super) sources: String,
    /// The version whose gl.js it has.
    pub(super) miniquad: String,
    /// What built it: other versions make other bytes of the same sources.
    tools: String,
    /// Every file by its name, without the ending of its compression.
    pub(super) files: BTreeMap<String, Entry>,
}

/// One file's sizes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// As it is.
    pub(super) bytes: usize,
    /// As brotli, if it is there so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) br: Option<usize>,
    /// As gzip, if it is there so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gz: Option<usize>,
}

impl Manifest {
    /// Of a bundle that has no file yet.
    pub(super) fn new(sources: &Sources, built: &Built) -> Self {
        Self {
            sources: sources.hash.clone(),
            miniquad: sources.miniquad.version.clone(),
            tools: built.tools.clone(),
            files: BTreeMap::new(),
        }
    }

    /// Reads the one in a bundle.
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

    /// As it is stored.
    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Whether every file is there, and is what its name says.
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

    /// The sizes as a table for people.
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
