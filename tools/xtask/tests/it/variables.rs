//! The list of environment variables, by which programs find misspelled ones, is complete.

use std::collections::BTreeSet;
use std::process::Command;

use crate::cargo::{read, root};

const LIST: &str = "arguments/src/variables.rs";

/// Returns the names of variables in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_of_name = |character: char| character.is_ascii_uppercase() || character == '_';
    let starts = text.match_indices("CUBESYNC_").map(|(at, _)| &text[at..]);
    starts
        .map(|rest| {
            rest.split(|character| !is_of_name(character))
                .next()
                .unwrap_or(rest)
        })
        .map(|name| name.trim_end_matches('_').to_owned())
        .filter(|name| name != "CUBESYNC")
        .collect()
}

#[test]
fn every_variable_that_something_reads_is_known_and_no_other() {
    let files = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output()
        .unwrap();
    let files = String::from_utf8(files.stdout).unwrap();
    let is_source = |file: &&str| {
        let is_code = [".rs", ".js"].iter().any(|end| file.ends_with(end)) || *file == ".ci/run";
        // Made of sources, or the list itself and tests of misspelled names.
        is_code
            && *file != LIST
            && !file.starts_with("assets/web/")
            && !file.contains("tests/it/")
            && !file.contains("doctor/variables.rs")
    };
    let used: BTreeSet<String> = files
        .lines()
        .filter(is_source)
        .flat_map(|file| names(&read(file)))
        .collect();
    let list = read(LIST);
    let known = names(list.split("#[cfg(test)]").next().unwrap());
    assert_eq!(known, used, "mend the list in {LIST}");
}
