//! Entities as a user names them: an id, an `:ident` or a `[:lookup "ref"]`.

use datomfusion_datalog::edn::{Edn, Form};

use crate::datom::Entid;
use crate::db::Db;
use crate::error::Error;
use crate::schema::{Attribute, EntityRef, LookupRef};
use crate::value::Value;

/// What a form names, whether or not there is such an entity.
pub(super) fn entity_ref(db: &Db, form: &Form) -> Result<EntityRef, Error> {
    match &form.edn {
        Edn::Long(id) => Ok(EntityRef::Entid(Entid(*id))),
        Edn::Keyword(ident) => Ok(EntityRef::Ident(ident.clone())),
        Edn::Vector(pair) => match &pair[..] {
            [
                Form {
                    edn: Edn::Keyword(ident),
                    ..
                },
                value,
            ] => {
                let attribute = db.schema().require(ident)?;
                Ok(EntityRef::Lookup(LookupRef {
                    attribute: ident.clone(),
                    value: typed(attribute, value)?,
                }))
            }
            _ => Err(Error::invalid("a lookup ref is [:unique/attribute value]")),
        },
        other => Err(Error::invalid(format!(
            "an entity is an id, an :ident or a [:lookup \"ref\"], got {}",
            other.describe()
        ))),
    }
}

/// The entity that a form names, which must be there.
pub(super) async fn entity(db: &Db, form: &Form) -> Result<Entid, Error> {
    let found = db.entid(&entity_ref(db, form)?).await?;
    found.ok_or_else(|| Error::invalid(format!("there is no entity {}", form.edn)))
}

/// A form as a value of an attribute's type.
pub(super) fn typed(attribute: &Attribute, form: &Form) -> Result<Value, Error> {
    Value::from_edn(&form.edn, attribute.value_type)
        .map_err(|reason| Error::invalid(format!("{}: {reason}", attribute.ident)))
}
