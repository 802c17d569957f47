//! Values as terms of a query, and back.

use std::sync::Arc;

use datomfusion_datalog::Term;
use datomfusion_datalog::edn::Edn;

use super::{Value, ValueType};

/// A value as a term; `None` if it lies out of line and has not been read.
pub(crate) fn term_of(value: &Value) -> Option<Term> {
    Some(match value {
        Value::Boolean(value) => Term::Boolean(*value),
        Value::Long(value) => Term::Long(*value),
        Value::Double(value) => Term::Double(*value),
        Value::Float(value) => Term::Double(f64::from(*value)),
        Value::BigInt(value) => Term::BigInt(Arc::clone(value)),
        Value::BigDec(value) => Term::BigDec(Arc::clone(value)),
        Value::String(value) => Term::String(Arc::clone(value)),
        Value::Keyword(value) => Term::Keyword(value.clone()),
        Value::Symbol(value) => Term::Symbol(value.clone()),
        Value::Uuid(value) => Term::Uuid(uuid::Uuid::from_u128(*value)),
        Value::Instant(value) => Term::Instant(*value),
        Value::Ref(value) => Term::Long(value.0),
        Value::Bytes(value) => Term::Bytes(Arc::clone(value)),
        Value::Uri(value) => Term::Uri(Arc::clone(value)),
        Value::Tuple(elements) => {
            let terms: Option<Vec<Term>> = elements
                .iter()
                .map(|element| element.as_ref().map_or(Some(Term::Nil), term_of))
                .collect();
            Term::vector(terms?)
        }
        Value::Large(large) => match large.value_type {
            ValueType::Bytes => Term::Bytes(Arc::clone(large.body.get()?)),
            ValueType::Uri => Term::Uri(large.text()?.into()),
            _ => Term::String(large.text()?.into()),
        },
    })
}

/// The value of a type that is equal to a term; `None` if there is none, or none that is easily told.
pub(crate) fn value_equal_to(term: &Term, value_type: ValueType) -> Option<Value> {
    let direct = Value::from_edn(&term.to_edn(), value_type).ok();
    let value = match (direct, term) {
        (Some(value), _) => value,
        (None, Term::Double(double)) if double.fract() == 0.0 && double.abs() < 9e15 => {
            #[expect(clippy::cast_possible_truncation, reason = "checked above")]
            let long = *double as i64;
            Value::from_edn(&Edn::Long(long), value_type).ok()?
        }
        (None, Term::BigInt(number)) => {
            let long = i64::try_from(&**number).ok()?;
            Value::from_edn(&Edn::Long(long), value_type).ok()?
        }
        _ => return None,
    };
    // Rounding to a float may have changed the number.
    (term_of(&value)? == *term).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_find_the_equal_value_of_a_type_or_none() {
        let value = |term: Term, value_type| value_equal_to(&term, value_type);
        assert_eq!(
            value(Term::Double(5.0), ValueType::Long),
            Some(Value::Long(5))
        );
        assert_eq!(value(Term::Double(5.5), ValueType::Long), None);
        assert_eq!(value(Term::Long(5), ValueType::Double), Value::double(5.0));
        assert_eq!(value(Term::Double(0.1), ValueType::Float), None);
        assert_eq!(
            value(Term::Double(0.5), ValueType::Float),
            Value::float(0.5)
        );
        assert_eq!(value(Term::String("5".into()), ValueType::Long), None);
    }
}
