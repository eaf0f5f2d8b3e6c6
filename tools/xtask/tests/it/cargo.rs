//! What cargo knows of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Returns the workspace's folder.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("../..").canonicalize().unwrap()
}

/// Reads a file of the workspace.
pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// Runs cargo with the locked dependencies and returns its output.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).arg("--locked").current_dir(root());
    let output = command.output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the packages that `cargo metadata` lists with these flags.
pub(crate) fn packages(flags: &[&str]) -> Vec<Value> {
    let metadata = cargo(&[&["metadata", "--format-version", "1"], flags].concat());
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Returns the folder of a package or of a path dependency, relative to the workspace's, with slashes.
pub(crate) fn folder(path: &str) -> String {
    let relative = Path::new(path).strip_prefix(root()).unwrap();
    let names = relative.iter().map(|name| name.to_str().unwrap());
    names.collect::<Vec<_>>().join("/")
}

/// Returns the folder of a package, relative to the workspace's.
pub(crate) fn folder_of(package: &Value) -> String {
    let manifest = Path::new(text(package, "manifest_path"));
    folder(manifest.parent().unwrap().to_str().unwrap())
}

/// Returns a field that holds a string, or nothing where it is absent.
pub(crate) fn text<'value>(value: &'value Value, key: &str) -> &'value str {
    value[key].as_str().unwrap_or_default()
}
