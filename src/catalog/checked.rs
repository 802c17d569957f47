//! Arithmetic that never wraps: `+ - *`, unary minus and `sum` on whole numbers and decimals.
//!
//! DataFusion wraps all of these without a word, in constant folding as well as in execution, and its
//! planner has no switch for it. So an analyzer rule, [`CheckedArithmetic`], replaces the operators *after*
//! type coercion, when the types are final, and *before* the optimizer could fold a constant: each
//! becomes a scalar function that still prints as the operator, folds, and keeps orderings, and fails
//! instead of wrapping. Not a function rewrite (those run before coercion), not a physical rule (constants
//! are folded by then, and physical plans do not let their expressions be replaced).
//!
//! Floats, dates, timestamps and intervals keep DataFusion's operators. Division and remainder are
//! checked by Arrow already.

mod arithmetic;
mod sum;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, BinaryExpr, Expr, ExprSchemable, LogicalPlan, ScalarUDF, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;

use arithmetic::{CheckedOperator, Operation};
use sum::CheckedSum;

/// Replaces wrapping operators and DataFusion's own `sum`.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic {
    operators: [Arc<ScalarUDF>; 4],
    sum: Arc<AggregateUDF>,
}

impl Default for CheckedArithmetic {
    fn default() -> Self {
        Self {
            operators: Operation::ALL.map(|op| Arc::new(CheckedOperator::new(op).into())),
            sum: Arc::new(CheckedSum::default().into()),
        }
    }
}

impl CheckedArithmetic {
    /// The functions that replace the operators, by their names `checked_add` and so on.
    ///
    /// A plan that travels is decoded where these are registered.
    pub(crate) fn operators(&self) -> &[Arc<ScalarUDF>] {
        &self.operators
    }

    /// The function that replaces DataFusion's, under its name.
    pub(crate) fn sum(&self) -> &Arc<AggregateUDF> {
        &self.sum
    }

    fn rewrite_plan(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(
                scan.table_name.clone(),
                &scan.source.schema(),
            )?);
        }
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr
                .transform_down(|expr| self.rewrite(expr, &schema))?
                .update_data(|expr| name.restore(expr)))
        })?;
        if rewritten.transformed {
            rewritten.map_data(LogicalPlan::recompute_schema)
        } else {
            Ok(rewritten)
        }
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let operation = match Operation::of(op) {
                    // Operands of one operator have one type by now, up to precision.
                    Some(operation) if operation.wraps_on(&left.get_type(schema)?) => operation,
                    _ => {
                        return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr {
                            left,
                            op,
                            right,
                        })));
                    }
                };
                Transformed::yes(self.call(operation, vec![*left, *right]))
            }
            Expr::Negative(arg) => {
                if Operation::Negate.wraps_on(&arg.get_type(schema)?) {
                    Transformed::yes(self.call(Operation::Negate, vec![*arg]))
                } else {
                    Transformed::no(Expr::Negative(arg))
                }
            }
            // From SQL `sum` is ours by name; plans built by hand may hold DataFusion's.
            Expr::AggregateFunction(AggregateFunction { func, params })
                if func.inner().is::<Sum>() =>
            {
                let func = Arc::clone(&self.sum);
                Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params }))
            }
            Expr::WindowFunction(mut window) => {
                let WindowFunction { fun, .. } = window.as_mut();
                match fun {
                    WindowFunctionDefinition::AggregateUDF(func) if func.inner().is::<Sum>() => {
                        *func = Arc::clone(&self.sum);
                        Transformed::yes(Expr::WindowFunction(window))
                    }
                    _ => Transformed::no(Expr::WindowFunction(window)),
                }
            }
            other => Transformed::no(other),
        })
    }

    fn call(&self, operation: Operation, args: Vec<Expr>) -> Expr {
        let func = Arc::clone(&self.operators[operation as usize]);
        Expr::ScalarFunction(ScalarFunction { func, args })
    }
}

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &'static str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| self.rewrite_plan(plan))
            .map(|plan| plan.data)
    }
}

#[cfg(test)]
mod tests;
