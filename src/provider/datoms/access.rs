//! Which index a scan of datoms reads, and which ranges of it.
//!
//! | what the filters fix | read |
//! |---|---|
//! | `e` (and `a`) | EAVT |
//! | `a`, and equality or bounds of a `v_…` of the attribute's type, where it is indexed | AVET |
//! | `a` | AEVT |
//! | `tx`, in a history | the log |
//! | nothing | AEVT, which reads fastest: a run of one attribute is a run of one type |
//!
//! Fixed is what `=`, `IN` and `OR` of those leave to a few values. `v` counts as the typed column of the
//! attribute where the text says which value it is.

use std::collections::BTreeSet;

use datafusion::common::{Column as ExprColumn, ScalarValue};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator, expr::InList};
use datomfusion_datalog::edn::{Keyword, Symbol};

use crate::datom::{Entid, TxId};
use crate::db::Db;
use crate::index::{Components, Edge, Index, Range};
use crate::schema::Attribute;
use crate::value::{Large, Value, ValueType};

use super::columns::Column;

/// More combinations of entity and attribute than this are not worth a look-up each.
const LOOKUPS_MAX: usize = 4096;

/// The index and the ranges that hold every row that can pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Access {
    pub(crate) index: Index,
    pub(crate) ranges: Vec<Range>,
    /// Whether nothing was excluded.
    pub(crate) everything: bool,
}

/// Whether a filter can narrow a scan.
pub(super) fn narrows(filter: &Expr) -> bool {
    let mut wanted = Wanted::default();
    wanted.narrow(filter);
    wanted != Wanted::default()
}

impl Access {
    pub(super) fn of(db: &Db, filters: &[Expr]) -> Self {
        let mut wanted = Wanted::default();
        for filter in filters {
            wanted.narrow(filter);
        }
        wanted.access(db)
    }
}

/// What the filters leave of each column.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    e: Option<BTreeSet<i64>>,
    a: Option<BTreeSet<String>>,
    tx: Option<BTreeSet<i64>>,
    /// Equality and bounds of typed columns.
    typed: Vec<(ValueType, Operator, ScalarValue)>,
    /// Equality of the text.
    text: Option<String>,
}

impl Wanted {
    fn narrow(&mut self, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::And,
                right,
            }) => {
                self.narrow(left);
                self.narrow(right);
            }
            Expr::Between(Between {
                expr,
                negated: false,
                low,
                high,
            }) => {
                if let Some(column) = column_of(expr) {
                    for (op, bound) in [(Operator::GtEq, low), (Operator::LtEq, high)] {
                        if let Expr::Literal(bound, _) = &**bound {
                            self.compare(column, op, bound);
                        }
                    }
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op != Operator::Or => {
                match (&**left, &**right) {
                    (left, Expr::Literal(value, _)) => {
                        if let Some(column) = column_of(left) {
                            self.compare(column, *op, value);
                        }
                    }
                    (Expr::Literal(value, _), right) => {
                        if let (Some(column), Some(op)) = (column_of(right), op.swap()) {
                            self.compare(column, op, value);
                        }
                    }
                    _ => {}
                }
            }
            other => {
                if let Some((column, values)) = one_of(other) {
                    self.among(column, &values);
                }
            }
        }
    }

    fn compare(&mut self, column: Column, op: Operator, value: &ScalarValue) {
        if value.is_null() {
            return;
        }
        match (column, op) {
            (Column::E | Column::A | Column::Tx, Operator::Eq) => {
                self.among(column, std::slice::from_ref(value));
            }
            (Column::V, Operator::Eq) => self.text = text_of(value).map(str::to_owned),
            (
                Column::Typed(value_type),
                Operator::Eq | Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq,
            ) => self.typed.push((value_type, op, value.clone())),
            _ => {}
        }
    }

    /// Narrows a column to some values; what it was narrowed to before still holds.
    fn among(&mut self, column: Column, values: &[ScalarValue]) {
        let numbers = || -> Option<BTreeSet<i64>> { values.iter().map(long_of).collect() };
        match column {
            Column::E => narrow_to(&mut self.e, numbers()),
            Column::Tx => narrow_to(&mut self.tx, numbers()),
            Column::A => {
                let idents = values.iter().map(|value| text_of(value).map(str::to_owned));
                narrow_to(&mut self.a, idents.collect());
            }
            Column::V if values.len() == 1 => self.compare(column, Operator::Eq, &values[0]),
            Column::Typed(value_type) if values.len() == 1 => {
                self.typed
                    .push((value_type, Operator::Eq, values[0].clone()));
            }
            _ => {}
        }
    }

    fn access(self, db: &Db) -> Access {
        let attributes: Option<Vec<&Attribute>> = self.a.as_ref().map(|idents| {
            let known = idents.iter().filter_map(|ident| ident.strip_prefix(':'));
            known
                .filter_map(|ident| Some(&**db.schema().attribute_by_ident(&Keyword::new(ident))?))
                .collect()
        });
        if let Some(entities) = &self.e {
            let each = entities.iter().map(|e| Components::all().e(Entid(*e)));
            let prefixes: Vec<Components> = match &attributes {
                Some(attributes) if entities.len() * attributes.len() <= LOOKUPS_MAX => each
                    .flat_map(|e| attributes.iter().map(move |a| e.clone().a(a.id)))
                    .collect(),
                _ => each.collect(),
            };
            return Access::prefixes(Index::Eavt, prefixes);
        }
        if let Some(attributes) = attributes {
            if let [attribute] = attributes[..]
                && db.in_avet(attribute.id)
                && let Some(range) = self.values_of(attribute)
            {
                return Access {
                    index: Index::Avet,
                    ranges: vec![range],
                    everything: false,
                };
            }
            let runs = attributes
                .iter()
                .map(|attribute| Components::all().a(attribute.id));
            let mut runs: Vec<Components> = runs.collect();
            runs.sort_by_key(|run| run.a);
            return Access::prefixes(Index::Aevt, runs);
        }
        if let (Some(transactions), true) = (&self.tx, db.is_history()) {
            let each = transactions
                .iter()
                .map(|tx| Components::all().tx(TxId(Entid(*tx))));
            return Access::prefixes(Index::Log, each.collect());
        }
        Access {
            index: Index::Aevt,
            ranges: vec![Range::all()],
            everything: true,
        }
    }

    /// The range of an attribute's values in AVET, if anything bounds it.
    fn values_of(&self, attribute: &Attribute) -> Option<Range> {
        let own = || Components::all().a(attribute.id);
        let edge = |at, inclusive| Edge { at, inclusive };
        let text = self
            .text
            .as_deref()
            .and_then(|text| value_of_text(text, attribute.value_type));
        if let Some(value) = text {
            return Some(Range::prefix(own().v(value)));
        }
        let mut range = Range::prefix(own());
        let mut bounded = false;
        for (value_type, op, literal) in &self.typed {
            if *value_type != attribute.value_type {
                continue;
            }
            let Some(value) = value_of(literal, *value_type) else {
                continue;
            };
            if *op == Operator::Eq {
                return Some(Range::prefix(own().v(value)));
            }
            let lower = matches!(op, Operator::Gt | Operator::GtEq);
            let strict = matches!(op, Operator::Gt | Operator::Lt);
            let (value, strict) = match value {
                // Long values lie by their beginning and a hash, which does not follow the text.
                Value::Large(large) if lower => (beginning(&large), false),
                Value::Large(_) => continue,
                value => (value, strict),
            };
            // One bound a side is enough to be right, and two of a kind are rare.
            let side = if lower {
                &mut range.from
            } else {
                &mut range.to
            };
            *side = Some(edge(own().v(value), !strict));
            bounded = true;
        }
        bounded.then_some(range)
    }
}

impl Access {
    /// The narrowest prefix of an index for some components, of any shape.
    pub(super) fn to(db: &Db, pattern: &Components) -> Self {
        let (index, prefix) = match (pattern.e, pattern.a, &pattern.v) {
            (Some(e), Some(a), Some(v)) => {
                let prefix = Components::all().e(e).a(a);
                (Index::Eavt, prefix.v(v.clone()))
            }
            (Some(e), Some(a), None) => (Index::Eavt, Components::all().e(e).a(a)),
            (Some(e), None, _) => (Index::Eavt, Components::all().e(e)),
            (None, Some(a), Some(v)) if db.in_avet(a) => {
                (Index::Avet, Components::all().a(a).v(v.clone()))
            }
            (None, Some(a), _) => (Index::Aevt, Components::all().a(a)),
            (None, None, _) if pattern.tx.is_some_and(|tx| tx.0.is_tx()) && db.is_history() => {
                let mut prefix = Components::all();
                prefix.tx = pattern.tx;
                (Index::Log, prefix)
            }
            (None, None, _) => {
                return Self {
                    index: Index::Aevt,
                    ranges: vec![Range::all()],
                    everything: true,
                };
            }
        };
        Self::prefixes(index, vec![prefix])
    }

    fn prefixes(index: Index, prefixes: Vec<Components>) -> Self {
        let ranges = prefixes.into_iter().map(Range::prefix).collect();
        Self {
            index,
            ranges,
            everything: false,
        }
    }
}

fn narrow_to<T: Ord + Clone>(known: &mut Option<BTreeSet<T>>, to: Option<BTreeSet<T>>) {
    let Some(to) = to else { return };
    *known = Some(match known.take() {
        Some(known) => known.intersection(&to).cloned().collect(),
        None => to,
    });
}

fn column_of(expr: &Expr) -> Option<Column> {
    match expr {
        Expr::Column(ExprColumn { name, .. }) => Column::named(name),
        _ => None,
    }
}

/// The column and the values of `c = x`, `c IN (x, …)` and any `OR` of those on one column.
fn one_of(expr: &Expr) -> Option<(Column, Vec<ScalarValue>)> {
    match expr {
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let values = list.iter().map(|item| match item {
                Expr::Literal(value, _) if !value.is_null() => Some(value.clone()),
                _ => None,
            });
            Some((column_of(expr)?, values.collect::<Option<_>>()?))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => {
            let (column, mut values) = one_of(left)?;
            let (other, more) = one_of(right)?;
            values.extend(more);
            (column == other).then_some((column, values))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => {
            let (column, value) = match (&**left, &**right) {
                (column, Expr::Literal(value, _)) | (Expr::Literal(value, _), column) => {
                    (column_of(column)?, value)
                }
                _ => return None,
            };
            (!value.is_null()).then(|| (column, vec![value.clone()]))
        }
        _ => None,
    }
}

fn long_of(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(value) => *value,
        _ => None,
    }
}

fn text_of(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// The value that a literal of a typed column stands for.
fn value_of(literal: &ScalarValue, value_type: ValueType) -> Option<Value> {
    match (value_type, literal) {
        (ValueType::Boolean, ScalarValue::Boolean(value)) => value.map(Value::Boolean),
        (ValueType::Long, ScalarValue::Int64(value)) => value.map(Value::Long),
        (ValueType::Ref, ScalarValue::Int64(value)) => value.map(|id| Value::Ref(Entid(id))),
        (ValueType::Double, ScalarValue::Float64(value)) => Value::double((*value)?),
        (ValueType::Instant, ScalarValue::TimestampMillisecond(value, _)) => {
            value.map(Value::Instant)
        }
        (ValueType::String | ValueType::Uri | ValueType::Keyword | ValueType::Symbol, text) => {
            value_of_text(text_of(text)?, value_type)
        }
        _ => None,
    }
}

/// The only value of a type that prints as this text.
fn value_of_text(text: &str, value_type: ValueType) -> Option<Value> {
    match value_type {
        ValueType::String => Some(Value::string(text)),
        ValueType::Uri => Some(Value::uri(text)),
        ValueType::Keyword => {
            let name = text.strip_prefix(':').filter(|name| !name.is_empty())?;
            Some(Value::Keyword(Keyword::new(name)))
        }
        ValueType::Symbol => Some(Value::Symbol(Symbol::new(text))),
        ValueType::Long => text.parse().ok().map(Value::Long),
        ValueType::Ref => text.parse().ok().map(|id| Value::Ref(Entid(id))),
        ValueType::Uuid => uuid::Uuid::parse_str(text)
            .ok()
            .map(|uuid| Value::Uuid(uuid.as_u128())),
        _ => None,
    }
}

fn beginning(large: &Large) -> Value {
    let text = || String::from_utf8_lossy(&large.prefix).into_owned();
    match large.value_type {
        ValueType::Bytes => Value::bytes(large.prefix.to_vec()),
        ValueType::Uri => Value::uri(text()),
        _ => Value::string(text()),
    }
}
