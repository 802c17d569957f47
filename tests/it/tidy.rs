//! The house rules that a compiler does not hold: floors, file lengths, forgotten tests, banned names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 800;

/// The floors of the root package, from the ground up; a module may name its own floor and those below.
const FLOORS: [(&str, &[&str]); 9] = [
    (
        "words",
        &[
            "wire",
            "error",
            "id",
            "environment",
            "value",
            "datom",
            "index",
            "schema",
        ],
    ),
    ("bytes", &["store"]),
    ("node", &["node"]),
    ("order", &["tree"]),
    ("value", &["db"]),
    ("change", &["tx"]),
    ("history", &["conn", "gc", "sync"]),
    ("host", &["provider", "catalog", "federation", "query"]),
    ("doors", &["cli", "fuzz", "bench"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {}", folder.display());
    found
}

/// The top-level module of `src/` that a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    below
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The code of a file: without comments, and without its test module.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn no_floor_looks_up() {
    let floors: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, (_, modules))| modules.iter().map(move |module| (*module, floor)))
        .collect();
    for (path, text) in sources(&root().join("src")) {
        let module = module(&path);
        if matches!(&*module, "lib" | "bin") {
            continue;
        }
        let floor = floors
            .get(&*module)
            .unwrap_or_else(|| panic!("{module} stands on no floor"));
        for (at, _) in code(&text).match_indices("crate::") {
            let code = code(&text);
            let rest = &code[at + "crate::".len()..];
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if let Some(other) = floors.get(&*name) {
                assert!(other <= floor, "{} looks up to {name}", path.display());
            }
        }
    }
}

#[test]
fn only_their_floors_name_the_engines() {
    let may = |what: &str, module: &str| match what {
        "datafusion::" => matches!(
            module,
            "provider" | "catalog" | "federation" | "query" | "cli"
        ),
        "object_store::" => matches!(
            module,
            "store" | "error" | "provider" | "catalog" | "federation"
        ),
        _ => matches!(module, "cli" | "bin"),
    };
    for (path, text) in sources(&root().join("src")) {
        let (module, code) = (module(&path), code(&text));
        // Tests print the seed that they ran with, or are told it.
        let is_test = path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        for what in [
            "datafusion::",
            "object_store::",
            "println!",
            "std::env::",
            "process::exit",
        ] {
            assert!(
                !code.contains(what)
                    || may(what, &module)
                    // Credentials come from the environment, as those of clouds do in `object_store`.
                    || (what == "std::env::" && path.ends_with("src/store/ws/token.rs"))
                    // So does where copies of stores are kept, which is opened with them.
                    || (what == "std::env::" && path.ends_with("src/store/disk/settings.rs"))
                    || (is_test && ["println!", "std::env::"].contains(&what)),
                "{} may not name {what}",
                path.display()
            );
        }
    }
}

#[test]
fn no_file_is_long_and_none_is_named_after_nothing() {
    for folder in [
        "src",
        "tests",
        "benches",
        "examples",
        "datalog/src",
        "datalog/tests",
    ] {
        let folder = root().join(folder);
        if !folder.exists() {
            continue;
        }
        for (path, text) in sources(&folder) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(
                !["utils", "util", "common", "helpers", "types", "misc", "mod"].contains(&name),
                "{} says nothing by its name",
                path.display()
            );
        }
    }
}

#[test]
fn no_test_module_is_forgotten() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && name != "main" {
            assert!(
                main.contains(&format!("mod {name};")),
                "tests/it/{name}.rs is not run"
            );
        }
    }
}

#[test]
fn nothing_is_left_open() {
    for folder in ["src", "datalog/src"] {
        for (path, text) in sources(&root().join(folder)) {
            for mark in ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("] {
                assert!(!text.contains(mark), "{} has {mark}", path.display());
            }
        }
    }
}
