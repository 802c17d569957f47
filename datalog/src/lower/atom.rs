//! What a conjunction is joined from: stars, patterns, tuples, given rows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::{Lowering, Relation, column, not_null};
use crate::analyze::bound::{AttributeSlot, FactGoal, Goal, RowsGoal, Slot, SourceId, VarId};
use crate::column::{ColumnType, Kinds, Repr, Writer, literal};
use crate::plan_source::{FactPattern, QuerySource, Source};
use crate::source::{AttributeFacts, TermType};
use crate::term::Term;

/// Given rows at most that become a condition of the scans they are joined with.
const IN_LIST_MAX: usize = 256;

/// Rows of a recursive rule, as far as is known before it runs.
const CALLED_ROWS: f64 = 10_000.0;

/// Something to join.
#[derive(Debug)]
pub(crate) enum Atom {
    /// Several attributes of one entity, in one scan.
    Star(Star),
    /// A pattern by itself.
    Fact {
        /// The pattern.
        goal: FactGoal,
        /// Rows, roughly.
        rows: f64,
    },
    /// Tuples of a collection.
    Tuple {
        /// The collection.
        source: SourceId,
        /// Its places.
        slots: Vec<Slot>,
        /// Rows, roughly.
        rows: f64,
    },
    /// Rows that are given.
    Rows(RowsGoal),
}

/// Attributes of one entity.
#[derive(Debug)]
pub(crate) struct Star {
    pub(super) source: SourceId,
    pub(super) e: Slot,
    /// Each attribute once, with what its value must be.
    pub(super) attributes: Vec<(AttributeFacts, Vec<Slot>)>,
    /// Values that other atoms give for its variables.
    among: Vec<(VarId, Vec<Term>)>,
    pub(super) rows: f64,
}

impl Atom {
    pub(super) fn rows(&self) -> f64 {
        match self {
            Self::Star(star) => star.rows,
            Self::Fact { rows, .. } | Self::Tuple { rows, .. } => *rows,
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            Self::Rows(rows) => rows.rows.len() as f64,
        }
    }

    pub(super) fn vars(&self) -> Vec<VarId> {
        match self {
            Self::Star(star) => {
                let values = star.attributes.iter().flat_map(|(_, slots)| slots);
                values.chain([&star.e]).filter_map(Slot::var).collect()
            }
            Self::Fact { goal, .. } => {
                let slots = [&goal.e, &goal.v, &goal.tx, &goal.added];
                let mut vars: Vec<VarId> = slots.into_iter().filter_map(Slot::var).collect();
                if let AttributeSlot::Var(var) = goal.a {
                    vars.push(var);
                }
                vars
            }
            Self::Tuple { slots, .. } => slots.iter().filter_map(Slot::var).collect(),
            Self::Rows(rows) => rows.vars.clone(),
        }
    }
}

impl Lowering<'_> {
    /// Parts goals into atoms and what must wait for bindings.
    pub(super) fn atoms<'g>(&self, goals: &'g [Goal]) -> Result<(Vec<Atom>, Vec<&'g Goal>)> {
        let mut atoms: Vec<Atom> = Vec::new();
        let mut waiting = Vec::new();
        for goal in goals {
            match goal {
                Goal::Fact(fact) => {
                    let fact = self.substituted(fact);
                    if let Some(attribute) = self.starry(&fact) {
                        self.add_to_star(&mut atoms, &fact, attribute);
                    } else {
                        let rows = self.fact_rows(&fact);
                        atoms.push(Atom::Fact { goal: fact, rows });
                    }
                }
                Goal::Tuple { .. } | Goal::Rows(_) => atoms.push(self.single(goal)?),
                other => waiting.push(other),
            }
        }
        Self::tell(&mut atoms);
        Ok((atoms, waiting))
    }

    /// A goal as an atom of its own.
    pub(super) fn single(&self, goal: &Goal) -> Result<Atom> {
        Ok(match goal {
            Goal::Fact(fact) => {
                let goal = self.substituted(fact);
                let rows = self.fact_rows(&goal);
                Atom::Fact { goal, rows }
            }
            Goal::Tuple { source, slots } => {
                let rows = match &self.context.sources[source.0 as usize] {
                    QuerySource::Collection(tuples) => self.tuple_rows(tuples, slots),
                    QuerySource::Database(_) => 0.0,
                };
                Atom::Tuple {
                    source: *source,
                    slots: slots.iter().map(|slot| self.slot(slot)).collect(),
                    rows,
                }
            }
            Goal::Rows(rows) => Atom::Rows(rows.clone()),
            _ => return exec_err!("this clause is no atom"),
        })
    }

    fn substituted(&self, fact: &FactGoal) -> FactGoal {
        FactGoal {
            e: self.slot(&fact.e),
            v: self.slot(&fact.v),
            tx: self.slot(&fact.tx),
            added: self.slot(&fact.added),
            ..fact.clone()
        }
    }

    fn database(&self, source: SourceId) -> Result<&Arc<dyn Source>> {
        match &self.context.sources[source.0 as usize] {
            QuerySource::Database(database) => Ok(database),
            QuerySource::Collection(_) => exec_err!("a collection is no database"),
        }
    }

    /// The attribute of a pattern that can be part of a star.
    fn starry(&self, fact: &FactGoal) -> Option<AttributeFacts> {
        let AttributeSlot::Known(attribute) = &fact.a else {
            return None;
        };
        let plain = fact.tx == Slot::Blank
            && (fact.added == Slot::Blank || fact.added == Slot::Constant(Term::Boolean(true)));
        let native = ColumnType::of(attribute.value_type).repr() != Repr::Mixed;
        let known = !matches!(fact.e, Slot::Blank)
            && !matches!(&fact.e, Slot::Constant(term) if !matches!(term, Term::Long(_)));
        let history = self
            .database(fact.source)
            .is_ok_and(|database| database.is_history());
        (plain && native && known && !history && !attribute.is_many).then(|| attribute.clone())
    }

    fn add_to_star(&self, atoms: &mut Vec<Atom>, fact: &FactGoal, attribute: AttributeFacts) {
        let rows = self.fact_rows(fact);
        let star = atoms.iter_mut().find_map(|atom| match atom {
            Atom::Star(star) if star.source == fact.source && star.e == fact.e => Some(star),
            _ => None,
        });
        let Some(star) = star else {
            atoms.push(Atom::Star(Star {
                source: fact.source,
                e: fact.e.clone(),
                attributes: vec![(attribute, vec![fact.v.clone()])],
                among: Vec::new(),
                rows,
            }));
            return;
        };
        star.rows = star.rows.min(rows);
        match star
            .attributes
            .iter_mut()
            .find(|(known, _)| known.id == attribute.id)
        {
            Some((_, slots)) => slots.push(fact.v.clone()),
            None => star.attributes.push((attribute, vec![fact.v.clone()])),
        }
    }

    /// Tells stars what given rows say about their variables.
    fn tell(atoms: &mut [Atom]) {
        let mut given: Vec<(VarId, Vec<Term>)> = Vec::new();
        for atom in &*atoms {
            if let Atom::Rows(rows) = atom
                && rows.rows.len() <= IN_LIST_MAX
            {
                for (at, &var) in rows.vars.iter().enumerate() {
                    let values = rows.rows.iter().map(|row| row[at].clone());
                    given.push((var, values.collect()));
                }
            }
        }
        for atom in atoms {
            if let Atom::Star(star) = atom {
                let vars = star.attributes.iter().flat_map(|(_, slots)| slots);
                let vars: HashSet<VarId> = vars.chain([&star.e]).filter_map(Slot::var).collect();
                for (var, values) in &given {
                    if vars.contains(var) {
                        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                        let rows = values.len() as f64;
                        star.rows = star.rows.min(rows * 10.0);
                        star.among.push((*var, values.clone()));
                    }
                }
            }
        }
    }

    /// The relation of a goal that is an atom.
    pub(crate) fn single_relation(&self, goal: &Goal) -> Result<Relation> {
        self.atom(self.single(goal)?)
    }

    /// Rows of a plan whose columns are `c0`, `c1` and so on, as the arguments of a call.
    pub(crate) fn called(
        plan: LogicalPlan,
        columns: &[ColumnType],
        arguments: &[Slot],
    ) -> Result<Relation> {
        let vars: Vec<VarId> = arguments.iter().filter_map(Slot::var).collect();
        let mut scan = Scan::over(LogicalPlanBuilder::from(plan));
        for (at, (column_type, slot)) in columns.iter().zip(arguments).enumerate() {
            scan.slot(&format!("c{at}"), *column_type, slot);
        }
        // Rules answer each row once, so that what is left of rows is distinct if no column is dropped.
        let whole = !arguments.contains(&Slot::Blank);
        scan.finish(CALLED_ROWS, whole.then(|| vars.clone()), &vars)
    }

    /// The relation of an atom.
    pub(super) fn atom(&self, atom: Atom) -> Result<Relation> {
        match atom {
            Atom::Star(star) => self.star(&star),
            Atom::Fact { goal, rows } => self.fact(&goal, rows),
            Atom::Tuple {
                source,
                slots,
                rows,
            } => self.tuples(source, &slots, rows),
            Atom::Rows(rows) => self.rows(&rows),
        }
    }

    fn star(&self, star: &Star) -> Result<Relation> {
        let database = self.database(star.source)?;
        let ids: Vec<i64> = star.attributes.iter().map(|(known, _)| known.id).collect();
        let table = database.star(&ids).map_err(DataFusionError::External)?;
        let mut scan = Scan::new(self, table)?;
        let vars = Atom::vars_of(star);
        scan.slot("db_id", ColumnType::of(TermType::Ref), &star.e);
        for (at, (attribute, slots)) in star.attributes.iter().enumerate() {
            let name = format!("a{at}");
            scan.filters.push(not_null(&name));
            let column_type = ColumnType::of(attribute.value_type);
            for slot in slots {
                scan.slot(&name, column_type, slot);
            }
        }
        for (var, values) in &star.among {
            scan.among(*var, values);
        }
        self.note_never(&scan);
        let unique = star.e.var().map_or_else(Vec::new, |e| vec![e]);
        scan.finish(star.rows, Some(unique), &vars)
    }

    /// Writes down a condition that no row meets.
    fn note_never(&self, scan: &Scan) {
        if let Some((term, column_type)) = &scan.never {
            let note = format!("{term} is compared with {column_type}, which is never equal to it");
            self.notes.borrow_mut().push(note);
        }
    }

    fn fact(&self, goal: &FactGoal, rows: f64) -> Result<Relation> {
        let vars = {
            let slots = [&goal.e, &goal.v, &goal.tx, &goal.added];
            let mut vars: Vec<VarId> = slots.into_iter().filter_map(Slot::var).collect();
            if let AttributeSlot::Var(var) = goal.a {
                vars.push(var);
            }
            vars
        };
        let database = self.database(goal.source)?;
        let mut pattern = FactPattern {
            v: goal
                .v
                .constant()
                .filter(|_| goal.v_entity.is_none())
                .cloned(),
            ..FactPattern::default()
        };
        let a = match &goal.a {
            AttributeSlot::Unknown => return Self::nothing(&vars),
            AttributeSlot::Known(attribute) => {
                pattern.a = Some(attribute.id);
                Slot::Blank
            }
            AttributeSlot::Var(var) => self.slot(&Slot::Var(*var)),
            AttributeSlot::Blank => Slot::Blank,
        };
        if let Slot::Constant(Term::Long(tx)) = goal.tx {
            pattern.tx = Some(tx);
        }
        match &goal.e {
            Slot::Constant(Term::Long(e)) => pattern.e = Some(*e),
            Slot::Constant(_) => return Self::nothing(&vars),
            _ => {}
        }
        let table = database
            .facts(&pattern)
            .map_err(DataFusionError::External)?;
        let v_type = match &goal.a {
            AttributeSlot::Known(attribute) => ColumnType::of(attribute.value_type),
            _ => ColumnType::new(Kinds::ANY),
        };
        let mut scan = Scan::new(self, table)?;
        scan.slot("e", ColumnType::of(TermType::Ref), &goal.e);
        scan.slot("a", ColumnType::attribute(goal.source), &a);
        match (goal.v_entity, &goal.v) {
            (Some(entity), Slot::Constant(term)) => {
                scan.named("v", v_type, term, entity, database.references());
            }
            _ => scan.slot("v", v_type, &goal.v),
        }
        scan.slot("tx", ColumnType::of(TermType::Ref), &goal.tx);
        scan.slot("added", ColumnType::of(TermType::Boolean), &goal.added);
        self.note_never(&scan);
        // One value an entity, or each pair once. Equal values that are written differently are different
        // facts, so only those count that are equal if their columns are.
        let unique = match (&goal.a, &goal.v) {
            (AttributeSlot::Known(_), _) if database.is_history() || goal.e == Slot::Blank => None,
            (AttributeSlot::Known(attribute), _) if !attribute.is_many => Some(vec![&goal.e]),
            (AttributeSlot::Known(_), Slot::Blank) => None,
            (AttributeSlot::Known(_), v) if v_type.repr() == Repr::Int64 => Some(vec![&goal.e, v]),
            _ => None,
        };
        let unique = unique.map(|slots| slots.into_iter().filter_map(Slot::var).collect());
        scan.finish(rows, unique, &vars)
    }

    fn tuples(&self, source: SourceId, slots: &[Slot], rows: f64) -> Result<Relation> {
        let QuerySource::Collection(tuples) = &self.context.sources[source.0 as usize] else {
            return exec_err!("a database is no collection");
        };
        // Tuples that are at least as wide, place by place; nil binds nothing.
        let width = slots.len();
        let mut wide: Vec<Arc<[Term]>> = Vec::with_capacity(tuples.len());
        for tuple in tuples.iter() {
            let Some(elements) = tuple.elements() else {
                return exec_err!("a source is a collection of tuples; {tuple} is none");
            };
            let matches = elements.len() >= width
                && slots
                    .iter()
                    .zip(elements.iter())
                    .all(|(slot, term)| match slot {
                        Slot::Var(_) => *term != Term::Nil,
                        Slot::Constant(wanted) => wanted == term,
                        Slot::Blank => true,
                    });
            if matches {
                wide.push(elements);
            }
        }
        let places: Vec<usize> = (0..width)
            .filter(|at| matches!(slots[*at], Slot::Var(_)))
            .collect();
        let vars: Vec<VarId> = slots.iter().filter_map(Slot::var).collect();
        if wide.is_empty() {
            return Self::nothing(&vars);
        }
        let mut types = Vec::with_capacity(places.len());
        for &at in &places {
            let kinds = wide
                .iter()
                .map(|tuple| Kinds::of_term(&tuple[at]))
                .fold(Kinds::NONE, Kinds::or);
            types.push(ColumnType::new(kinds));
        }
        let table = table_of(&types, wide.len(), |row, column| &wide[row][places[column]])?;
        let mut scan = Scan::new(self, table)?;
        for (at, (column_type, place)) in types.iter().zip(&places).enumerate() {
            scan.slot(&format!("c{at}"), *column_type, &slots[*place]);
        }
        scan.finish(rows, None, &vars)
    }

    pub(super) fn rows(&self, rows: &RowsGoal) -> Result<Relation> {
        if rows.rows.is_empty() {
            return Self::nothing(&rows.vars);
        }
        let mut types = Vec::with_capacity(rows.vars.len());
        for (at, var) in rows.vars.iter().enumerate() {
            let kinds = rows
                .rows
                .iter()
                .map(|row| Kinds::of_term(&row[at]))
                .fold(Kinds::NONE, Kinds::or);
            let info = &self.query.vars[var.0 as usize];
            types.push(match info.attribute_of {
                Some(source) if kinds.within(Kinds::INTEGERS) => ColumnType::attribute(source),
                _ => ColumnType::new(kinds),
            });
        }
        let table = table_of(&types, rows.rows.len(), |row, column| {
            &rows.rows[row][column]
        })?;
        let mut scan = Scan::new(self, table)?;
        for (at, (column_type, var)) in types.iter().zip(&rows.vars).enumerate() {
            let slot = self.slot(&Slot::Var(*var));
            scan.slot(&format!("c{at}"), *column_type, &slot);
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let estimate = rows.rows.len() as f64;
        scan.finish(estimate, None, &rows.vars)
    }
}

impl Atom {
    fn vars_of(star: &Star) -> Vec<VarId> {
        let values = star.attributes.iter().flat_map(|(_, slots)| slots);
        values.chain([&star.e]).filter_map(Slot::var).collect()
    }
}

/// A scan of a table under conditions, its columns named as variables.
struct Scan {
    plan: LogicalPlanBuilder,
    filters: Vec<Expr>,
    columns: Vec<(VarId, ColumnType, Expr)>,
    /// A condition that cannot be met: what a column would have to be, and what it is.
    never: Option<(Term, ColumnType)>,
}

impl Scan {
    fn new(lowering: &Lowering<'_>, table: Arc<dyn TableProvider>) -> Result<Self> {
        let name = lowering.fresh("t");
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?;
        Ok(Self::over(plan))
    }

    fn over(plan: LogicalPlanBuilder) -> Self {
        Self {
            plan,
            filters: Vec::new(),
            columns: Vec::new(),
            never: None,
        }
    }

    /// What a column must be, or what it is called.
    fn slot(&mut self, name: &str, column_type: ColumnType, slot: &Slot) {
        match slot {
            Slot::Blank => {}
            Slot::Constant(term) => match Lowering::equals(column_type, column(name), term) {
                Some(filter) => self.filters.push(filter),
                None => self.never = Some((term.clone(), column_type)),
            },
            Slot::Var(var) => {
                let known = self.columns.iter().find(|(known, _, _)| known == var);
                match known {
                    None => self.columns.push((*var, column_type, column(name))),
                    Some((_, other, expression)) => {
                        let plain = other.compares_plainly(column_type);
                        let left = Lowering::key(*other, expression.clone(), plain);
                        let right = Lowering::key(column_type, column(name), plain);
                        self.filters.push(left.eq(right));
                    }
                }
            }
        }
    }

    /// A value, or where the attribute is a reference, the entity that it names.
    fn named(
        &mut self,
        name: &str,
        column_type: ColumnType,
        term: &Term,
        entity: i64,
        references: Vec<i64>,
    ) {
        let value = Lowering::equals(column_type, column(name), term);
        let named = Lowering::equals(column_type, column(name), &Term::Long(entity));
        let references = references.into_iter().map(lit).collect();
        let named = named.map(|named| named.and(column("a").in_list(references, false)));
        match value.into_iter().chain(named).reduce(Expr::or) {
            Some(filter) => self.filters.push(filter),
            None => self.never = Some((term.clone(), column_type)),
        }
    }

    /// What a variable is one of, where that can be said natively.
    fn among(&mut self, var: VarId, values: &[Term]) {
        let Some((_, column_type, expression)) =
            self.columns.iter().find(|(known, _, _)| *known == var)
        else {
            return;
        };
        let repr = column_type.repr();
        if repr == Repr::Mixed {
            return;
        }
        // A value of another kind is equal to nothing here.
        let mut list: Vec<ScalarValue> = values
            .iter()
            .filter_map(|value| literal(value, repr))
            .collect();
        if repr == Repr::Float64 && list.len() != values.len() {
            return;
        }
        list.dedup();
        let list = list.into_iter().map(lit).collect();
        self.filters.push(Expr::InList(InList {
            expr: Box::new(expression.clone()),
            list,
            negated: false,
        }));
    }

    fn finish(self, rows: f64, unique: Option<Vec<VarId>>, vars: &[VarId]) -> Result<Relation> {
        if self.never.is_some() {
            return Lowering::nothing(vars);
        }
        let mut plan = self.plan;
        if let Some(filter) = self.filters.into_iter().reduce(Expr::and) {
            plan = plan.filter(filter)?;
        }
        let scanned = Relation {
            plan: plan.build()?,
            columns: Vec::new(),
            rows,
            unique: None,
        };
        let mut relation = Lowering::project(&scanned, self.columns)?;
        relation.unique = unique;
        Ok(relation)
    }
}

impl Lowering<'_> {
    /// The condition that a column is a term; `None` if it never is.
    pub(super) fn equals(column_type: ColumnType, expression: Expr, term: &Term) -> Option<Expr> {
        let repr = column_type.repr();
        if repr != Repr::Mixed {
            if let Some(literal) = literal(term, repr) {
                return Some(expression.eq(lit(literal)));
            }
            // A double column and a number that no double is exactly, or another kind of term.
            return None;
        }
        let mut key = Vec::new();
        term.encode_key(&mut key);
        let own = Self::key(column_type, expression, false);
        Some(own.eq(lit(ScalarValue::Binary(Some(key)))))
    }
}

/// A table in memory.
fn table_of<'t>(
    types: &[ColumnType],
    rows: usize,
    term: impl Fn(usize, usize) -> &'t Term,
) -> Result<Arc<dyn TableProvider>> {
    let mut fields = Vec::with_capacity(types.len() + 1);
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(types.len() + 1);
    for (at, column_type) in types.iter().enumerate() {
        let repr = column_type.repr();
        let mut writer = Writer::new(repr, rows);
        for row in 0..rows {
            writer.push(term(row, at))?;
        }
        let array = writer.finish();
        fields.push(Field::new(
            format!("c{at}"),
            repr.data_type(),
            array.null_count() > 0,
        ));
        arrays.push(array);
    }
    if types.is_empty() {
        // A table needs a column to have rows.
        fields.push(Field::new("unit", DataType::Int64, false));
        arrays.push(Arc::new(Int64Array::from(vec![0; rows])));
    }
    let schema = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
