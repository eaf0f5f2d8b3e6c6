//! The programs that build the bundle: a Rust toolchain with a standard library for WASM, wasm-opt if it is
//! installed, and two compressors.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::sources::Sources;

/// The target of the browser's client.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
const WASM_LD: &str = "wasm-ld";

/// The WASM features that rustc uses, which wasm-opt must be told.
const WASM_FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-multivalue",
    "--enable-reference-types",
];

/// The source of the standard library for WASM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Toolchain {
    /// The compiled one of rustup's target.
    Rustup,
    /// The one that Debian's rustc-web builds from rust-web-src, without the messages of panics. The client
    /// is a seventh smaller, and this is the one to commit.
    Debian,
}

/// A client for the browser.
pub(super) struct Built {
    /// The WASM program.
    pub(super) wasm: Vec<u8>,
    /// The programs that built it, with their versions.
    pub(super) tools: String,
}

impl Toolchain {
    /// Returns the first one that is installed.
    pub(super) fn installed() -> Result<Self> {
        if has_rustup_target() {
            return Ok(Self::Rustup);
        }
        if Path::new(DEBIAN_STD).exists() && has(WASM_LD) {
            return Ok(Self::Debian);
        }
        bail!(
            "no Rust toolchain here builds for {TARGET}: run `rustup target add {TARGET}`, or on \
             Debian `apt-get install rustc-web cargo-web rust-web-src lld`"
        )
    }

    fn command(self, target: &Path) -> Command {
        let mut command = match self {
            Self::Rustup => Command::new(env::var_os("CARGO").unwrap_or("cargo".into())),
            Self::Debian => Command::new(DEBIAN_CARGO),
        };
        command.env("CARGO_TARGET_DIR", target.join("web").join(self.folder()));
        if self == Self::Debian {
            // Its Rust is a stable one, and only an unstable flag builds the standard library.
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", WASM_LD)
                .args(["-Z", "build-std=std,panic_abort"])
                .args(["-Z", "build-std-features=optimize_for_size"])
                // A panic ends the client either way; the other toolchain's build tells where.
                .env("CARGO_PROFILE_WEB_PANIC", "immediate-abort")
                .args(["-Z", "panic-immediate-abort"]);
        }
        command
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    fn rustc(self) -> &'static str {
        match self {
            Self::Rustup => "rustc",
            Self::Debian => DEBIAN_RUSTC,
        }
    }
}

/// Builds the client and shrinks it.
pub(super) fn build(toolchain: Toolchain, workspace: &Path, sources: &Sources) -> Result<Built> {
    let target = &sources.target;
    let status = toolchain
        .command(target)
        .args(["build", "--locked", "--profile", "web", "--target", TARGET])
        .args(["--package", "cubesync-game"])
        // Panics tell their file; it must not begin with a path of this machine.
        .env("RUSTFLAGS", remapped(sources)?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(workspace)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the client could not be built for the browser");
    }
    let folder = target.join("web").join(toolchain.folder());
    let path = folder.join(TARGET).join("web/cubesync-client.wasm");
    let mut tools = vec![version(toolchain.rustc())?];
    let path = match optimized(&path)? {
        Some(smaller) => {
            tools.push(version("wasm-opt")?);
            smaller
        }
        None => {
            println!("wasm-opt is not here (Debian: binaryen): the bundle is a little larger");
            path
        }
    };
    let wasm = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Built {
        wasm,
        tools: tools.join(", "),
    })
}

/// Compresses a content with brotli, for https and localhost.
pub(super) fn brotli(content: &[u8]) -> Result<Vec<u8>> {
    filter(
        "brotli",
        &["--quality=11", "--lgwin=24", "--stdout"],
        content,
    )
}

/// Compresses a content with gzip, which browsers accept over http as well. zopfli is slow and saves a
/// twentieth.
pub(super) fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    if !has("zopfli") {
        println!("zopfli is not here: gzip does it, a little larger");
        return filter("gzip", &["-9", "--no-name", "--stdout"], content);
    }
    // It reads and writes files only.
    let path = env::temp_dir().join(format!("cubesync-web-{}", std::process::id()));
    fs::write(&path, content)?;
    let output = Command::new("zopfli").arg("-c").arg(&path).output();
    fs::remove_file(&path)?;
    output_of("zopfli", output)
}

/// Shrinks a WASM program if wasm-opt is installed.
fn optimized(wasm: &Path) -> Result<Option<PathBuf>> {
    if !has("wasm-opt") {
        return Ok(None);
    }
    let smaller = wasm.with_extension("small.wasm");
    let status = Command::new("wasm-opt")
        .arg("-Oz")
        .args(WASM_FEATURES)
        .arg(wasm)
        .arg("--output")
        .arg(&smaller)
        .status()?;
    if !status.success() {
        bail!("wasm-opt failed");
    }
    Ok(Some(smaller))
}

/// Returns flags that shorten the paths of libraries to their names.
fn remapped(sources: &Sources) -> Result<String> {
    let registry = sources.miniquad.gl_js.ancestors().nth(3);
    let registry = registry.context("miniquad is in no registry")?.display();
    Ok(format!("--remap-path-prefix={registry}/="))
}

fn has_rustup_target() -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&folder).exists()
    })
}

fn has(program: &str) -> bool {
    let run = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok()
}

fn version(program: &str) -> Result<String> {
    let output = output_of(program, Command::new(program).arg("--version").output())?;
    let text = String::from_utf8_lossy(&output);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn filter(program: &str, arguments: &[&str], content: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!("{program} is not here; install it with your system's packages")
        })?;
    let mut stdin = child.stdin.take().context("a program without input")?;
    let content = content.to_vec();
    // It may write before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(&content));
    let output = child.wait_with_output();
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the input of {program} was lost"))??;
    output_of(program, output)
}

fn output_of(program: &str, output: std::io::Result<std::process::Output>) -> Result<Vec<u8>> {
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}
