//! The command line, run as a user runs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// What a run printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Run {
    /// The output of a run that must have succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// The errors of a run that must have failed with this code.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.starts_with("error: "), "{}", self.err);
        self.err
    }
}

/// Runs the binary with these arguments.
pub(crate) fn datomfusion<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_datomfusion"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Run {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

/// A folder that lasts as long as the tests do.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Makes a database and transacts files into it, once for each name.
pub(crate) fn database_of(name: &str, files: &[PathBuf]) -> String {
    let url = folder().join(name).display().to_string();
    datomfusion(&["create", &url]).ok();
    let mut arguments = vec!["transact".to_owned(), url.clone()];
    arguments.extend(files.iter().map(|file| file.display().to_string()));
    datomfusion(&arguments).ok();
    url
}

/// The carried Chinook databases: the catalogue's address and the sales'.
pub(crate) fn chinook() -> &'static (String, String) {
    static CHINOOK: OnceLock<(String, String)> = OnceLock::new();
    CHINOOK.get_or_init(|| {
        let catalog = database_of("catalog", &facts(&["catalog-schema", "catalog"]));
        (catalog, sales_of("sales"))
    })
}

/// A database of Chinook's sales, a transaction a file: t=7 is all of them.
pub(crate) fn sales_of(name: &str) -> String {
    let files = facts(&[
        "sales-schema",
        "sales-people",
        "sales-2021",
        "sales-2022",
        "sales-2023",
        "sales-2024",
        "sales-2025",
    ]);
    database_of(name, &files)
}

/// The files of the carried Chinook facts.
fn facts(names: &[&str]) -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/chinook");
    let files = names.iter().map(|name| data.join(format!("{name}.edn")));
    files.collect()
}

/// Asks both Chinook databases in SQL, in JSON.
pub(crate) fn ask(sql: &str) -> Run {
    let (catalog, sales) = chinook();
    datomfusion(&[
        "sql",
        "--db",
        &format!("catalog={catalog}"),
        "--db",
        &format!("sales={sales}"),
        "--format",
        "json",
        sql,
    ])
}

/// A directory to run commands in.
pub(crate) struct Shell {
    dir: TempDir,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.dir().join(name), text).unwrap();
        self
    }

    /// Runs `datomfusion` with these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with_input(arguments, "")
    }

    /// [`Shell::run`] with a text on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_datomfusion"))
            .args(arguments)
            .current_dir(self.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Run {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }

    /// Runs a command that must succeed without complaints, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.err, "", "{arguments:?}");
        run.ok()
    }

    /// Runs a command that must fail, and returns what it said.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        self.run(arguments).failed(1)
    }

    /// The rows of a statement, each as its values in column order.
    pub(crate) fn rows(&self, databases: &[&str], sql: &str) -> Vec<Vec<Value>> {
        let mut arguments = vec!["sql", "--format", "json"];
        for database in databases {
            arguments.extend(["--db", database]);
        }
        arguments.push(sql);
        let text = self.ok(&arguments);
        let rows: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error} in the answer of {sql}:\n{text}"));
        rows.into_iter()
            .map(|row| row.into_iter().map(|(_, value)| value).collect())
            .collect()
    }
}
