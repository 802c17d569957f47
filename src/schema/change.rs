//! Which changes of an attribute are allowed, and what they ask for.
//!
//! A change that the data may contradict is allowed under a condition that the transaction checks against
//! the database; a change that stored facts cannot survive is refused.

use super::{Attribute, Cardinality, Facts, tuple};
use crate::value::ValueType;

/// What a change of an attribute asks for before it may be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "a set of independent demands"
)]
pub(crate) struct Demands {
    /// No two entities may share a value.
    pub(crate) values_unique: bool,
    /// No entity may have two values.
    pub(crate) values_single: bool,
    /// AVET gains or loses the attribute, `:db/noHistory` changes what history keeps, or the name moves
    /// to another table: the commit must checkpoint.
    pub(crate) checkpoint: bool,
    /// Facts of the attribute must not exist.
    pub(crate) unused: bool,
}

/// What the step from `old` to `new`, which `facts` describe, asks for.
///
/// # Errors
///
/// Why it is refused.
pub(crate) fn demands(
    old: Option<&Attribute>,
    new: Option<(&Attribute, &Facts)>,
) -> Result<Demands, String> {
    let Some((new, facts)) = new else {
        return Ok(Demands {
            unused: old.is_some(),
            checkpoint: true,
            ..Demands::default()
        });
    };
    whole(new, facts)?;
    let Some(old) = old else {
        return Ok(Demands::default());
    };
    let refuse = |what: &str| {
        Err(format!(
            "{what} of {} cannot change; make a new attribute and copy the facts",
            new.ident
        ))
    };
    if old.value_type != new.value_type {
        return refuse(":db/valueType");
    }
    if old.tuple_attrs != new.tuple_attrs || old.tuple_types != new.tuple_types {
        return refuse("the tuple type");
    }
    if new.scale < old.scale {
        return Err(format!(
            ":db/scale of {} cannot shrink from {}: stored values may need it",
            new.ident,
            old.scale.unwrap_or(0)
        ));
    }
    Ok(Demands {
        values_unique: new.unique.is_some() && old.unique.is_none(),
        values_single: old.cardinality == Cardinality::Many && new.cardinality == Cardinality::One,
        checkpoint: old.in_avet() != new.in_avet()
            || old.no_history != new.no_history
            || old.ident.namespace() != new.ident.namespace(),
        unused: false,
    })
}

/// Whether an attribute makes sense by itself.
fn whole(attribute: &Attribute, facts: &Facts) -> Result<(), String> {
    let ident = &attribute.ident;
    if attribute.component && attribute.value_type != ValueType::Ref {
        return Err(format!("{ident} is :db/isComponent but no :db.type/ref"));
    }
    if let Some(scale) = attribute.scale {
        if attribute.value_type != ValueType::BigDec {
            return Err(format!("{ident} has a :db/scale but is no :db.type/bigdec"));
        }
        if !(0..=38).contains(&scale) {
            return Err(format!(
                ":db/scale of {ident} must be from 0 to 38, got {scale}"
            ));
        }
    }
    tuple::check_facts(attribute, facts)
}
