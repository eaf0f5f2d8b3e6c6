//! The sources of a bundle, and one hash of all of them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{hash, tools};

/// The package that becomes the bundle.
const PACKAGE: &str = "cubesync-game";
/// The files and folders that it is built from, relative to the workspace.
const PLACES: [&str; 9] = [
    "protocol/Cargo.toml",
    "protocol/src",
    "client/Cargo.toml",
    "client/src",
    "client/game/Cargo.toml",
    "client/game/src",
    "assets/fonts",
    "assets/shaders",
    "assets/web-src",
];
const PROFILE: &str = "[profile.web]";

/// The sources of a bundle.
pub(super) struct Sources {
    /// The hash of all files, the versions of all libraries, and the build profile.
    pub(super) hash: String,
    /// The library whose loader the page needs.
    pub(super) miniquad: Miniquad,
    /// Cargo's target folder.
    pub(super) target: PathBuf,
}

/// The locked miniquad.
pub(super) struct Miniquad {
    pub(super) version: String,
    /// The path of its loader.
    pub(super) gl_js: PathBuf,
}

impl Sources {
    /// Reads all sources.
    pub(super) fn read(workspace: &Path) -> Result<Self> {
        let metadata = Metadata::read(workspace)?;
        let mut parts = Vec::new();
        for path in files(workspace)? {
            let content = fs::read(workspace.join(&path))
                .with_context(|| format!("cannot read {}", path.display()))?;
            parts.push(slashed(&path).into_bytes());
            parts.push(content);
        }
        let libraries = metadata.libraries()?;
        parts.extend(libraries.into_iter().map(String::into_bytes));
        let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
        parts.push(profile(&manifest)?.as_bytes().to_vec());
        Ok(Self {
            hash: hash(parts),
            miniquad: metadata.miniquad()?,
            target: metadata.target_directory,
        })
    }
}

/// Returns all files in a fixed order.
fn files(workspace: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut unread: Vec<PathBuf> = PLACES.into_iter().map(PathBuf::from).collect();
    while let Some(path) = unread.pop() {
        let full = workspace.join(&path);
        if full.is_file() {
            found.insert(path);
            continue;
        }
        let entries =
            fs::read_dir(&full).with_context(|| format!("cannot read {}", path.display()))?;
        for entry in entries {
            unread.push(path.join(entry?.file_name()));
        }
    }
    Ok(found)
}

/// Returns a path with slashes, which is the same on every system.
fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Returns the profile of the bundle in the workspace's manifest.
fn profile(manifest: &str) -> Result<&str> {
    let (_, after) = manifest
        .split_once(PROFILE)
        .with_context(|| format!("Cargo.toml has no {PROFILE}"))?;
    Ok(after.split("\n[").next().unwrap_or(after))
}

/// The fields that are used of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Metadata {
    fn read(workspace: &Path) -> Result<Self> {
        let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", tools::TARGET])
            .current_dir(workspace)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!(
                "cargo metadata: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata tells")
    }

    /// Returns name and version of every library that is in the bundle or builds it.
    fn libraries(&self) -> Result<BTreeSet<String>> {
        let mut seen = BTreeSet::new();
        let mut unread = vec![self.package(PACKAGE)?.id.as_str()];
        while let Some(id) = unread.pop() {
            if !seen.insert(id) {
                continue;
            }
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            let dependencies = node.into_iter().flat_map(|node| &node.deps);
            unread.extend(
                dependencies
                    .filter(|dependency| dependency.is_built())
                    .map(|dependency| dependency.pkg.as_str()),
            );
        }
        let packages = self
            .packages
            .iter()
            .filter(|package| seen.contains(package.id.as_str()));
        Ok(packages
            .map(|package| format!("{} {}", package.name, package.version))
            .collect())
    }

    fn miniquad(&self) -> Result<Miniquad> {
        let package = self.package("miniquad")?;
        let folder = package.manifest_path.parent();
        Ok(Miniquad {
            version: package.version.clone(),
            gl_js: folder.map_or_else(PathBuf::new, |folder| folder.join("js/gl.js")),
        })
    }

    fn package(&self, name: &str) -> Result<&Package> {
        let mut packages = self.packages.iter();
        packages
            .find(|package| package.name == name)
            .with_context(|| format!("the workspace has no {name}"))
    }
}

impl Dependency {
    /// Returns whether a dependency is used outside of tests.
    fn is_built(&self) -> bool {
        self.dep_kinds
            .iter()
            .any(|kind| kind.kind.as_deref() != Some("dev"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_and_game_are_sources_of_the_bundle_and_bots_are_not() {
        let files = files(&super::super::workspace()).unwrap();
        let has = |path: &str| files.contains(Path::new(path));
        assert!(has("client/src/client.rs") && has("client/game/src/main.rs"));
        assert!(has("assets/web-src/index.html"));
        assert!(!has("client/bots/src/main.rs"));
    }

    #[test]
    fn the_profile_is_cut_out_of_the_manifest() {
        let manifest = "[profile.dev]\na = 1\n[profile.web]\nb = 2\n\n[profile.bench]\nc = 3\n";
        assert_eq!(profile(manifest).unwrap(), "\nb = 2\n");
        assert_eq!(profile("[profile.web]\nb = 2\n").unwrap(), "\nb = 2\n");
        assert!(profile("[workspace]").is_err());
    }
}
