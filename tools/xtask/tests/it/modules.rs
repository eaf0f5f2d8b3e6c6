//! The top-level modules of each program and library form a tree: none uses one that uses it, however
//! indirectly. Code for tests does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::{folder, packages, text};
use crate::source::code;

/// Which modules use which others, by name.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Returns the Rust files in a folder and below it, without the ones that hold only tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !["tests.rs", "testing.rs"].contains(&name) {
            found.push(path);
        }
    }
    found
}

/// Returns the folders in which a crate begins: a package's `src/`, and the folders of its programs.
fn roots(source: &Path) -> Vec<PathBuf> {
    let mut roots = vec![source.to_owned()];
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.join("main.rs").exists() {
            roots.push(path);
        }
    }
    roots
}

/// Returns which top-level modules of a crate use which.
fn uses(root: &Path, roots: &[PathBuf]) -> Uses {
    let mut uses = Uses::new();
    for file in sources(root) {
        let is_of_another = |other: &&PathBuf| file.starts_with(other) && other.starts_with(root);
        if roots
            .iter()
            .any(|other| other != root && is_of_another(&other))
        {
            continue;
        }
        let inner = file.strip_prefix(root).unwrap();
        let first = inner.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if ["main", "lib", "bin"].contains(&module) {
            continue;
        }
        let mut code = code(&fs::read_to_string(&file).unwrap());
        // Where `super` is the crate's root.
        if inner == Path::new(first) || inner == Path::new(first).join("mod.rs") {
            code = code.replace("super::", "crate::");
        }
        let used = used(&code);
        uses.entry(module.to_owned()).or_default().extend(used);
    }
    let modules: BTreeSet<_> = uses.keys().cloned().collect();
    for (module, used) in &mut uses {
        used.retain(|name| name != module && modules.contains(name));
    }
    uses
}

/// Returns the names that follow `crate::`, one by one or in braces.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            None => names.extend(name(path)),
            Some(group) => names.extend(members(group)),
        }
    }
    names
}

fn name(path: &str) -> Option<String> {
    let end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let name = &path[..end.unwrap_or(path.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns the first names of the paths in a group, up to its closing brace.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut is_first = true;
    let mut members = Vec::new();
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            _ if depth == 0 && is_first && !letter.is_whitespace() => {
                is_first = false;
                members.extend(name(&group[at..]));
            }
            _ => {}
        }
    }
    members
}

/// Returns everything that a module uses, directly or through others.
fn reachable<'uses>(uses: &'uses Uses, module: &str) -> BTreeSet<&'uses str> {
    let mut reached = BTreeSet::new();
    let mut unread: Vec<&str> = vec![module];
    while let Some(next) = unread.pop() {
        for used in uses.get(next).into_iter().flatten() {
            if reached.insert(used.as_str()) {
                unread.push(used);
            }
        }
    }
    reached
}

/// Returns the groups of modules that use each other.
fn circles(uses: &Uses) -> BTreeSet<BTreeSet<&str>> {
    let modules = || uses.keys().map(String::as_str);
    let is_in = |module: &str, other: &str| reachable(uses, other).contains(module);
    let circle = |module: &str| -> BTreeSet<&str> {
        let mut reached = reachable(uses, module);
        reached.retain(|other| is_in(module, other));
        reached
    };
    let circles = modules().map(circle);
    circles.filter(|circle| !circle.is_empty()).collect()
}

#[test]
fn modules_form_no_circle() {
    let mut found = Vec::new();
    for package in packages(&["--no-deps"]) {
        let manifest = Path::new(text(&package, "manifest_path"));
        let roots = roots(&manifest.with_file_name("src"));
        for root in &roots {
            let place = folder(root.to_str().unwrap());
            for circle in circles(&uses(root, &roots)) {
                found.push(format!("{place}: {circle:?}"));
            }
        }
    }
    assert!(found.is_empty(), "circles: {found:#?}");
}

#[test]
fn modules_that_use_each_other_are_a_circle() {
    let sources = [
        ("room", "use crate::{world::World, log};"),
        ("world", "fn f() { crate::session::g() }"),
        ("session", "use crate::room::Room;"),
        ("log", "use crate::{Error, limits::{self, room}};"),
        ("limits", ""),
    ];
    let uses = sources.map(|(module, code)| (module.to_owned(), used(code)));
    let uses = Uses::from(uses);
    let circle = BTreeSet::from(["room", "session", "world"]);
    assert_eq!(circles(&uses), BTreeSet::from([circle]));
}
