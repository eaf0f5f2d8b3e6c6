//! `cargo xtask web`: builds the browser's client into `assets/web/`, from where the server embeds it. The
//! bundle is committed, so that others do not need the tools; `--check` compares it with its sources.

mod bundle;
mod manifest;
mod sources;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::manifest::Manifest;
use self::sources::Sources;
use self::tools::Toolchain;

/// The folder of the bundle, relative to the workspace.
const BUNDLE: &str = "assets/web";

/// The options of `cargo xtask web`.
#[derive(Args)]
pub(crate) struct Options {
    /// Build nothing; fail if the bundle was built from other sources.
    #[arg(long)]
    check: bool,
    /// Write into this folder, which must not exist yet, instead of assets/web.
    #[arg(long, value_name = "FOLDER", conflicts_with = "check")]
    into: Option<PathBuf>,
    /// Build with this toolchain instead of the first one that is installed.
    #[arg(long, value_enum)]
    toolchain: Option<Toolchain>,
}

/// Builds or checks the bundle.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = workspace();
    let sources = Sources::read(&workspace)?;
    let committed = workspace.join(BUNDLE);
    if options.check {
        return check(&Manifest::read(&committed)?, &sources, &committed);
    }
    if let Some(folder) = &options.into {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let toolchain = options.toolchain.map_or_else(Toolchain::installed, Ok)?;
    let built = tools::build(toolchain, &workspace, &sources)?;
    let folder = options.into.as_deref().unwrap_or(&committed);
    let manifest = bundle::write(&workspace, folder, &sources, &built)?;
    print!("{}", manifest.sizes());
    Ok(())
}

/// Checks that a bundle was built from these sources and is complete.
fn check(manifest: &Manifest, sources: &Sources, bundle: &Path) -> Result<()> {
    if manifest.miniquad != sources.miniquad.version {
        bail!(
            "the bundle's gl.js is of miniquad {}, but Cargo.lock has {}; run `cargo xtask web`",
            manifest.miniquad,
            sources.miniquad.version
        );
    }
    if manifest.sources != sources.hash {
        bail!(
            "{BUNDLE} was built from other sources; run `cargo xtask web --toolchain debian` and commit what it \
             writes"
        );
    }
    manifest.check_files(bundle)?;
    println!("{BUNDLE} is the bundle of its sources");
    Ok(())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns a hash of a content that is the same on every machine: FNV-1a with 64 bits (G. Fowler, L. C.
/// Noll, K.-P. Vo). It need not resist attacks.
fn hash(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    for part in parts {
        let part = part.as_ref();
        part.iter().copied().for_each(&mut add);
        // So that what goes from one part to the next counts.
        part.len().to_le_bytes().into_iter().for_each(&mut add);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_in_the_bundle_is_of_the_locked_miniquad() {
        // Another one is a black screen.
        let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
        let (_, entry) = lock
            .split_once("name = \"miniquad\"\nversion = \"")
            .unwrap();
        let (locked, _) = entry.split_once('"').unwrap();
        let manifest = Manifest::read(&workspace().join(BUNDLE)).unwrap();
        assert_eq!(manifest.miniquad, locked);
    }

    #[test]
    fn every_file_of_the_bundle_is_there_as_it_was_built() {
        let bundle = workspace().join(BUNDLE);
        Manifest::read(&bundle)
            .unwrap()
            .check_files(&bundle)
            .unwrap();
    }

    #[test]
    fn what_moves_between_two_files_changes_the_hash() {
        assert_eq!(hash(["a"]), hash(["a"]));
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
        assert_ne!(hash(["a"]), hash(["a", ""]));
    }
}
