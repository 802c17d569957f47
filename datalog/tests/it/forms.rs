//! Arbitrary EDN, as proptest strategies.

use bigdecimal::BigDecimal;
use datomfusion_datalog::edn::{Edn, Form, Keyword, Symbol};
use num_bigint::BigInt;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use uuid::Uuid;

/// Any form that a text can denote, some five levels deep.
pub(crate) fn form() -> impl Strategy<Value = Form> {
    atom()
        .prop_map(Form::from)
        .prop_recursive(5, 64, 8, |inner| {
            let edn = prop_oneof![
                vec(inner.clone(), 0..8).prop_map(Edn::List),
                vec(inner.clone(), 0..8).prop_map(Edn::Vector),
                // More than a dozen, to reach both ways of looking for duplicates.
                btree_set(inner.clone(), 0..24).prop_map(|set| Edn::Set(set.into_iter().collect())),
                btree_map(inner.clone(), inner.clone(), 0..24)
                    .prop_map(|map| Edn::Map(map.into_iter().collect())),
                (name(), inner)
                    .prop_filter(
                        "tags begin with a letter and are not built in",
                        |(tag, _)| {
                            tag.starts_with(char::is_alphabetic) && tag != "inst" && tag != "uuid"
                        }
                    )
                    .prop_map(|(tag, form)| Edn::Tagged(Symbol::new(tag), Box::new(form))),
            ];
            edn.prop_map(Form::from)
        })
}

fn atom() -> impl Strategy<Value = Edn> {
    prop_oneof![
        Just(Edn::Nil),
        any::<bool>().prop_map(Edn::Boolean),
        any::<i64>().prop_map(Edn::Long),
        big_integer().prop_map(Edn::BigInt),
        any::<u64>().prop_map(|bits| Edn::Double(f64::from_bits(bits))),
        (-1e6..1e6).prop_map(Edn::Double),
        (big_integer(), -4096_i64..4096)
            .prop_map(|(digits, scale)| Edn::BigDec(BigDecimal::new(digits, scale))),
        (any::<i32>(), -3_i64..15)
            .prop_map(|(digits, scale)| Edn::BigDec(BigDecimal::new(digits.into(), scale))),
        any::<char>().prop_map(Edn::Char),
        prop::char::range('\0', '\u{ff}').prop_map(Edn::Char),
        any::<String>().prop_map(Edn::from),
        "[\\PC\"\\\\\n\t\0]{0,12}".prop_map(Edn::from),
        name()
            .prop_filter("constants are not symbols", |name| {
                !matches!(name.as_str(), "nil" | "true" | "false")
            })
            .prop_map(|name| Edn::Symbol(Symbol::new(name))),
        name().prop_map(|name| Edn::Keyword(Keyword::new(name))),
        "[0-9]{1,3}".prop_map(|name| Edn::Keyword(Keyword::new(name))),
        any::<i64>().prop_map(Edn::Instant),
        any::<u128>().prop_map(|bits| Edn::Uuid(Uuid::from_u128(bits))),
    ]
}

fn big_integer() -> impl Strategy<Value = BigInt> {
    vec(any::<u8>(), 0..40).prop_map(|bytes| BigInt::from_signed_bytes_le(&bytes))
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Zäß日?$%*!_&=<>][a-zA-Z0-9ä.*+!?$%&=<>_'#-]{0,8}",
        "[a-z][a-z0-9.-]{0,8}/[a-zA-Z_?*<>=-][a-z0-9?!_.'-]{0,8}",
        "[-+/.*]|->|<=|\\.\\.\\.|core//",
    ]
}
