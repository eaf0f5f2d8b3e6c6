//! `docs/TROUBLESHOOTING.md` has every heading that is named anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::{read, root};

/// Ends of the names of files that may name the page.
const KINDS: [&str; 6] = [".rs", ".md", ".js", ".html", ".service", ".yml"];

/// Folders that hold what others made.
const NOT_OURS: [&str; 2] = ["target", "node_modules"];

/// Returns the anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ if character.is_alphanumeric() => Some(character),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

/// Returns the anchors of the page: of its headings, and of rows that have one of their own.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
    let rows = page.split("<a id=\"").skip(1);
    let rows = rows.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    headings.chain(rows).collect()
}

/// Returns the anchors that follow the page's name in a text.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let link = |rest: &'_ str| rest.find(|it: char| !it.is_alphanumeric() && !"-_".contains(it));
    let links = text.split("TROUBLESHOOTING.md#").skip(1);
    links.map(move |rest| &rest[..link(rest).unwrap_or(rest.len())])
}

/// Adds the texts in a folder and below it, with their files.
fn texts(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&name) {
            texts(&path, found);
        } else if KINDS.iter().any(|kind| name.ends_with(kind)) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

#[test]
fn every_section_that_is_named_exists() {
    let anchors = anchors(&read("docs/TROUBLESHOOTING.md"));
    let mut found = Vec::new();
    texts(&root(), &mut found);
    let mut count = 0;
    for (file, text) in &found {
        let (file, is_this) = (file.display(), file.ends_with("tests/it/help.rs"));
        for name in named(text).filter(|_| !is_this) {
            assert!(anchors.contains(name), "{file} names #{name}: {anchors:?}");
            count += 1;
        }
    }
    // The programs' three and the one for operators, at least.
    assert!(count >= 4, "{count} links");
}

#[test]
fn every_link_inside_the_page_leads_to_a_section() {
    let page = read("docs/TROUBLESHOOTING.md");
    let anchors = anchors(&page);
    let links = page.split("](#").skip(1);
    for link in links.filter_map(|rest| rest.split(')').next()) {
        assert!(anchors.contains(link), "#{link}: {anchors:?}");
    }
}

#[test]
fn anchors_are_githubs() {
    assert_eq!(anchor("A player is stuck"), "a-player-is-stuck");
    assert_eq!(anchor("`--help`, and more"), "--help-and-more");
    let page = "# One\ntext # two\n| <a id=\"row\"></a> x |\n## Three: four";
    let expected = ["one", "row", "three-four"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
    let text = "a(TROUBLESHOOTING.md#one), TROUBLESHOOTING.md#two-three\"";
    assert_eq!(named(text).collect::<Vec<_>>(), ["one", "two-three"]);
}
