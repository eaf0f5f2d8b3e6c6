//! The inputs that the fuzzer found worth keeping, on any toolchain and without libFuzzer.

#![allow(clippy::unwrap_used, reason = "a test fails")]

use std::path::Path;
use std::{fs, thread};

use cubesync_fuzz::CHECKS;

/// An input that fails is named by the check's panic and the file's name before it.
#[test]
fn every_kept_input_passes_its_check() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    thread::scope(|scope| {
        for (name, check) in CHECKS {
            let folder = corpus.join(name);
            scope.spawn(move || {
                let mut files: Vec<_> = fs::read_dir(&folder).unwrap().collect();
                assert!(!files.is_empty(), "{name} has a corpus");
                files.sort_by_key(|file| file.as_ref().unwrap().file_name());
                for file in files {
                    let path = file.unwrap().path();
                    println!("{}", path.display());
                    check(&fs::read(path).unwrap());
                }
            });
        }
    });
}
