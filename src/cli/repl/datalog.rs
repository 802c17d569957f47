//! Queries of Datalog at a prompt.

use std::io::Write;

use datomfusion_datalog::ast::Query;
use datomfusion_datalog::{ErrorKind, edn};
use tokio::runtime::Runtime;

use super::Language;
use crate::cli::render::{Format, write_answer};
use crate::cli::{Failure, interruptible, stdout};
use crate::error::Error;
use crate::federation::Federation;
use crate::query::Inputs;

/// Datalog over bound sources, rules and arguments.
pub(in crate::cli) struct Datalog {
    /// What is bound, for the greeting.
    pub(in crate::cli) names: Vec<String>,
    pub(in crate::cli) inputs: Inputs,
}

impl Language for Datalog {
    fn greeting(&self) -> String {
        if self.names.is_empty() {
            return "no source is bound; start with --db URL or --db '$name=URL'".into();
        }
        format!("bound: {}", self.names.join(", "))
    }

    fn help(&self) -> &'static str {
        "A query ends with its last bracket and may have several lines. Ctrl-C stops it, Ctrl-D leaves.
  \\d               the attributes of $
  \\d $NAME         the attributes of a source"
    }

    fn is_whole(&self, text: &str) -> bool {
        edn::read(text).map_or_else(|error| error.kind() != ErrorKind::Incomplete, |_| true)
    }

    fn describe(&self, name: Option<&str>) -> String {
        let source = name.unwrap_or("$");
        format!(
            "[:find ?ident ?type ?cardinality :keys attribute type cardinality :in {source} \
             :where [{source} ?a :db/ident ?ident] [{source} ?a :db/valueType ?t] \
             [{source} ?t :db/ident ?type] [{source} ?a :db/cardinality ?c] \
             [{source} ?c :db/ident ?cardinality] :order-by ?ident]"
        )
    }

    fn ask(&self, runtime: &Runtime, question: String, format: Format) -> Result<(), Failure> {
        let inputs = self.inputs.clone();
        interruptible(runtime, async move {
            let query = Query::parse(&question).map_err(Error::from)?;
            let answer = Federation::new().q(&question, &inputs).await?;
            let mut out = stdout();
            write_answer(answer, &query, format, &mut out)?;
            out.flush()?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_whole_when_its_brackets_are() {
        let datalog = Datalog {
            names: Vec::new(),
            inputs: Inputs::new(),
        };
        assert!(!datalog.is_whole("[:find ?e\n"));
        assert!(datalog.is_whole("[:find ?e\n :where [?e :a]]\n"));
        assert!(
            datalog.is_whole("[:find ?e}"),
            "wrong, and not to be waited for"
        );
        assert!(Query::parse(&datalog.describe(Some("$s"))).is_ok());
    }
}
