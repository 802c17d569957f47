//! `sum(DISTINCT …)`: DataFusion collects the values, we add them up.

use std::marker::PhantomData;

use datafusion::arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::{HashMap, Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::wide::{Summable, Wide};
use super::{Total, sum_of};

/// DataFusion's set of distinct values, with a checked total.
#[derive(Debug)]
pub(super) struct DistinctSum<T> {
    theirs: Box<dyn Accumulator>,
    total: Total,
    summed: PhantomData<T>,
}

impl<T: Summable> DistinctSum<T> {
    pub(super) fn new(theirs: Box<dyn Accumulator>, total: Total) -> Self {
        Self {
            theirs,
            total,
            summed: PhantomData,
        }
    }
}

impl<T: Summable> Accumulator for DistinctSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.theirs.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.theirs.merge_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.theirs.state()?;
        let [ScalarValue::List(values)] = &state[..] else {
            return internal_err!("the state of sum(DISTINCT) is one list");
        };
        let values = values.value(0);
        let values: &PrimitiveArray<T> = values.as_primitive();
        let value = if values.is_empty() {
            None
        } else {
            Some(self.total.fit::<T>(sum_of(values))?)
        };
        self.total.scalar::<T>(value)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.theirs.state()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.theirs.size()
    }
}

/// `sum(DISTINCT …)` over a sliding frame: how often each value lies in the frame.
///
/// Only for BIGINT, as in DataFusion.
#[derive(Debug)]
pub(super) struct SlidingDistinctSum {
    counts: HashMap<i64, usize>,
    sum: Wide<i64>,
    total: Total,
}

impl SlidingDistinctSum {
    pub(super) fn new(total: Total) -> Self {
        Self {
            counts: HashMap::default(),
            sum: Wide::default(),
            total,
        }
    }
}

impl Accumulator for SlidingDistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let count = self.counts.entry(value).or_default();
            if *count == 0 {
                self.sum.add(value);
            }
            *count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            if let Some(count) = self.counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&value);
                    self.sum.subtract_wide(Wide {
                        low: value,
                        carry: 0,
                    });
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = if self.counts.is_empty() {
            None
        } else {
            Some(self.total.fit::<Int64Type>(self.sum)?)
        };
        self.total.scalar::<Int64Type>(value)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<_> = self
            .counts
            .keys()
            .map(|value| ScalarValue::from(*value))
            .collect();
        let list = ScalarValue::new_list_nullable(&values, &self.total.data_type);
        Ok(vec![ScalarValue::List(list)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0]
            .as_list::<i32>()
            .iter()
            .flatten()
            .try_for_each(|values| self.update_batch(&[values]))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i64, usize)>()
    }
}
