//! The command line as a user runs it, in a directory of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory to run commands in.
pub(crate) struct Shell {
    dir: TempDir,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
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
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        self.run_with_input(arguments, "")
    }

    /// [`Shell::run`] with a text on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Answer {
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
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.run(arguments);
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
        assert_eq!(answer.stderr, "", "{arguments:?}");
        answer.stdout
    }

    /// Runs a command that must fail, and returns what it said.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let answer = self.run(arguments);
        assert_eq!(answer.code, Some(1), "{arguments:?}: {answer:?}");
        assert!(
            answer.stderr.starts_with("error: "),
            "{arguments:?}: {answer:?}"
        );
        answer.stderr
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

/// Whether two answers are the same: numbers by value, instants with or without their zone.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) else {
                return false;
            };
            (left - right).abs() <= 1e-9 * left.abs().max(right.abs()).max(1.0)
        }
        (Value::String(left), Value::String(right)) => {
            left == right || left.trim_end_matches('Z') == right.trim_end_matches('Z')
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        _ => left == right,
    }
}
