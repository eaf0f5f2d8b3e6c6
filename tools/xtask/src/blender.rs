//! `cargo xtask blender`: packs the add-on for Blender with the Python package that it needs, and tests it in Blender.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// The add-on, relative to the workspace.
const ADD_ON: &str = "client/blender";
/// The sources of the Python package.
const PACKAGE: &str = "client/python";
/// Where everything is built.
const BUILD: &str = "target/blender";
/// What of the add-on's folder is packed beside its modules.
const PACKED: [&str; 1] = ["upbge/cubesync_component.py"];
/// The Python of Blender 4.2 to 4.5, which is also that of their packages on PyPI.
const PYTHON_OF_BLENDER: &str = "3.11";

/// The options of `cargo xtask blender`.
#[derive(Args)]
pub(crate) struct Options {
    /// Pack these wheels, one for each platform, instead of building one for this machine.
    #[arg(long, value_name = "FILE")]
    wheel: Vec<PathBuf>,
    /// Python 3.9 or later, with venv and pip; for --test the one that bpy is made for.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Install Blender as a Python module from PyPI (half a gigabyte), and test the add-on in it.
    #[arg(long)]
    test: bool,
    /// Version of that module.
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "4.2.0",
        requires = "test"
    )]
    bpy: String,
}

/// Packs the add-on, and tests it if that is asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let python = version_of(&options.python)?;
    if options.test && python != PYTHON_OF_BLENDER {
        bail!(
            "bpy {} needs Python {PYTHON_OF_BLENDER}, and {} is {python}: name another one with --python",
            options.bpy,
            options.python.display(),
        );
    }
    let build = workspace.join(BUILD);
    let tools = environment(&options.python, &build.join("tools"))?;
    let wheels = if options.wheel.is_empty() {
        vec![wheel(&tools, &workspace)?]
    } else {
        options.wheel.clone()
    };
    let zip = pack(&tools, &workspace, &wheels)?;
    println!(
        "{} ({} kB)",
        zip.display(),
        fs::metadata(&zip)?.len() / 1000
    );
    if options.test {
        test(options, &workspace, &zip)?;
    }
    Ok(())
}

/// Returns the version of a Python that has what is needed here, such as 3.11.
fn version_of(python: &Path) -> Result<String> {
    const QUESTION: &str = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])";
    let answer = Command::new(python)
        .args(["-c", QUESTION])
        .output()
        .with_context(|| {
            format!(
                "cannot start {}: install Python, or name one with --python",
                python.display()
            )
        })?;
    if !answer.status.success() {
        let words = String::from_utf8_lossy(&answer.stderr);
        bail!(
            "{} has no venv or no pip (Debian: python3-venv): {}",
            python.display(),
            words.trim().lines().last().unwrap_or_default(),
        );
    }
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

/// Makes a virtual environment unless it is there, and returns its Python.
fn environment(python: &Path, folder: &Path) -> Result<PathBuf> {
    let inside = if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    };
    if !folder.join(inside).exists() {
        call(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    }
    Ok(folder.join(inside))
}

/// Builds the package's wheel for this machine. Pip brings maturin by itself.
fn wheel(tools: &Path, workspace: &Path) -> Result<PathBuf> {
    let folder = workspace.join(BUILD).join("wheel");
    empty(&folder)?;
    let mut pip = Command::new(tools);
    pip.args(["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]);
    call(pip.arg(&folder).arg(workspace.join(PACKAGE)))
        .context("cannot build the wheel of the package cubesync; pip needs PyPI for maturin")?;
    let built = fs::read_dir(&folder)?.next();
    Ok(built.context("pip has built no wheel")??.path())
}

/// Packs the add-on and the wheels as Blender installs them, and returns the zip.
fn pack(tools: &Path, workspace: &Path, wheels: &[PathBuf]) -> Result<PathBuf> {
    let (from, folder) = (
        workspace.join(ADD_ON),
        workspace.join(BUILD).join("cubesync"),
    );
    empty(&folder)?;
    for name in ["wheels", "upbge"] {
        fs::create_dir(folder.join(name))?;
    }
    for entry in fs::read_dir(&from)? {
        let path = entry?.path();
        if let (Some(name), true) = (
            path.file_name(),
            path.extension().is_some_and(|end| end == "py"),
        ) {
            copy(&path, &folder.join(name))?;
        }
    }
    for name in PACKED {
        copy(&from.join(name), &folder.join(name))?;
    }
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&workspace.join(name), &folder.join(name))?;
    }
    let mut names = Vec::new();
    for wheel in wheels {
        let name = wheel.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} is no wheel", wheel.display()))?;
        copy(wheel, &folder.join("wheels").join(name))?;
        names.push(name);
    }
    let manifest = fs::read_to_string(from.join("blender_manifest.toml"))?;
    fs::write(
        folder.join("blender_manifest.toml"),
        with_wheels(&manifest, &names)?,
    )?;

    let zip = workspace
        .join(BUILD)
        .join(concat!("cubesync-", env!("CARGO_PKG_VERSION"), ".zip"));
    let mut contents = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    contents.sort();
    let mut zipfile = Command::new(tools);
    zipfile
        .args(["-m", "zipfile", "--create"])
        .arg(&zip)
        .args(contents);
    call(zipfile.current_dir(&folder))?;
    Ok(zip)
}

/// Returns the manifest of an add-on that has these wheels.
fn with_wheels(manifest: &str, names: &[&str]) -> Result<String> {
    const TABLE: &str = "[permissions]";
    let platforms = names
        .iter()
        .map(|name| platform(name))
        .collect::<Result<Vec<_>>>()?;
    let (before, after) = manifest
        .split_once(TABLE)
        .with_context(|| format!("the manifest of the add-on has no {TABLE}"))?;
    let files: Vec<_> = names
        .iter()
        .map(|name| format!("./wheels/{name}"))
        .collect();
    Ok(format!(
        "{before}platforms = {platforms:?}\nwheels = {files:?}\n\n{TABLE}{after}"
    ))
}

/// Returns Blender's name for the platform of a wheel.
fn platform(wheel: &str) -> Result<&'static str> {
    const NAMES: [(&str, &str, &str); 6] = [
        ("linux", "x86_64", "linux-x64"),
        ("linux", "aarch64", "linux-arm64"),
        ("macosx", "x86_64", "macos-x64"),
        ("macosx", "arm64", "macos-arm64"),
        ("win", "amd64", "windows-x64"),
        ("win", "arm64", "windows-arm64"),
    ];
    // Name, version, Python, ABI, platform.
    let tag = wheel
        .trim_end_matches(".whl")
        .splitn(5, '-')
        .nth(4)
        .unwrap_or_default();
    let fits = |(system, processor, _): &&(&str, &str, &str)| {
        tag.contains(system) && tag.ends_with(processor)
    };
    let found = NAMES.iter().find(fits);
    let (.., name) = found.with_context(|| {
        format!("{wheel} is for no platform of Blender, which skips those for two processors")
    })?;
    Ok(name)
}

/// Tests the zip in Blender, against a server of this workspace.
fn test(options: &Options, workspace: &Path, zip: &Path) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut server = Command::new(cargo);
    server.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "cubesync-server",
    ]);
    call(server.current_dir(workspace))?;
    let folder = workspace.join(BUILD).join(format!("bpy-{}", options.bpy));
    let blender = environment(&options.python, &folder)?;
    let mut pip = Command::new(&blender);
    pip.args(["-m", "pip", "install", "--quiet"]);
    call(pip.arg(format!("bpy=={}", options.bpy)))
        .context("cannot install Blender as a Python module")?;
    let tests = workspace.join(ADD_ON).join("tests/in_blender.py");
    call(Command::new(&blender).arg(tests).arg(zip))
}

/// Runs a program to its end.
fn call(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Makes an empty folder.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(ADD_ON);
        fs::read_to_string(path.join("blender_manifest.toml")).unwrap()
    }

    #[test]
    fn the_add_on_has_the_version_of_the_workspace() {
        let line = concat!("\nversion = \"", env!("CARGO_PKG_VERSION"), "\"\n");
        assert!(manifest().contains(line));
    }

    #[test]
    fn the_manifest_names_the_wheels_and_their_platforms_before_its_tables() {
        let wheels = [
            "cubesync-0.1.0-cp39-abi3-manylinux_2_28_x86_64.whl",
            "cubesync-0.1.0-cp39-abi3-macosx_11_0_arm64.whl",
            "cubesync-0.1.0-cp39-abi3-win_amd64.whl",
        ];
        let packed = with_wheels(&manifest(), &wheels).unwrap();
        let (top, _) = packed.split_once("\n[").unwrap();
        assert!(top.contains(r#"platforms = ["linux-x64", "macos-arm64", "windows-x64"]"#));
        assert!(top.contains(r#""./wheels/cubesync-0.1.0-cp39-abi3-win_amd64.whl"]"#));
    }

    #[test]
    fn a_wheel_that_blender_would_skip_is_refused() {
        let universal = "cubesync-0.1.0-cp39-abi3-macosx_11_0_universal2.whl";
        for wheel in [
            universal,
            "cubesync-0.1.0-py3-none-any.whl",
            "cubesync.zip",
            "",
        ] {
            platform(wheel).unwrap_err();
        }
    }
}
