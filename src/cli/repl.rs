//! A prompt for SQL: statements of several lines, a history, and a few commands.

use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;

use super::render::{self, Format};
use super::{Failure, interruptible, stdout};
use crate::federation::Federation;

const HELP: &str = "\
A statement ends with a semicolon and may have several lines. Ctrl-C stops it, Ctrl-D leaves.
  \\d               databases and tables
  \\d NAME          the tables of a database, or the columns of a table
  \\f FORMAT        table, json, ndjson, csv or edn
  \\?               this help
  \\q               leave";

/// Reads statements until the user leaves.
pub(super) fn run(
    runtime: &Runtime,
    federation: &Federation,
    mut format: Format,
) -> Result<(), Failure> {
    let mut editor = DefaultEditor::new().map_err(Failure::new)?;
    let history = history_file();
    if let Some(history) = &history {
        // There is none before the first time.
        let _ = editor.load_history(history);
    }
    println!("{}\n\\? for help", attached(federation));
    let mut statement = String::new();
    loop {
        let prompt = if statement.is_empty() {
            "datomfusion> "
        } else {
            "        ...> "
        };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                statement.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::new(error)),
        };
        if statement.is_empty() && line.trim_start().starts_with('\\') {
            let _ = editor.add_history_entry(line.trim());
            match command(line.trim(), &mut format) {
                Command::Leave => break,
                Command::Say(text) => println!("{text}"),
                Command::Ask(query) => ask(runtime, federation, query, Format::Table),
            }
            continue;
        }
        statement.push_str(&line);
        statement.push('\n');
        if is_whole(&statement) {
            let whole = std::mem::take(&mut statement);
            let _ = editor.add_history_entry(whole.trim());
            ask(runtime, federation, whole, format);
        } else if statement.trim().is_empty() {
            statement.clear();
        }
    }
    if let Some(history) = &history {
        // A history that cannot be kept is no reason to fail.
        let _ = editor.save_history(history);
    }
    Ok(())
}

fn ask(runtime: &Runtime, federation: &Federation, query: String, format: Format) {
    let federation = federation.clone();
    let answered = interruptible(runtime, async move {
        let rows = federation.sql(&query).await?.execute_stream().await?;
        render::write(rows, format, stdout()).await
    });
    if let Err(failure) = answered {
        failure.report();
    }
}

/// What a line that begins with a backslash asks for.
enum Command {
    Leave,
    Say(String),
    Ask(String),
}

fn command(line: &str, format: &mut Format) -> Command {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    match (verb, words.next()) {
        ("\\q", _) => Command::Leave,
        ("\\?" | "\\h", _) => Command::Say(HELP.into()),
        ("\\d", None) => Command::Ask(
            "SELECT table_schema AS database, table_name AS \"table\" \
             FROM information_schema.tables WHERE table_schema <> 'information_schema' \
             ORDER BY 1, 2"
                .into(),
        ),
        ("\\d", Some(name)) => Command::Ask(describe(name.trim_end_matches(';'))),
        ("\\f", Some(name)) => match <Format as clap::ValueEnum>::from_str(name, true) {
            Ok(Format::Parquet) | Err(_) => Command::Say("table, json, ndjson, csv or edn".into()),
            Ok(chosen) => {
                *format = chosen;
                Command::Say(format!("rows are printed as {name} now"))
            }
        },
        _ => Command::Say(format!("{line} is no command\n{HELP}")),
    }
}

/// `sales.invoice` has columns; a name without a point may be a database or a foreign table.
fn describe(name: &str) -> String {
    if name.contains('.') {
        return format!("DESCRIBE {name}");
    }
    let name = name.trim_matches('"').replace('\'', "''");
    format!(
        "SELECT table_schema AS schema, table_name AS \"table\", column_name AS column, \
         data_type AS type FROM information_schema.columns \
         WHERE table_schema = '{name}' OR (table_schema = 'public' AND table_name = '{name}') \
         ORDER BY 1, 2, ordinal_position"
    )
}

fn attached(federation: &Federation) -> String {
    let databases: Vec<String> = federation
        .databases()
        .map(|(name, db)| format!("{name} (t={})", db.basis_t()))
        .collect();
    if databases.is_empty() {
        return "no database is attached; start with --db NAME=URL".into();
    }
    format!("attached: {}", databases.join(", "))
}

/// Whether the text ends with a semicolon that is not inside quotes.
fn is_whole(text: &str) -> bool {
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
    }
    quote.is_none() && text.trim_end().ends_with(';')
}

fn history_file() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".datomfusion_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_inside_quotes_ends_nothing() {
        assert!(is_whole("select 1;\n"));
        assert!(is_whole("select ';' ; \n"));
        assert!(!is_whole("select 'a;\n"));
        assert!(!is_whole("select 1\n"));
        assert!(is_whole("select 'it''s';"));
    }

    #[test]
    fn commands_are_told_apart() {
        let mut format = Format::Table;
        assert!(matches!(command("\\q", &mut format), Command::Leave));
        assert!(matches!(command("\\d sales.invoice", &mut format),
            Command::Ask(sql) if sql == "DESCRIBE sales.invoice"));
        assert!(matches!(command("\\f csv", &mut format), Command::Say(_)));
        assert_eq!(format, Format::Csv);
        assert!(matches!(command("\\nothing", &mut format), Command::Say(_)));
    }
}
