//! provider
pub(crate) mod datoms;
pub(crate) mod error;
pub(crate) mod meta;
pub(crate) use datoms::DatomTable;
pub(crate) fn entity_table(
    _db: crate::db::Db,
    _def: &crate::catalog::metaschema::TableDef,
) -> datafusion::error::Result<std::sync::Arc<dyn datafusion::catalog::TableProvider>> {
    Err(error::into_datafusion(crate::Error::invalid("not yet")))
}
