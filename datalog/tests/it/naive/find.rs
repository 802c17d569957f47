//! What a query finds of its rows.

use std::collections::{BTreeMap, BTreeSet};

use datomfusion_datalog::Term;
use datomfusion_datalog::ast::{Aggregate, Argument, CalleeName, FindElement, Query, Variable};

use super::clause::Scope;
use super::{Engine, Row, constant, restrict};

/// The variables that rows are told apart by: those of the find spec and of `:with`.
pub(super) fn variables(query: &Query) -> BTreeSet<Variable> {
    let elements = query.find.elements().iter();
    let found = elements.flat_map(|element| match element {
        FindElement::Variable(variable, _) => vec![variable.clone()],
        FindElement::Pull(pull) => vec![pull.variable.clone()],
        FindElement::Aggregate(aggregate) => aggregate
            .arguments
            .iter()
            .filter_map(Argument::variable)
            .chain(match &aggregate.function.name {
                CalleeName::Variable(variable) => Some(variable),
                CalleeName::Symbol(_) => None,
            })
            .cloned()
            .collect(),
    });
    found.chain(query.with.iter().cloned()).collect()
}

impl Engine<'_> {
    /// The find elements of all rows, aggregated.
    pub(super) fn find(
        &self,
        query: &Query,
        rows: BTreeSet<Row>,
        scope: &Scope<'_>,
    ) -> Result<Vec<Vec<Term>>, String> {
        let variables = variables(query);
        let rows: BTreeSet<Row> = rows.iter().map(|row| restrict(row, &variables)).collect();
        let elements = query.find.elements();
        let is_aggregate = |element: &&FindElement| matches!(element, FindElement::Aggregate(_));
        let mut groups: BTreeMap<Vec<Term>, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let key = elements.iter().filter(|element| !is_aggregate(element));
            let key = key
                .map(|element| match element {
                    FindElement::Variable(variable, _) => self.shown_value(&row, variable, scope),
                    FindElement::Pull(_) | FindElement::Aggregate(_) => {
                        Err("the reference evaluator does not pull".to_owned())
                    }
                })
                .collect::<Result<Vec<Term>, String>>()?;
            groups.entry(key).or_default().push(row);
        }

        let mut found = BTreeSet::new();
        for (key, rows) in groups {
            let mut key = key.into_iter();
            let mut tuple = Vec::new();
            for element in elements {
                tuple.push(match element {
                    FindElement::Aggregate(aggregate) => self.aggregate(aggregate, &rows, scope)?,
                    _ => key.next().ok_or("a key for each element")?,
                });
            }
            found.insert(tuple);
        }
        Ok(found.into_iter().collect())
    }

    fn shown_value(
        &self,
        row: &Row,
        variable: &Variable,
        scope: &Scope<'_>,
    ) -> Result<Term, String> {
        let value = row
            .get(variable)
            .ok_or_else(|| format!("insufficient bindings of {variable} in :find"))?;
        Ok(self.shown(value, scope.roles.get(variable)))
    }

    fn aggregate(
        &self,
        aggregate: &Aggregate,
        rows: &[Row],
        scope: &Scope<'_>,
    ) -> Result<Term, String> {
        let first = rows.first().ok_or("a group has rows")?;
        let name = match &aggregate.function.name {
            CalleeName::Symbol(symbol) => symbol.as_str().to_owned(),
            CalleeName::Variable(variable) => match first.get(variable) {
                Some(Term::Symbol(symbol)) => symbol.as_str().to_owned(),
                _ => return Err(format!("{variable} is not the name of an aggregate")),
            },
        };
        let Some((Argument::Variable(over, _), constants)) = aggregate.arguments.split_last()
        else {
            return Err(format!("{name} has no variable to aggregate"));
        };
        let constants = constants
            .iter()
            .map(|argument| match argument {
                Argument::Constant(form) => constant(form),
                Argument::Variable(variable, _) => self.shown_value(first, variable, scope),
                Argument::Source(..) => Err(format!("{name} does not take a source")),
            })
            .collect::<Result<Vec<Term>, String>>()?;
        let values = rows
            .iter()
            .map(|row| self.shown_value(row, over, scope))
            .collect::<Result<Vec<Term>, String>>()?;
        self.functions
            .aggregate(&name)
            .ok_or_else(|| format!("no aggregate {name}"))?
            .call(&constants, &values)
    }
}
