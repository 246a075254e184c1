//! Checks that no compiler makes: `cargo xtask tidy`. The ladder of crates holds, and every source
//! file says what it is for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

/// Rows of the ladder: a crate imports only from rows above its own.
const LADDER: &[&[&str]] = &[
    &["schemas"],
    &["metering", "config"],
    &["journal", "budgets", "routing", "analytics"],
    &["kafka"],
    &["ingress", "billing-consumer", "cache-service"],
    &["app"],
    &["test-servers"],
    &["tests"],
];

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match env::args().nth(1).as_deref() {
        Some("tidy") => match tidy(&root) {
            Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
            Ok(faults) => {
                eprintln!("{}", faults.join("\n"));
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("tidy: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: cargo xtask tidy");
            ExitCode::FAILURE
        }
    }
}

/// All faults of the tree, each a line that names its file.
fn tidy(root: &Path) -> io::Result<Vec<String>> {
    let mut faults = Vec::new();
    let manifests = manifests(root)?;
    let row = |name: &str| LADDER.iter().position(|row| row.contains(&name));
    for (name, (path, text)) in &manifests {
        let Some(own) = row(name) else {
            if name != "xtask" {
                faults.push(format!(
                    "{}: {name} has no row in the ladder",
                    path.display()
                ));
            }
            continue;
        };
        for dependency in dependencies(text).filter(|dependency| row(dependency) >= Some(own)) {
            faults.push(format!(
                "{}: {name} may not import {dependency}",
                path.display()
            ));
        }
    }
    for file in sources(root)? {
        if !fs::read_to_string(&file)?.starts_with("//!") {
            faults.push(format!(
                "{}: does not begin by saying what it is for (//!)",
                file.display()
            ));
        }
    }
    Ok(faults)
}

/// Our own crates: name, path and text of each manifest.
fn manifests(root: &Path) -> io::Result<BTreeMap<String, (PathBuf, String)>> {
    let mut found = BTreeMap::new();
    for folder in [root.to_path_buf(), root.join("crates")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path().join("Cargo.toml");
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let name = text.lines().find_map(|line| line.strip_prefix("name = \""));
            if let Some(name) = name {
                found.insert(name.trim_end_matches('"').to_owned(), (path, text));
            }
        }
    }
    Ok(found)
}

/// Our own crates among the dependencies of a manifest. Those of tests do not count.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| LADDER.iter().any(|row| row.contains(name)))
}

/// Every Rust file of the workspace.
fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(tidy(&root).unwrap(), Vec::<String>::new());
    }
}
