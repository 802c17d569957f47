//! A prompt: questions of several lines, a history, and a few commands; for SQL and for Datalog.

mod datalog;
mod sql;

use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;

pub(super) use self::datalog::Datalog;
pub(super) use self::sql::Sql;
use super::Failure;
use super::render::Format;

/// What is asked at a prompt.
pub(super) trait Language {
    /// What is there to be asked.
    fn greeting(&self) -> String;

    /// How a question ends, and what `\d` shows.
    fn help(&self) -> &'static str;

    /// Whether a text is a whole question, and not the beginning of one.
    fn is_whole(&self, text: &str) -> bool;

    /// The question that `\d` stands for, or `\d NAME`.
    fn describe(&self, name: Option<&str>) -> String;

    /// Asks, and prints what comes.
    fn ask(&self, runtime: &Runtime, question: String, format: Format) -> Result<(), Failure>;
}

/// Reads questions until the user leaves.
pub(super) fn run(
    runtime: &Runtime,
    language: &dyn Language,
    mut format: Format,
) -> Result<(), Failure> {
    let mut editor = DefaultEditor::new().map_err(Failure::new)?;
    let history = history_file();
    if let Some(history) = &history {
        // There is none before the first time.
        let _ = editor.load_history(history);
    }
    println!("{}\n\\? for help", language.greeting());
    let mut question = String::new();
    loop {
        let prompt = if question.is_empty() {
            "datomfusion> "
        } else {
            "        ...> "
        };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                question.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::new(error)),
        };
        if question.is_empty() && line.trim_start().starts_with('\\') {
            let _ = editor.add_history_entry(line.trim());
            match command(line.trim(), language, &mut format) {
                Command::Leave => break,
                Command::Say(text) => println!("{text}"),
                Command::Ask(question) => ask(runtime, language, question, Format::Table),
            }
            continue;
        }
        question.push_str(&line);
        question.push('\n');
        if question.trim().is_empty() {
            question.clear();
        } else if language.is_whole(&question) {
            let whole = std::mem::take(&mut question);
            let _ = editor.add_history_entry(whole.trim());
            ask(runtime, language, whole, format);
        }
    }
    if let Some(history) = &history {
        // A history that cannot be kept is no reason to fail.
        let _ = editor.save_history(history);
    }
    Ok(())
}

fn ask(runtime: &Runtime, language: &dyn Language, question: String, format: Format) {
    if let Err(failure) = language.ask(runtime, question, format) {
        failure.report();
    }
}

/// What a line that begins with a backslash asks for.
enum Command {
    Leave,
    Say(String),
    Ask(String),
}

fn command(line: &str, language: &dyn Language, format: &mut Format) -> Command {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let help = || {
        format!(
            "{}\n  \\f FORMAT        table, json, ndjson, csv or edn\n  \
             \\?               this help\n  \\q               leave",
            language.help()
        )
    };
    match (verb, words.next()) {
        ("\\q", _) => Command::Leave,
        ("\\?" | "\\h", _) => Command::Say(help()),
        ("\\d", name) => {
            Command::Ask(language.describe(name.map(|name| name.trim_end_matches(';'))))
        }
        ("\\f", Some(name)) => match <Format as clap::ValueEnum>::from_str(name, true) {
            Ok(Format::Parquet) | Err(_) => Command::Say("table, json, ndjson, csv or edn".into()),
            Ok(chosen) => {
                *format = chosen;
                Command::Say(format!("rows are printed as {name} now"))
            }
        },
        _ => Command::Say(format!("{line} is no command\n{}", help())),
    }
}

fn history_file() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".datomfusion_history"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::Federation;

    #[test]
    fn commands_are_told_apart() {
        let mut format = Format::Table;
        let sql = Sql(Federation::new());
        let mut told = |line: &str| command(line, &sql, &mut format);
        assert!(matches!(told("\\q"), Command::Leave));
        assert!(matches!(told("\\d sales.invoice"),
            Command::Ask(sql) if sql == "DESCRIBE sales.invoice"));
        assert!(matches!(told("\\f csv"), Command::Say(_)));
        assert!(matches!(told("\\nothing"), Command::Say(_)));
        assert_eq!(format, Format::Csv);
    }
}
