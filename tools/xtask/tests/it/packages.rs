//! The packages form a tree: each one uses what lies below it, and only tests of the product use a tool.

use serde_json::Value;

use crate::cargo::{folder, folder_of, packages, root, text};

/// What one package of the product may use.
struct Rule {
    folder: &'static str,
    /// The packages that it may depend on, by folder.
    may_use: &'static [&'static str],
    /// The ones that its tests may use as well.
    tests_may_use: &'static [&'static str],
}

const fn rule(folder: &'static str, may_use: &'static [&'static str]) -> Rule {
    let tests_may_use = &[];
    Rule {
        folder,
        may_use,
        tests_may_use,
    }
}

/// The product, from below. The tools may use anything.
const PRODUCT: [Rule; 13] = [
    rule("arguments", &[]),
    rule("network", &[]),
    rule("protocol", &[]),
    rule("recording", &["protocol"]),
    // The servers are tested with the real client.
    Rule {
        tests_may_use: &["client", "recording"],
        ..rule("server/relay", &["protocol"])
    },
    Rule {
        tests_may_use: &["client"],
        ..rule("server/cluster", &["protocol", "server/relay"])
    },
    rule("server/mechanics", &["protocol", "server/relay"]),
    Rule {
        tests_may_use: &["client", "tools/harness"],
        ..rule(
            "server",
            &[
                "arguments",
                "network",
                "protocol",
                "recording",
                "server/relay",
                "server/cluster",
                "server/mechanics",
            ],
        )
    },
    // The library writes and plays recordings, so it uses their format.
    rule("client", &["protocol", "recording"]),
    Rule {
        tests_may_use: &["tools/harness"],
        ..rule(
            "client/game",
            &["arguments", "network", "protocol", "recording", "client"],
        )
    },
    rule(
        "client/bots",
        &["arguments", "protocol", "recording", "client"],
    ),
    Rule {
        tests_may_use: &["tools/harness"],
        ..rule("client/hello", &["protocol", "client"])
    },
    rule("client/python", &["client"]),
];

/// Libraries that few packages may know; the tools may use them all.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("async-nats", &["server/cluster"]),
    ("axum", &["server"]),
    ("bincode", &["protocol"]),
    (
        "clap",
        &["arguments", "server", "client/game", "client/bots"],
    ),
    ("macroquad", &["client/game", "client/hello"]),
    ("pyo3", &["client/python"]),
    ("rapier3d", &["server/mechanics"]),
];

/// The folders at the top of the repository, besides hidden ones and what cargo and CI write.
const TOP: [&str; 9] = [
    "arguments",
    "assets",
    "client",
    "docs",
    "network",
    "protocol",
    "recording",
    "server",
    "tools",
];

fn is_tool(folder: &str) -> bool {
    folder.starts_with("tools/")
}

/// Returns every use that the tables do not allow: the folder of its package and what it uses.
fn broken(packages: &[Value]) -> Vec<(String, String)> {
    let mut broken = Vec::new();
    for package in packages {
        let user = folder_of(package);
        if is_tool(&user) {
            continue;
        }
        let rule = PRODUCT.iter().find(|rule| rule.folder == user);
        let rule = rule.unwrap_or_else(|| panic!("{user} has no rule: say what it may use"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let (name, is_test) = (text(dependency, "name"), text(dependency, "kind") == "dev");
            let used = dependency["path"].as_str().map(folder);
            let is_allowed = match &used {
                Some(used) => {
                    let used = used.as_str();
                    rule.may_use.contains(&used) || is_test && rule.tests_may_use.contains(&used)
                }
                None => LIBRARIES
                    .iter()
                    .filter(|(library, _)| *library == name && !is_test)
                    .all(|(_, users)| users.contains(&user.as_str())),
            };
            if !is_allowed {
                broken.push((user.clone(), used.unwrap_or_else(|| name.to_owned())));
            }
        }
    }
    broken
}

#[test]
fn a_package_uses_only_what_lies_below_it() {
    let packages = packages(&["--no-deps"]);
    let broken = broken(&packages);
    assert!(broken.is_empty(), "not allowed: {broken:?}");
    for rule in &PRODUCT {
        let is_there = packages.iter().any(|one| folder_of(one) == rule.folder);
        assert!(is_there, "{} is gone: strike out its rule", rule.folder);
    }
}

#[test]
fn a_product_that_uses_a_tool_or_what_lies_above_it_is_found() {
    let package = |folder: &str, dependencies: &[(&str, Option<&str>)]| {
        let root = root();
        let path = |folder: &str| root.join(folder).to_str().unwrap().to_owned();
        let dependencies = dependencies.iter().map(
            |(used, kind)| serde_json::json!({ "name": used, "kind": kind, "path": path(used) }),
        );
        serde_json::json!({
            "manifest_path": path(&format!("{folder}/Cargo.toml")),
            "dependencies": dependencies.collect::<Vec<_>>(),
        })
    };
    let packages = [
        package("client", &[("server", None), ("protocol", None)]),
        package(
            "server",
            &[("tools/bench", Some("dev")), ("client", Some("dev"))],
        ),
        package("server/relay", &[("client", None)]),
        package("tools/bench", &[("server", None)]),
    ];
    let broken = broken(&packages);
    let expected = [
        ("client", "server"),
        ("server", "tools/bench"),
        ("server/relay", "client"),
    ];
    let expected = expected.map(|(user, used)| (user.to_owned(), used.to_owned()));
    assert_eq!(broken, expected);
}

#[test]
fn nothing_else_lies_at_the_top() {
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_written = name.starts_with("target") || name == "ci-output";
        if entry.path().is_dir() && !name.starts_with('.') && !is_written {
            assert!(TOP.contains(&name.as_str()), "{name}/ lies at the top");
        }
    }
}
