//! The browser's game: whether this program contains it completely.

use super::Finding;
use crate::http::game_file;

const INDEX: &str = "index.html";

/// The first bytes of every WebAssembly module.
const WASM_MAGIC: &[u8] = b"\0asm";

pub(super) fn examine() -> Vec<Finding> {
    vec![judge(game_file)]
}

/// Judges the game. `file` returns the uncompressed content of one of its files.
fn judge(file: impl Fn(&str) -> Option<bytes::Bytes>) -> Finding {
    const ABOUT: &str = "browser game";
    let rebuild = "build it with `cargo xtask web`, then the server again";
    let Some(index) = file(INDEX) else {
        let words = "not in this program: browsers get a page that says how to join";
        return Finding::note(ABOUT, words, rebuild);
    };
    let names = names(&String::from_utf8_lossy(&index));
    let mut length_bytes = index.len();
    for name in &names {
        let Some(content) = file(name).filter(|content| !content.is_empty()) else {
            let words = format!("its page asks for {name}, which is not in this program");
            return Finding::problem(ABOUT, words, rebuild);
        };
        if name.ends_with(".wasm") && !content.starts_with(WASM_MAGIC) {
            return Finding::problem(ABOUT, format!("{name} is no WebAssembly"), rebuild);
        }
        length_bytes += content.len();
    }
    if !names.iter().any(|name| name.ends_with(".wasm")) {
        return Finding::problem(ABOUT, "its page names no WebAssembly", rebuild);
    }
    let (files, kib) = (names.len() + 1, length_bytes / 1024);
    Finding::ok(
        ABOUT,
        format!("inside this program: {files} files, {kib} KiB unpacked"),
    )
}

/// Returns the files that a page loads, from its attributes.
fn names(page: &str) -> Vec<String> {
    let attributes = [" src=\"", " href=\"", " data-wasm=\""];
    let named = attributes
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1));
    named
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Verdict;
    use super::*;

    const PAGE: &str = r#"<link href="a.css"><script src="b.js" data-wasm="c.wasm"></script>"#;

    fn judged(files: &[(&str, &'static str)]) -> Finding {
        judge(|name| {
            let file = files.iter().find(|(other, _)| *other == name)?;
            Some(Bytes::from_static(file.1.as_bytes()))
        })
    }

    #[test]
    fn the_game_in_this_program_is_complete() {
        assert_eq!(examine()[0].verdict, Verdict::Ok, "{:?}", examine());
    }

    #[test]
    fn a_missing_game_is_a_note_and_an_incomplete_one_a_problem() {
        let complete = [
            (INDEX, PAGE),
            ("a.css", "a"),
            ("b.js", "b"),
            ("c.wasm", "\0asm"),
        ];
        assert_eq!(judged(&complete).verdict, Verdict::Ok);
        assert_eq!(judged(&[]).verdict, Verdict::Note);
        for missing in 1..complete.len() {
            let mut incomplete = complete.to_vec();
            incomplete.remove(missing);
            assert_eq!(judged(&incomplete).verdict, Verdict::Problem);
        }
        let mut broken = complete;
        broken[3].1 = "text";
        assert!(judged(&broken).summary.contains("no WebAssembly"));
        assert!(judged(&[(INDEX, "<p>hello")]).summary.contains("names no"));
    }
}
