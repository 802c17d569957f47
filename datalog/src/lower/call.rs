//! Predicates and functions as filters and columns.
//!
//! A comparison of columns of one representation is DataFusion's own, so that it can sink into a scan;
//! everything else calls the function of terms row by row.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlanBuilder, Operator, binary_expr, lit};

use super::function::{Attributes, Job, Operand, apply};
use super::kinds::{always_answers, result_kinds};
use super::{Lowering, Relation, column, name_of, not_null};
use crate::analyze::bound::{
    AttributeSlot, CallGoal, FactGoal, RowsGoal, Slot, SourceId, Target, VarId,
};
use crate::column::{ColumnType, Kinds, Repr, literal};
use crate::plan_source::QuerySource;
use crate::source::{AttributeFacts, TermType};
use crate::span::Span;
use crate::term::Term;

/// An argument: a column, or the same term in every row.
type Given<'a> = Result<(ColumnType, Expr), &'a Term>;

/// The kinds of arguments; an attribute may be seen as its ident.
fn kinds_of(given: &[Given<'_>]) -> Vec<Kinds> {
    let kinds = given.iter().map(|argument| match argument {
        Ok((column_type, _)) if column_type.attribute_of.is_some() => {
            Kinds::of(TermType::Keyword).or(Kinds::INTEGERS)
        }
        Ok((column_type, _)) => column_type.kinds,
        Err(term) => Kinds::of_term(term),
    });
    kinds.collect()
}

impl Lowering<'_> {
    /// Adds a call to a relation that binds its arguments.
    pub(super) fn call(&self, relation: Relation, call: &CallGoal) -> Result<Relation> {
        let slots: Vec<Slot> = call.arguments.iter().map(|slot| self.slot(slot)).collect();
        let Some(binding) = &call.binding else {
            let predicate = self.predicate(&relation, call)?;
            let mut filtered = Self::filter(relation, predicate)?;
            filtered.rows = (filtered.rows / 3.0).max(1.0);
            return Ok(filtered);
        };
        let constants: Option<Vec<Term>> =
            slots.iter().map(|slot| slot.constant().cloned()).collect();
        if let (Some(arguments), true) = (constants, call.function.is_deterministic) {
            let quote = self.quote(call.span, call.in_rules);
            let term = call
                .function
                .call(&arguments)
                .map_err(|reason| quote.error(&reason))?;
            return self.bind_constant(relation, binding, &term);
        }
        let (column_type, expression) = self.value(&relation, call, &slots)?;
        self.bind(relation, binding, column_type, expression)
    }

    /// The condition of a predicate over a relation's columns.
    pub(super) fn predicate(&self, relation: &Relation, call: &CallGoal) -> Result<Expr> {
        let slots: Vec<Slot> = call.arguments.iter().map(|slot| self.slot(slot)).collect();
        let given: Vec<Given<'_>> = slots
            .iter()
            .map(|slot| self.given(relation, slot))
            .collect::<Result<_>>()?;
        if let Some(native) = native(&call.name, &given) {
            return Ok(native);
        }
        let quote = self.quote(call.span, call.in_rules);
        let constants: Option<Vec<Term>> =
            slots.iter().map(|slot| slot.constant().cloned()).collect();
        if let (Some(arguments), true) = (constants, call.function.is_deterministic) {
            let term = call
                .function
                .call(&arguments)
                .map_err(|reason| quote.error(&reason))?;
            return Ok(lit(term.is_truthy()));
        }
        let stays =
            !call.function.is_deterministic || !always_answers(&call.name, &kinds_of(&given));
        let (operands, arguments) = self.operands(&call.name, given);
        Ok(apply(
            &call.name,
            Job::Test(call.function.clone(), quote),
            operands,
            Repr::Boolean,
            stays,
            arguments,
        ))
    }

    /// The value of a function over a relation's columns.
    fn value(
        &self,
        relation: &Relation,
        call: &CallGoal,
        slots: &[Slot],
    ) -> Result<(ColumnType, Expr)> {
        let given: Vec<Given<'_>> = slots
            .iter()
            .map(|slot| self.given(relation, slot))
            .collect::<Result<_>>()?;
        let kinds = kinds_of(&given);
        let stays = !call.function.is_deterministic || !always_answers(&call.name, &kinds);
        let column_type = ColumnType::new(result_kinds(&call.name, &kinds));
        let quote = self.quote(call.span, call.in_rules);
        let (operands, arguments) = self.operands(&call.name, given);
        let expression = apply(
            &call.name,
            Job::Call(call.function.clone(), quote),
            operands,
            column_type.repr(),
            stays,
            arguments,
        );
        Ok((column_type, expression))
    }

    fn given<'s>(&self, relation: &Relation, slot: &'s Slot) -> Result<Given<'s>> {
        match slot {
            Slot::Constant(term) => Ok(Err(term)),
            Slot::Var(var) => {
                if let Some(column_type) = relation.column(*var) {
                    Ok(Ok((column_type, column(name_of(*var)))))
                } else {
                    datafusion::common::plan_err!(
                        "{} is not bound",
                        self.query.vars[var.0 as usize].name
                    )
                }
            }
            Slot::Blank => datafusion::common::plan_err!("an argument cannot be blank"),
        }
    }

    /// Arguments as operands and physical arguments.
    fn operands(&self, name: &str, given: Vec<Given<'_>>) -> (Vec<Operand>, Vec<Expr>) {
        // Attributes compare as entities unless something else is a keyword.
        let equality = matches!(name, "=" | "==" | "not=" | "!=");
        let is_keyword = |argument: &Given<'_>| match argument {
            Ok((column_type, _)) => {
                column_type.attribute_of.is_none()
                    && !column_type
                        .kinds
                        .and(Kinds::of(TermType::Keyword))
                        .is_empty()
            }
            Err(term) => matches!(term, Term::Keyword(_)),
        };
        let as_ids = equality && !given.iter().any(is_keyword);
        let mut operands = Vec::with_capacity(given.len());
        let mut arguments = Vec::new();
        for argument in given {
            match argument {
                Ok((column_type, expression)) => {
                    let attributes = self.attributes(column_type, as_ids);
                    operands.push(Operand::Column(column_type, attributes));
                    arguments.push(expression);
                }
                Err(term) => operands.push(Operand::Constant(term.clone())),
            }
        }
        (operands, arguments)
    }

    /// How a function sees a variable's attributes.
    pub(crate) fn shown(&self, var: VarId, function: &str) -> Attributes {
        let source = self
            .query
            .vars
            .get(var.0 as usize)
            .and_then(|info| info.attribute_of);
        let column_type = source.map_or(ColumnType::new(Kinds::ANY), ColumnType::attribute);
        self.attributes(column_type, matches!(function, "=" | "==" | "not=" | "!="))
    }

    /// How a column's attributes are shown.
    pub(super) fn attributes(&self, column_type: ColumnType, as_ids: bool) -> Attributes {
        let source = column_type.attribute_of.filter(|_| !as_ids);
        match source.map(|source| &self.context.sources[source.0 as usize]) {
            Some(QuerySource::Database(database)) => Attributes::Idents(Arc::clone(database)),
            _ => Attributes::Ids,
        }
    }

    /// Binds what does not change from row to row.
    fn bind_constant(&self, relation: Relation, binding: &Target, term: &Term) -> Result<Relation> {
        let (vars, rows) = binding.take_apart(term);
        if vars.is_empty() {
            return if rows.is_empty() {
                let own: Vec<VarId> = relation.columns.iter().map(|(var, _)| *var).collect();
                Self::nothing(&own)
            } else {
                Ok(relation)
            };
        }
        let rows = self.rows(&RowsGoal::new(vars, rows))?;
        self.join(relation, rows)
    }

    /// Binds a column to variables.
    pub(super) fn bind(
        &self,
        relation: Relation,
        binding: &Target,
        column_type: ColumnType,
        expression: Expr,
    ) -> Result<Relation> {
        match binding {
            Target::Ignore => {
                // Nil drops the row even if nobody looks.
                Self::filter(relation, expression.is_not_null())
            }
            Target::Var(var) => {
                if let Some(known) = relation.column(*var) {
                    let plain = known.compares_plainly(column_type);
                    let left = Self::key(known, column(name_of(*var)), plain);
                    let right = Self::key(column_type, expression, plain);
                    return Self::filter(relation, left.eq(right));
                }
                if let Some(term) = self.constant(*var).cloned() {
                    return if let Some(filter) = Self::equals(column_type, expression, &term) {
                        Self::filter(relation, filter)
                    } else {
                        let own: Vec<VarId> =
                            relation.columns.iter().map(|(var, _)| *var).collect();
                        Self::nothing(&own)
                    };
                }
                let unique = relation.unique.clone();
                let mut columns = Self::own(&relation);
                columns.push((*var, column_type, expression));
                let mut extended = Self::project(&relation, columns)?;
                extended.unique = unique;
                Self::filter(extended, not_null(&name_of(*var)))
            }
            Target::Tuple(parts) => {
                // The whole is a column of its own, lest it be computed once a part.
                let (relation, whole) = self.hold(relation, column_type, expression)?;
                let mut relation = relation;
                for (at, part) in parts.iter().enumerate() {
                    if *part == Target::Ignore {
                        continue;
                    }
                    let element = apply(
                        "element",
                        Job::Element(at),
                        vec![Operand::Column(whole.1, Attributes::Ids)],
                        Repr::Mixed,
                        false,
                        vec![column(name_of(whole.0))],
                    );
                    relation = self.bind(relation, part, ColumnType::new(Kinds::ANY), element)?;
                }
                Self::forget(relation, whole.0)
            }
            Target::Each(part) => {
                let list = apply(
                    "elements",
                    Job::Elements,
                    vec![Operand::Column(column_type, Attributes::Ids)],
                    Repr::Mixed,
                    false,
                    vec![expression],
                );
                let element = self.temporary();
                let mut columns = Self::own(&relation);
                columns.push((element, ColumnType::new(Kinds::ANY), list));
                let listed = Self::project(&relation, columns)?;
                let plan = LogicalPlanBuilder::from(listed.plan.clone())
                    .unnest_column(datafusion::common::Column::new_unqualified(name_of(
                        element,
                    )))?
                    .build()?;
                let unnested = Relation {
                    plan,
                    unique: None,
                    rows: listed.rows * 4.0,
                    ..listed
                };
                let present = Self::filter(unnested, not_null(&name_of(element)))?;
                let bound = self.bind(
                    present,
                    part,
                    ColumnType::new(Kinds::ANY),
                    column(name_of(element)),
                )?;
                let mut bound = Self::forget(bound, element)?;
                bound.unique = None;
                Ok(bound)
            }
        }
    }

    /// A variable that nobody else knows.
    pub(crate) fn temporary(&self) -> VarId {
        let taken = u32::try_from(self.query.vars.len()).unwrap_or(u32::MAX);
        VarId(taken.saturating_add(self.next()))
    }

    /// Gives an expression a column.
    fn hold(
        &self,
        relation: Relation,
        column_type: ColumnType,
        expression: Expr,
    ) -> Result<(Relation, (VarId, ColumnType))> {
        let var = self.temporary();
        let unique = relation.unique.clone();
        let mut columns = Self::own(&relation);
        columns.push((var, column_type, expression));
        let mut held = Self::project(&relation, columns)?;
        held.unique = unique;
        Ok((held, (var, column_type)))
    }

    /// Drops a column.
    fn forget(relation: Relation, var: VarId) -> Result<Relation> {
        let unique = relation.unique.clone();
        let mut columns = Self::own(&relation);
        columns.retain(|(known, _, _)| *known != var);
        let mut kept = Self::project(&relation, columns)?;
        kept.unique = unique;
        Ok(kept)
    }

    /// Two slots are one value.
    pub(super) fn same(&self, relation: Relation, left: &Slot, right: &Slot) -> Result<Relation> {
        let bound = |slot: &Slot| match slot {
            Slot::Var(var) => relation.column(*var),
            _ => None,
        };
        let (left, right) = (self.slot(left), self.slot(right));
        let own: Vec<VarId> = relation.columns.iter().map(|(var, _)| *var).collect();
        match (&left, &right) {
            (Slot::Constant(left), Slot::Constant(right)) => {
                if left == right {
                    Ok(relation)
                } else {
                    Self::nothing(&own)
                }
            }
            (Slot::Constant(term), other) | (other, Slot::Constant(term)) => {
                let Slot::Var(var) = other else {
                    return Ok(relation);
                };
                let Some(column_type) = bound(other) else {
                    return self.bind_constant(relation, &Target::Var(*var), term);
                };
                match Self::equals(column_type, column(name_of(*var)), term) {
                    Some(filter) => Self::filter(relation, filter),
                    None => Self::nothing(&own),
                }
            }
            (Slot::Var(first), Slot::Var(second)) => match (bound(&left), bound(&right)) {
                (Some(column_type), _) => {
                    let expression = column(name_of(*first));
                    self.bind(relation, &Target::Var(*second), column_type, expression)
                }
                (None, Some(column_type)) => {
                    let expression = column(name_of(*second));
                    self.bind(relation, &Target::Var(*first), column_type, expression)
                }
                (None, None) => datafusion::common::plan_err!("neither side is bound"),
            },
            _ => Ok(relation),
        }
    }

    /// The value of an attribute where there is one, else a default: a left join.
    pub(super) fn get_else(
        &self,
        relation: Relation,
        source: SourceId,
        entity: &Slot,
        attribute: Option<&AttributeFacts>,
        default: &Term,
        binding: &Target,
    ) -> Result<Relation> {
        let Some(attribute) = attribute else {
            return self.bind_constant(relation, binding, default);
        };
        let (relation, var, held) = match self.slot(entity) {
            Slot::Var(var) => (relation, var, false),
            Slot::Constant(term) => {
                let column_type = ColumnType::new(Kinds::of_term(&term));
                let Some(literal) = literal(&term, column_type.repr()) else {
                    return self.bind_constant(relation, binding, default);
                };
                let (relation, (var, _)) = self.hold(relation, column_type, lit(literal))?;
                (relation, var, true)
            }
            Slot::Blank => return datafusion::common::plan_err!("get-else needs an entity"),
        };
        let value = self.temporary();
        let fact = self.atom(super::atom::Atom::Fact {
            goal: FactGoal {
                source,
                e: Slot::Var(var),
                a: AttributeSlot::Known(attribute.clone()),
                v: Slot::Var(value),
                v_entity: None,
                tx: Slot::Blank,
                added: Slot::Blank,
                span: Span::default(),
            },
            rows: relation.rows,
        })?;
        let (left, right, on) = self.keyed(&relation, &fact, &[var])?;
        let plan = LogicalPlanBuilder::from(left)
            .join(right, JoinType::Left, on, None)?
            .build()?;
        let value_type = ColumnType::of(attribute.value_type);
        let default_type = ColumnType::new(Kinds::of_term(default));
        let both = value_type.or(default_type);
        let expression = Self::cast(value_type, both, column(name_of(value)));
        let otherwise =
            literal(default, both.repr()).unwrap_or(datafusion::common::ScalarValue::Null);
        let answer = datafusion::functions::expr_fn::coalesce(vec![expression, lit(otherwise)]);
        // A history may have several values of the attribute.
        let unique = relation.unique.clone().filter(|_| fact.unique.is_some());
        let joined = Relation {
            plan,
            unique,
            ..relation
        };
        let bound = self.bind(joined, binding, both, answer)?;
        let own = Self::own(&bound);
        let kept = Self::project(&bound, own)?;
        if held {
            Self::forget(kept, var)
        } else {
            Ok(kept)
        }
    }
}

/// A comparison as DataFusion has it, where that means the same.
fn native(name: &str, given: &[Given<'_>]) -> Option<Expr> {
    let operator = match name {
        "=" | "==" => Operator::Eq,
        "not=" | "!=" if given.len() == 2 => Operator::NotEq,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        _ => return None,
    };
    let column_type = given
        .iter()
        .find_map(|argument| argument.as_ref().ok().map(|(column_type, _)| *column_type))?;
    let repr = column_type.repr();
    let plain = match repr {
        // DataFusion orders booleans and text as we do; mixtures it cannot.
        Repr::Mixed => false,
        _ => true,
    };
    // Attributes are shown as idents to what orders them.
    let attribute = given.iter().any(|argument| {
        argument
            .as_ref()
            .is_ok_and(|(t, _)| t.attribute_of.is_some())
    });
    let equality = matches!(operator, Operator::Eq | Operator::NotEq);
    if !plain || given.len() < 2 || (attribute && !equality) {
        return None;
    }
    let mut sides = Vec::with_capacity(given.len());
    for argument in given {
        sides.push(match argument {
            Ok((other, expression)) if other.repr() == repr => expression.clone(),
            Err(term) => lit(literal(term, repr)?),
            Ok(_) => return None,
        });
    }
    let pairs = sides.windows(2);
    pairs
        .map(|pair| match (&pair[0], &pair[1], operator.swap()) {
            // DataFusion takes `7 = x` and `x = 7` together for a contradiction: the column comes first.
            (Expr::Literal(..), column, Some(swapped)) => {
                binary_expr(column.clone(), swapped, pair[0].clone())
            }
            (left, right, _) => binary_expr(left.clone(), operator, right.clone()),
        })
        .reduce(Expr::and)
}
