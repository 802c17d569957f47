//! SQL text to a statement in which every version clause has become a schema name.
//!
//! `sales.invoice VERSION AS OF 42` reads the table `invoice` of the schema `"sales@t=42"`, which the
//! catalog resolves. DataFusion's planner ignores a version clause without a word and reads the present;
//! so each clause is rewritten here, *per table*, or refused, and a last walk over the tree makes sure
//! that none is left.
//!
//! **Invariant.** No statement that leaves [`parse`] holds a [`TableVersion`].
//!
//! No alias is invented: an unaliased table answers to `invoice.total` under its new name as well, and
//! `sales.invoice.total` is rewritten along with it. What could mean two tables is refused: see [`columns`].

mod columns;
mod dialect;
mod moment;
mod refuse;

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, Ident, ObjectName, ObjectNamePart, Query, Select, TableFactor, TableVersion, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::db::basis::{BasisPart, BasisSpec, split_name};
use crate::error::{Error, Result};

use columns::{FollowTables, OneTableEach, Uses};
use dialect::TimeTravelDialect;
pub(crate) use refuse::RefuseVersions;

/// What the names in a statement mean.
pub(crate) struct Names<'a> {
    /// Whether a schema, named without basis, is an attached database.
    pub(crate) is_database: &'a dyn Fn(&str) -> bool,
    /// The catalog that holds the databases.
    pub(crate) catalog: &'a str,
    /// The schema of unqualified tables.
    pub(crate) schema: &'a str,
}

/// Which statements may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Queries, `EXPLAIN`, `SHOW` and `DESCRIBE`.
    ReadOnly,
    /// Whatever DataFusion can plan: an embedder's tables may be writable.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for embedders' sessions, which plan for themselves so far"
        )
    )]
    Any,
}

/// Longest statement, in bytes.
const SQL_BYTES_MAX: usize = 1 << 20;

/// Parses one statement and rewrites its version clauses.
///
/// # Errors
///
/// [`Error::Invalid`] if the text is not exactly one statement of the allowed kinds, or holds a version
/// clause that would not be honoured: on a common table expression, a foreign table, a table function or
/// a name that already has a basis, or with an expression that is not constant.
pub(crate) fn parse(sql: &str, names: &Names<'_>, statements: Statements) -> Result<Statement> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the statement has {} bytes, more than {SQL_BYTES_MAX}",
            sql.len()
        )));
    }
    let mut statement = parse_one(sql)?;
    if statements == Statements::ReadOnly {
        check_reads(&statement)?;
    }
    let mut rewrite = Rewrite {
        names,
        statements,
        scopes: Vec::new(),
        uses: HashMap::new(),
    };
    walk(&mut statement, &mut rewrite)?;
    let mut follow = FollowTables::new(names, rewrite.uses);
    if follow.is_needed() {
        walk(&mut statement, &mut follow)?;
    }
    walk(&mut statement, &mut OneTableEach::default())?;
    walk(&mut statement, &mut NoVersionLeft)?;
    Ok(statement)
}

fn parse_one(sql: &str) -> Result<Statement> {
    let dialect = TimeTravelDialect::default();
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| Error::invalid(format!("SQL error: {error}")))?;
    let words: Vec<Keyword> = tokens.iter().filter_map(keyword).collect();
    // `EXPLAIN` nests by recursion that no limit of the parser counts.
    if words
        .iter()
        .take_while(|word| **word == Keyword::EXPLAIN)
        .count()
        > 4
    {
        return Err(Error::invalid("EXPLAIN is repeated too often"));
    }
    let parsed = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| {
        let hint = hint(&words).map_or_else(String::new, |hint| format!("; {hint}"));
        Error::invalid(format!("{}{hint}", error.strip_backtrace()))
    })?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(Error::invalid("the statement is empty")),
        (Some(_), more) => Err(Error::invalid(format!(
            "expected one statement, got {}; run them one by one",
            more + 1
        ))),
    }
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) => Some(word.keyword),
        _ => None,
    }
}

/// What to write instead, if the text that did not parse holds a version clause.
fn hint(words: &[Keyword]) -> Option<&'static str> {
    use Keyword::{AS, FOR, OF, SYSTEM_TIME, TIMESTAMP, VERSION};
    let holds = |phrase: &[Keyword]| words.windows(phrase.len()).any(|window| window == phrase);
    if holds(&[FOR, VERSION]) || holds(&[FOR, TIMESTAMP]) {
        Some("write VERSION AS OF 42 or FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31 12:00:00'")
    } else if holds(&[SYSTEM_TIME]) || holds(&[VERSION, AS, OF]) || holds(&[TIMESTAMP, AS, OF]) {
        Some(
            "a version clause stands between the table and its alias and takes a constant: \
             sales.invoice VERSION AS OF 42 AS i, or \
             sales.invoice FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31 12:00:00' AS i",
        )
    } else {
        None
    }
}

/// Refuses what would change something.
fn check_reads(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Explain(explain) => check_reads(&explain.statement),
        Statement::Statement(statement) => check_reads_sql(statement),
        other => Err(only_reads(other)),
    }
}

fn check_reads_sql(statement: &ast::Statement) -> Result<()> {
    match statement {
        ast::Statement::Query(_)
        | ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. }
        | ast::Statement::ShowVariable { .. } => Ok(()),
        other => Err(only_reads(other)),
    }
}

fn only_reads(statement: &impl ToString) -> Error {
    let text = statement.to_string();
    let verb = text.split([' ', '(']).next().unwrap_or_default();
    Error::invalid(format!(
        "{verb} is not a query: SQL reads here (SELECT, EXPLAIN, SHOW, DESCRIBE), \
         and databases are changed by transact"
    ))
}

fn walk<V: VisitorMut<Break = Error>>(statement: &mut Statement, visitor: &mut V) -> Result<()> {
    let flow = match statement {
        Statement::Statement(statement) => VisitMut::visit(statement.as_mut(), visitor),
        Statement::Explain(explain) => return walk(&mut explain.statement, visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => VisitMut::visit(query.as_mut(), visitor),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewrite<'a> {
    names: &'a Names<'a>,
    statements: Statements,
    scopes: Vec<Scope>,
    uses: Uses,
}

/// The common table expressions of one query.
///
/// The walk meets the bodies of `WITH` first and in order, so counting the queries met directly below
/// tells which names the one at hand can see.
struct Scope {
    names: Vec<String>,
    recursive: bool,
    queries_met: usize,
    visible: usize,
}

impl Scope {
    fn enter_query(&mut self) {
        if self.queries_met < self.names.len() {
            self.visible = self.queries_met + usize::from(self.recursive);
        }
        self.queries_met += 1;
    }

    fn leave_query(&mut self) {
        if self.queries_met >= self.names.len() {
            self.visible = self.names.len();
        }
    }
}

impl VisitorMut for Rewrite<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(parent) = self.scopes.last_mut() {
            parent.enter_query();
        }
        let (names, recursive) = match &query.with {
            Some(with) => (
                with.cte_tables
                    .iter()
                    .map(|cte| fold(&cte.alias.name))
                    .collect(),
                with.recursive,
            ),
            None => (Vec::new(), false),
        };
        self.scopes.push(Scope {
            names,
            recursive,
            queries_met: 0,
            visible: 0,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.scopes.pop();
        if let Some(parent) = self.scopes.last_mut() {
            parent.leave_query();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &mut ast::Statement) -> ControlFlow<Error> {
        // Also met inside queries: `WITH x AS (INSERT …)`.
        match self.statements {
            Statements::ReadOnly => {
                check_reads_sql(statement).map_or_else(ControlFlow::Break, ControlFlow::Continue)
            }
            Statements::Any => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        match &select.into {
            Some(into) if self.statements == Statements::ReadOnly => {
                ControlFlow::Break(only_reads(into))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table {
            name,
            alias,
            args,
            version,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let key = self.table_key(name);
        let moved = match version.take() {
            Some(version) => match self.at_version(name, args.is_some(), &version) {
                Ok(schema) => Some(schema),
                Err(why) => {
                    return ControlFlow::Break(Error::invalid(format!("{name} {version}: {why}")));
                }
            },
            None => None,
        };
        if let (Some(key), None, None) = (key, alias, args) {
            self.uses.entry(key).or_default().push(moved);
        }
        ControlFlow::Continue(())
    }
}

impl Rewrite<'_> {
    /// Moves a table to the schema of a version and returns that schema, or says why it cannot be moved.
    fn at_version(
        &self,
        name: &mut ObjectName,
        has_arguments: bool,
        version: &TableVersion,
    ) -> Result<String, String> {
        if has_arguments {
            return Err("a table function has no versions".into());
        }
        let Some(parts) = idents(name) else {
            return Err("only a named table has versions".into());
        };
        let schema = match &parts[..] {
            [table] if self.is_cte(&fold(table)) => {
                return Err(
                    "this name is a common table expression, which has no versions; \
                    put the clause on the tables inside it"
                        .into(),
                );
            }
            [_] if (self.names.is_database)(self.names.schema) => self.names.schema.to_owned(),
            [table] => {
                return Err(format!(
                    "say which database it belongs to, as in sales.{table}"
                ));
            }
            [schema, _] => fold(schema),
            [catalog, schema, _] if fold(catalog) == self.names.catalog => fold(schema),
            _ => return Err("it is not a table of an attached database".into()),
        };
        let Some((base, spec)) = split_name(&schema)
            .ok()
            .filter(|(base, _)| (self.names.is_database)(base))
        else {
            return Err(format!(
                "{schema} is not an attached database, so it has no versions"
            ));
        };
        if !spec.parts().is_empty() {
            return Err(format!("{schema:?} already names a basis of {base}"));
        }
        let point = moment::of_version(version)?;
        let moved = BasisSpec::try_new(spec.branch().cloned(), vec![BasisPart::At(point)])
            .map_err(|error| error.to_string())?;
        // The name as written, escapes included, up to its basis.
        let base = &schema[..schema.find(['#', '@']).unwrap_or(schema.len())];
        let moved = format!("{base}{moved}");
        let part = ObjectNamePart::Identifier(Ident::with_quote('"', &moved));
        match name.0.len() {
            1 => name.0.insert(0, part),
            n => name.0[n - 2] = part,
        }
        Ok(moved)
    }

    fn is_cte(&self, name: &str) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.names[..scope.visible].iter().any(|cte| cte == name))
    }

    /// The table that a name stands for, unless it is a common table expression or in another catalog.
    fn table_key(&self, name: &ObjectName) -> Option<(String, String)> {
        match &idents(name)?[..] {
            [table] if !self.is_cte(&fold(table)) => {
                Some((self.names.schema.to_owned(), fold(table)))
            }
            [schema, table] => Some((fold(schema), fold(table))),
            [catalog, schema, table] if fold(catalog) == self.names.catalog => {
                Some((fold(schema), fold(table)))
            }
            _ => None,
        }
    }
}

/// The guard behind the invariant: fails on whatever [`Rewrite`] did not reach.
struct NoVersionLeft;

impl VisitorMut for NoVersionLeft {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table {
                name,
                version: Some(version),
                ..
            } => ControlFlow::Break(Error::invalid(format!(
                "{name} {version}: a version cannot be given here"
            ))),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn idents(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0.iter().map(ObjectNamePart::as_ident).collect()
}

/// The name that DataFusion looks up: folded unless quoted.
fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests;
