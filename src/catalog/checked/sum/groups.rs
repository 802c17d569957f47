//! `sum` by group.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::accumulate::NullState;

use super::Total;
use super::wide::{Summable, Word};

/// One [`Wide`] sum a group, as columns. The carries stay empty until one is needed.
#[derive(Debug)]
pub(super) struct GroupsSum<T: Summable> {
    low: Vec<T::Native>,
    carry: Vec<i64>,
    seen: NullState,
    total: Total,
}

impl<T: Summable> GroupsSum<T> {
    pub(super) fn new(total: Total) -> Self {
        Self {
            low: Vec::new(),
            carry: Vec::new(),
            seen: NullState::new(),
            total,
        }
    }

    fn add(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) {
        self.low.resize(group_count, T::Native::ZERO);
        let Self {
            low, carry, seen, ..
        } = self;
        seen.accumulate(groups, values, filter, group_count, |group, value| {
            let (sum, overflow) = low[group].add(value);
            low[group] = sum;
            if overflow {
                add_carry(carry, group, value.sign());
            }
        });
    }

    /// Takes the sums to emit, with the carries if there are any.
    fn take(&mut self, emit_to: EmitTo) -> (Vec<T::Native>, Vec<i64>, Option<NullBuffer>) {
        let carry = if self.carry.is_empty() {
            Vec::new()
        } else {
            self.carry.resize(self.low.len(), 0);
            emit_to.take_needed(&mut self.carry)
        };
        (
            emit_to.take_needed(&mut self.low),
            carry,
            self.seen.build(emit_to),
        )
    }

    fn array(&self, values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
        let array = PrimitiveArray::<T>::new(values.into(), nulls);
        Arc::new(array.with_data_type(self.total.data_type.clone()))
    }
}

#[cold]
fn add_carry(carries: &mut Vec<i64>, group: usize, carry: i64) {
    if carries.len() <= group {
        carries.resize(group + 1, 0);
    }
    carries[group] += carry;
}

impl<T: Summable> GroupsAccumulator for GroupsSum<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(
            values[0].as_primitive(),
            group_indices,
            opt_filter,
            total_num_groups,
        );
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(
            values[0].as_primitive(),
            group_indices,
            None,
            total_num_groups,
        );
        let carries = values[1].as_primitive::<Int64Type>();
        if carries.values().iter().any(|carry| *carry != 0) {
            for (group, carry) in group_indices.iter().zip(carries) {
                if let Some(carry @ (..=-1 | 1..)) = carry {
                    add_carry(&mut self.carry, *group, carry);
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (low, carry, nulls) = self.take(emit_to);
        // Groups without values hold zero, which fits.
        let fits = carry.iter().all(|carry| *carry == 0)
            && low
                .iter()
                .all(|value| T::fits(*value, &self.total.data_type));
        if fits {
            Ok(self.array(low, nulls))
        } else {
            self.total.overflow()
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (low, mut carry, nulls) = self.take(emit_to);
        carry.resize(low.len(), 0);
        Ok(vec![
            self.array(low, nulls),
            Arc::new(Int64Array::from(carry)),
        ])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let (_, buffer, nulls) = values[0].as_primitive::<T>().clone().into_parts();
        let kept = opt_filter.map(|filter| {
            let (kept, known) = filter.clone().into_parts();
            NullBuffer::new(match known {
                Some(known) => &kept & known.inner(),
                None => kept,
            })
        });
        let nulls = NullBuffer::union(nulls.as_ref(), kept.as_ref());
        let carry = Int64Array::from_value(0, buffer.len());
        let sums = PrimitiveArray::<T>::new(buffer, nulls);
        Ok(vec![
            Arc::new(sums.with_data_type(self.total.data_type.clone())),
            Arc::new(carry),
        ])
    }

    fn size(&self) -> usize {
        self.low.capacity() * size_of::<T::Native>()
            + self.carry.capacity() * size_of::<i64>()
            + self.seen.size()
    }
}
