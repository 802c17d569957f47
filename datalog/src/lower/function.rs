//! Functions of terms as functions of columns.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::Quote;
use crate::aggregates::Aggregate;
use crate::column::{ColumnType, Reader, Repr, Writer};
use crate::functions::Function;
use crate::plan_source::Source;
use crate::term::Term;

/// An argument of a function of terms.
#[derive(Clone)]
pub(super) enum Operand {
    /// A column: the next physical argument.
    Column(ColumnType, Attributes),
    /// The same in every row.
    Constant(Term),
}

/// How a function sees attributes.
#[derive(Clone)]
pub(crate) enum Attributes {
    /// As their entity ids.
    Ids,
    /// As their idents.
    Idents(Arc<dyn Source>),
}

impl Attributes {
    /// Shows an attribute as a function should see it.
    pub(crate) fn show(&self, term: Term) -> Term {
        match (self, &term) {
            (Self::Idents(source), Term::Long(id)) => source.ident(*id).map_or(term, Term::Keyword),
            _ => term,
        }
    }
}

/// What a function does with a row.
pub(super) enum Job {
    /// Calls a function and answers its term.
    Call(Function, Quote),
    /// Calls a function and answers whether its term is true.
    Test(Function, Quote),
    /// Encodes its argument.
    Encode,
    /// The key of its argument.
    Key,
    /// An element of a vector.
    Element(usize),
    /// The elements of a collection, as a list.
    Elements,
    /// Calls an aggregate with a list.
    Aggregate(Aggregate, Vec<Term>, Quote, Repr),
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Self::Call(..) => "call",
            Self::Test(..) => "test",
            Self::Encode => "encode",
            Self::Key => "key",
            Self::Element(_) => "element",
            Self::Elements => "elements",
            Self::Aggregate(..) => "aggregate",
        }
    }
}

/// A function of columns that works term by term.
struct TermUdf {
    /// Distinguishes this function from all others; equal functions are the same one.
    id: u64,
    name: String,
    signature: Signature,
    job: Job,
    operands: Vec<Operand>,
    result: Repr,
}

/// Makes the expression that applies a job to columns.
///
/// `arguments` are the physical ones: one for each [`Operand::Column`].
pub(super) fn apply(
    name: &str,
    job: Job,
    operands: Vec<Operand>,
    result: Repr,
    volatile: bool,
    arguments: Vec<Expr>,
) -> Expr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let volatility = if volatile {
        Volatility::Volatile
    } else {
        Volatility::Immutable
    };
    // DataFusion takes expressions of one name for one, and refuses a volatile one that stands there twice.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let function = TermUdf {
        id,
        name: format!("{}:{name}#{id}", job.name()),
        signature: if arguments.is_empty() {
            Signature::nullary(volatility)
        } else {
            Signature::any(arguments.len(), volatility)
        },
        job,
        operands,
        result,
    };
    ScalarUDF::new_from_impl(function).call(arguments)
}

impl fmt::Debug for TermUdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for TermUdf {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for TermUdf {}

impl Hash for TermUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl ScalarUDFImpl for TermUdf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.job {
            Job::Test(..) => DataType::Boolean,
            Job::Elements => elements_type(),
            Job::Key => DataType::Binary,
            _ => self.result.data_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args
            .args
            .iter()
            .map(|argument| argument.to_array(rows))
            .collect::<Result<Vec<ArrayRef>>>()?;
        if let Job::Aggregate(aggregate, constants, quote, repr) = &self.job {
            return self.aggregate(aggregate, constants, quote, *repr, &arrays[0]);
        }
        let mut columns = arrays.iter();
        let mut readers = Vec::with_capacity(self.operands.len());
        let mut terms = Vec::with_capacity(self.operands.len());
        for operand in &self.operands {
            let (reader, term) = match operand {
                Operand::Column(column, attributes) => {
                    let array = columns
                        .next()
                        .ok_or_else(|| exec_datafusion_err!("{} lacks an argument", self.name))?;
                    let reader = Reader::new(column.repr(), array)?;
                    (Some((reader, attributes)), Term::Nil)
                }
                Operand::Constant(term) => (None, term.clone()),
            };
            readers.push(reader);
            terms.push(term);
        }
        let array = self.rows(rows, &readers, terms)?;
        Ok(ColumnarValue::Array(array))
    }
}

impl TermUdf {
    /// Does the job for each row. `terms` holds the constants, and a place for each column.
    fn rows(
        &self,
        rows: usize,
        readers: &[Option<(Reader<'_>, &Attributes)>],
        mut terms: Vec<Term>,
    ) -> Result<ArrayRef> {
        macro_rules! each_row {
            ($row:ident, $terms:ident => $body:expr) => {
                for $row in 0..rows {
                    read_row(&mut terms, readers, $row)?;
                    let $terms = &terms;
                    $body
                }
            };
        }
        Ok(match &self.job {
            Job::Call(function, quote) => {
                let mut writer = Writer::new(self.result, rows);
                each_row!(row, terms => {
                    let term = function.call(terms).map_err(|reason| quote.error(&reason))?;
                    writer.push(&term)?;
                });
                writer.finish()
            }
            Job::Test(function, quote) => {
                let mut writer = Writer::new(Repr::Boolean, rows);
                each_row!(row, terms => {
                    let term = function.call(terms).map_err(|reason| quote.error(&reason))?;
                    writer.push(&Term::Boolean(term.is_truthy()))?;
                });
                writer.finish()
            }
            Job::Encode => {
                let mut writer = Writer::new(Repr::Mixed, rows);
                each_row!(row, terms => writer.push(&terms[0])?);
                writer.finish()
            }
            Job::Key => {
                let mut array = BinaryBuilder::with_capacity(rows, rows * 12);
                let mut bytes = Vec::new();
                each_row!(row, terms => {
                    if matches!(terms[0], Term::Nil) {
                        array.append_null();
                    } else {
                        bytes.clear();
                        terms[0].encode_key(&mut bytes);
                        array.append_value(&bytes);
                    }
                });
                Arc::new(array.finish())
            }
            Job::Element(at) => {
                let mut writer = Writer::new(self.result, rows);
                each_row!(row, terms => {
                    let element = terms[0].elements().and_then(|all| all.get(*at).cloned());
                    writer.push(&element.unwrap_or(Term::Nil))?;
                });
                writer.finish()
            }
            Job::Elements => {
                let mut lists = ListBuilder::new(BinaryBuilder::new()).with_field(item());
                let mut bytes = Vec::new();
                each_row!(row, terms => {
                    let elements = terms[0].elements();
                    for element in elements.iter().flat_map(|all| all.iter()) {
                        if matches!(element, Term::Nil) {
                            continue;
                        }
                        bytes.clear();
                        element.encode(&mut bytes);
                        lists.values().append_value(&bytes);
                    }
                    lists.append(true);
                });
                Arc::new(lists.finish())
            }
            Job::Aggregate(..) => return Err(exec_datafusion_err!("an aggregate takes a list")),
        })
    }

    fn aggregate(
        &self,
        aggregate: &Aggregate,
        constants: &[Term],
        quote: &Quote,
        repr: Repr,
        lists: &ArrayRef,
    ) -> Result<ColumnarValue> {
        let lists = lists.as_list::<i32>();
        let mut writer = Writer::new(self.result, lists.len());
        let mut terms = Vec::new();
        for row in 0..lists.len() {
            terms.clear();
            if lists.is_valid(row) {
                let values = lists.value(row);
                let reader = Reader::new(repr, &values)?;
                for at in 0..values.len() {
                    let term = reader.term(at)?;
                    terms.push(match &self.operands[..] {
                        [Operand::Column(_, attributes)] => attributes.show(term),
                        _ => term,
                    });
                }
            }
            let term = aggregate
                .call(constants, &terms)
                .map_err(|reason| quote.error(&reason))?;
            writer.push(&term)?;
        }
        Ok(ColumnarValue::Array(writer.finish()))
    }
}

fn read_row(
    terms: &mut [Term],
    readers: &[Option<(Reader<'_>, &Attributes)>],
    row: usize,
) -> Result<()> {
    for (term, reader) in terms.iter_mut().zip(readers) {
        if let Some((reader, attributes)) = reader {
            *term = attributes.show(reader.term(row)?);
        }
    }
    Ok(())
}

fn item() -> Field {
    Field::new_list_field(DataType::Binary, true)
}

fn elements_type() -> DataType {
    DataType::List(Arc::new(item()))
}

/// Carries an error of the language through DataFusion.
pub(crate) fn into_datafusion(error: crate::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
