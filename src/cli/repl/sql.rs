//! Statements of SQL at a prompt.

use tokio::runtime::Runtime;

use super::Language;
use crate::cli::render::{self, Format};
use crate::cli::{Failure, interruptible, stdout};
use crate::federation::Federation;

/// SQL over what is attached.
pub(in crate::cli) struct Sql(pub(in crate::cli) Federation);

impl Language for Sql {
    fn greeting(&self) -> String {
        let databases: Vec<String> = self
            .0
            .databases()
            .map(|(name, db)| format!("{name} (t={})", db.basis_t()))
            .collect();
        if databases.is_empty() {
            return "no database is attached; start with --db NAME=URL".into();
        }
        format!("attached: {}", databases.join(", "))
    }

    fn help(&self) -> &'static str {
        "A statement ends with a semicolon and may have several lines. Ctrl-C stops it, Ctrl-D leaves.
  \\d               databases and tables
  \\d NAME          the tables of a database, or the columns of a table"
    }

    /// Whether the text ends with a semicolon that is not inside quotes.
    fn is_whole(&self, text: &str) -> bool {
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

    /// `sales.invoice` has columns; a name without a point may be a database or a foreign table.
    fn describe(&self, name: Option<&str>) -> String {
        let Some(name) = name else {
            return "SELECT table_schema AS database, table_name AS \"table\" \
                    FROM information_schema.tables WHERE table_schema <> 'information_schema' \
                    ORDER BY 1, 2"
                .into();
        };
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

    fn ask(&self, runtime: &Runtime, question: String, format: Format) -> Result<(), Failure> {
        let federation = self.0.clone();
        interruptible(runtime, async move {
            let rows = federation.sql(&question).await?.execute_stream().await?;
            render::write(rows, format, stdout()).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_inside_quotes_ends_nothing() {
        let sql = Sql(Federation::new());
        assert!(sql.is_whole("select 1;\n"));
        assert!(sql.is_whole("select ';' ; \n"));
        assert!(!sql.is_whole("select 'a;\n"));
        assert!(!sql.is_whole("select 1\n"));
        assert!(sql.is_whole("select 'it''s';"));
    }
}
