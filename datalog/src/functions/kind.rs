//! What a term is: `nil?`, `string?`, `type` and their kin; and what passes terms on as they are.

use super::Functions;
use crate::edn::Keyword;
use crate::term::Term;

pub(super) fn add_to(functions: &mut Functions) {
    macro_rules! predicates {
        ($($name:literal => $pattern:pat,)*) => {$(
            functions.add($name, 1, |call| Ok(matches!(call.args[0], $pattern).into()));
        )*};
    }
    predicates! {
        "nil?" => Term::Nil,
        "true?" => Term::Boolean(true),
        "false?" => Term::Boolean(false),
        "boolean?" => Term::Boolean(_),
        "number?" => Term::Long(_) | Term::BigInt(_) | Term::Double(_) | Term::BigDec(_),
        "integer?" => Term::Long(_) | Term::BigInt(_),
        "int?" => Term::Long(_),
        "double?" => Term::Double(_),
        "float?" => Term::Double(_),
        "decimal?" => Term::BigDec(_),
        "char?" => Term::Char(_),
        "string?" => Term::String(_),
        "keyword?" => Term::Keyword(_),
        "symbol?" => Term::Symbol(_),
        "inst?" => Term::Instant(_),
        "uuid?" => Term::Uuid(_),
        "uri?" => Term::Uri(_),
        "bytes?" => Term::Bytes(_),
        "vector?" => Term::Vector(_),
        "set?" => Term::Set(_),
        "map?" => Term::Map(_),
        "coll?" => Term::Vector(_) | Term::Set(_) | Term::Map(_),
    }
    functions.add("some?", 1, |call| {
        Ok((!matches!(call.args[0], Term::Nil)).into())
    });
    for name in ["identity", "untuple"] {
        functions.add(name, 1, |call| Ok(call.args[0].clone()));
    }
    functions.add("ground", 1.., |call| match call.args {
        [arg] => Ok(arg.clone()),
        args => call.answer_collection(Term::vector(args.iter().cloned())),
    });
    functions.add("meta", 1, |_| Ok(Term::Nil));
    functions.add("type", 1, |call| {
        Ok(match kind(&call.args[0]) {
            Some(name) => Term::Keyword(Keyword::new(name)),
            None => Term::Nil,
        })
    });
}

fn kind(term: &Term) -> Option<&'static str> {
    Some(match term {
        Term::Nil => return None,
        Term::Boolean(_) => "db.type/boolean",
        Term::Long(_) => "db.type/long",
        Term::BigInt(_) => "db.type/bigint",
        Term::Double(_) => "db.type/double",
        Term::BigDec(_) => "db.type/bigdec",
        Term::Char(_) => "char",
        Term::String(_) => "db.type/string",
        Term::Keyword(_) => "db.type/keyword",
        Term::Symbol(_) => "db.type/symbol",
        Term::Instant(_) => "db.type/instant",
        Term::Uuid(_) => "db.type/uuid",
        Term::Bytes(_) => "db.type/bytes",
        Term::Uri(_) => "db.type/uri",
        Term::Vector(_) => "db.type/tuple",
        Term::Set(_) => "set",
        Term::Map(_) => "map",
    })
}
