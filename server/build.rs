//! Cargo sees by itself when an embedded file changes or goes; this tells it of new ones.

fn main() {
    for folder in ["../assets/web", "../assets/status"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
