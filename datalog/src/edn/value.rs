//! EDN values.
use std::fmt;
use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;

use super::{Keyword, Symbol};

/// A form.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// What it says.
    pub edn: Edn,
    /// Where it stands.
    pub span: crate::Span,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Edn {
    Nil,
    Boolean(bool),
    Long(i64),
    BigInt(BigInt),
    Double(f64),
    BigDec(BigDecimal),
    Char(char),
    String(Arc<str>),
    Symbol(Symbol),
    Keyword(Keyword),
    Instant(i64),
    Uuid(uuid::Uuid),
    List(Vec<Form>),
    Vector(Vec<Form>),
    Map(Vec<(Form, Form)>),
    Set(Vec<Form>),
    Tagged(Symbol, Box<Form>),
}

impl From<Edn> for Form {
    fn from(edn: Edn) -> Self {
        Self { edn, span: crate::Span::default() }
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
