//! Lists the files that the server carries inside, for `http/files.rs` to include.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut source = String::new();
    for (name, folder) in [("GAME", "web"), ("STATUS_PAGE", "status")] {
        let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?)
            .join("../assets")
            .join(folder);
        // Cargo sees by itself when an included file changes; this tells it of new ones.
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut names = Vec::new();
        for entry in folder.read_dir().into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(
                    entry
                        .file_name()
                        .into_string()
                        .map_err(|_| "a name is no text")?,
                );
            }
        }
        names.sort();
        writeln!(source, "const {name}_FILES: &[(&str, &[u8])] = &[")?;
        for name in names {
            let path = folder.join(&name);
            writeln!(source, "    ({name:?}, include_bytes!({path:?})),")?;
        }
        writeln!(source, "];")?;
    }
    let target = Path::new(&std::env::var("OUT_DIR")?).join("files.rs");
    std::fs::write(target, source)?;
    Ok(())
}
