//! Terms for property tests, rich in numbers that are nearly equal.

use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::Term;
use crate::edn::{Keyword, Symbol};

fn long() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => -3..4_i64,
        1 => any::<i64>(),
        1 => (0..63_u32, -3..4_i64, any::<bool>()).prop_map(|(bits, near, negate)| {
            let long = (1_i64 << bits).wrapping_add(near);
            if negate { long.wrapping_neg() } else { long }
        }),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "any double will do")]
fn double() -> impl Strategy<Value = f64> {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        5e-324,
        0.1,
        0.5,
        -0.5,
        f64::MAX,
        f64::MIN,
    ];
    prop_oneof![
        3 => long().prop_map(|long| long as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(special.to_vec()),
    ]
}

/// A number near a long or a double, of any kind.
pub(crate) fn number() -> impl Strategy<Value = Term> {
    let near = (double(), -1..2_i64, prop_oneof![-5..30_i64, 300..400_i64]).prop_map(
        |(double, near, scale)| {
            let decimal = BigDecimal::try_from(double).unwrap_or_default();
            Term::from(decimal + BigDecimal::new(near.into(), scale))
        },
    );
    prop_oneof![
        3 => long().prop_map(Term::Long),
        3 => double().prop_map(Term::Double),
        1 => long().prop_map(|long| Term::from(BigInt::from(long))),
        1 => (long(), long()).prop_map(|(a, b)| Term::from(BigInt::from(a) * BigInt::from(b))),
        1 => (long(), -30..30_i64).prop_map(|(a, scale)| Term::from(BigDecimal::new(a.into(), scale))),
        1 => near,
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab\\x00\u{1}é😀]{0,4}", any::<String>()]
}

/// Any term, a few levels deep.
pub(crate) fn term() -> impl Strategy<Value = Term> {
    let name = "[a-c]{1,2}(/[a-c])?";
    let leaf = prop_oneof![
        8 => number(),
        1 => Just(Term::Nil),
        1 => any::<bool>().prop_map(Term::Boolean),
        1 => any::<char>().prop_map(Term::Char),
        3 => text().prop_map(Term::from),
        1 => name.prop_map(|text| Term::Keyword(Keyword::new(text))),
        1 => name.prop_map(|text| Term::Symbol(Symbol::new(text))),
        1 => long().prop_map(Term::Instant),
        1 => any::<u128>().prop_map(|bits| Term::Uuid(Uuid::from_u128(bits))),
        1 => vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..4)
            .prop_map(|bytes| Term::Bytes(Arc::from(bytes))),
        1 => text().prop_map(|text| Term::Uri(text.into())),
    ];
    leaf.prop_recursive(3, 12, 4, |element| {
        prop_oneof![
            2 => vec(element.clone(), 0..4).prop_map(Term::vector),
            1 => vec(element.clone(), 0..4).prop_map(Term::set),
            1 => vec((element.clone(), element), 0..3).prop_map(Term::map),
        ]
    })
}
