//! Every dependency is explained in docs/DEPENDENCIES.md and allowed by deny.toml.
//!
//! `cargo deny check` looks at more, also at other systems' packages and at advisories; it takes
//! minutes to build and needs a network. This looks at what is compiled here, each time.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::cargo::{cargo, folder_of, packages, read, text};

/// This machine, as rustc calls it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// Returns the name by which the table calls a package: its folder, or `tools` for each of those
/// that only developers run.
fn user(package: &Value) -> String {
    let folder = folder_of(package);
    match folder.strip_prefix("tools/") {
        Some(_) => "tools".to_owned(),
        None => folder,
    }
}

/// Returns the users of each direct dependency, as the table writes them:
/// `client, server (tests)`.
fn used() -> BTreeMap<String, String> {
    let mut users: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for package in packages(&["--no-deps"]) {
        let user = user(&package);
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["path"].is_string() {
                continue;
            }
            let users = users
                .entry(text(dependency, "name").to_owned())
                .or_default();
            let ships = users.entry(user.clone()).or_default();
            *ships |= text(dependency, "kind") != "dev";
        }
    }
    let cell = |users: BTreeMap<String, bool>| {
        let users = users.into_iter().map(|(user, ships)| match ships {
            true => user,
            false => format!("{user} (tests)"),
        });
        users.collect::<Vec<_>>().join(", ")
    };
    users
        .into_iter()
        .map(|(name, users)| (name, cell(users)))
        .collect()
}

/// Returns the rows of the table: a dependency, its users and its purpose.
fn explained() -> BTreeMap<String, (String, String)> {
    let page = read("docs/DEPENDENCIES.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (name, users, purpose) = (cells.next()?, cells.next()?, cells.next()?);
        (name != "crate").then(|| (name.to_owned(), (users.to_owned(), purpose.to_owned())))
    });
    rows.collect()
}

#[test]
fn every_direct_dependency_is_explained_and_none_that_is_gone() {
    let (used, explained) = (used(), explained());
    let mut problems = Vec::new();
    for (name, users) in &used {
        match explained.get(name) {
            Some((stated, _)) if stated != users => {
                problems.push(format!("{name} is used by: {users} (not: {stated})"));
            }
            Some((_, purpose)) if purpose.len() <= 8 => {
                problems.push(format!("{name} needs a purpose"));
            }
            Some(_) => {}
            None => problems.push(format!("a row is missing: | {name} | {users} | why |")),
        }
    }
    for name in explained.keys() {
        if !used.contains_key(name) {
            problems.push(format!("no package uses {name} any more"));
        }
    }
    let problems = problems.join("\n");
    assert!(problems.is_empty(), "docs/DEPENDENCIES.md:\n{problems}");
}

/// The values of a list in deny.toml that is written on one line.
fn allowed_licences() -> BTreeSet<String> {
    let deny = read("deny.toml");
    let list = deny.lines().find_map(|line| line.strip_prefix("allow = "));
    serde_json::from_str(list.unwrap()).unwrap()
}

/// The crates, with or without `@VERSION`, of which deny.toml says something.
fn named_in_deny() -> BTreeSet<String> {
    let deny = read("deny.toml");
    let named = deny.split("crate = \"").skip(1);
    named
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

/// Whether a licence expression is met by what is allowed. All parts that an AND joins must be.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace(" / ", " OR ").replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        let choices = part.trim_matches(['(', ')']).split(" OR ");
        choices.into_iter().any(|licence| allowed.contains(licence))
    })
}

#[test]
fn every_licence_is_allowed_and_every_package_from_where_we_think() {
    let allowed = allowed_licences();
    let excepted = named_in_deny();
    let packages = packages(&["--filter-platform", &host()]);
    assert!(packages.len() > 100, "{}", packages.len());
    for package in packages {
        let (name, licence) = (text(&package, "name"), text(&package, "license"));
        assert!(
            is_allowed(licence, &allowed) || excepted.contains(name),
            "deny.toml does not allow {licence} of {name}"
        );
        if let Some(source) = package["source"].as_str() {
            let ours = "registry+https://github.com/rust-lang/crates.io-index";
            assert_eq!(source, ours, "{name}");
        }
    }
}

#[test]
fn expressions_are_met_by_their_choices() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Zlib".to_owned()]);
    for good in [
        "MIT",
        "Apache-2.0 OR MIT",
        "GPL/MIT",
        "(GPL OR MIT) AND Zlib",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL", "MIT AND GPL", "", "Apache-2.0 OR GPL"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn what_is_there_twice_has_been_looked_at() {
    let tree = [
        "tree",
        "--workspace",
        "--duplicates",
        "--edges",
        "no-dev",
        "--depth",
        "0",
        "--prefix",
        "none",
    ];
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in cargo(&tree).lines() {
        let Some((name, rest)) = line.split_once(" v") else {
            continue;
        };
        let version = rest.split(' ').next().unwrap().to_owned();
        versions.entry(name.to_owned()).or_default().insert(version);
    }
    let skipped = named_in_deny();
    for (name, versions) in versions {
        let looked_at = versions.iter().filter(|version| {
            let is_of = |skip: &String| match skip.split_once('@') {
                Some((other, prefix)) => other == name && version.starts_with(prefix),
                None => false,
            };
            skipped.iter().any(is_of)
        });
        assert!(
            looked_at.count() + 1 >= versions.len(),
            "{name} is there as {versions:?}: drop one, or say in deny.toml why not"
        );
    }
}
