//! Which tables a schema forms, and what they and their columns are called in SQL.
//!
//! Each namespace of attributes is a table of entities, and each cardinality-many attribute a table of
//! members besides. A function of the schema alone: nothing is read.
//!
//! **Invariant.** Names are given in the order of attribute ids, first come, first served. So an attribute
//! that is added later never renames a table or a column that queries already know.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::datom::Entid;
use crate::db::stats::table_of;
use crate::schema::{Attribute, Schema};

/// The column that every entity and member table begins with: the entity.
pub(crate) const DB_ID: &str = "db_id";

/// Tables that every database has; no namespace takes their names.
pub(crate) const SYSTEM_TABLES: [&str; 5] = [
    "datoms",
    "datoms_history",
    "transactions",
    "attributes",
    "idents",
];

/// The table of attributes without a namespace.
const ENTITY: &str = "entity";

/// A table made of attributes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableDef {
    /// The SQL name.
    pub(crate) name: String,
    /// What its rows are.
    pub(crate) kind: TableKind,
}

/// What the rows of a table are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TableKind {
    /// One row an entity that has an attribute of the namespace.
    Entities {
        /// The namespace; empty for attributes without one.
        namespace: Arc<str>,
        /// The columns after `db_id`, by attribute id.
        columns: Vec<ColumnDef>,
    },
    /// One row a member of a cardinality-many attribute.
    Members {
        /// The column after `db_id`.
        column: ColumnDef,
    },
}

/// A column that shows an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnDef {
    /// The SQL name.
    pub(crate) name: String,
    /// The attribute.
    pub(crate) attribute: Arc<Attribute>,
}

/// The tables of a schema: entities by first attribute, then members. `db` and `db.*` form none.
pub(crate) fn tables(schema: &Schema) -> Vec<TableDef> {
    let mut names: HashSet<String> = SYSTEM_TABLES
        .iter()
        .chain([&ENTITY])
        .map(ToString::to_string)
        .collect();
    let mut entities: Vec<(Arc<str>, TableDef)> = Vec::new();
    let mut members = Vec::new();
    let mut places: HashMap<Arc<str>, (usize, HashSet<String>)> = HashMap::new();
    for attribute in schema.attributes() {
        let Some(namespace) = table_of(&attribute.ident) else {
            continue;
        };
        let (place, columns) = places.entry(namespace.into()).or_insert_with(|| {
            let name = if namespace.is_empty() {
                ENTITY.to_owned()
            } else {
                claim(&mut names, sql_name(namespace))
            };
            let kind = TableKind::Entities {
                namespace: namespace.into(),
                columns: Vec::new(),
            };
            entities.push((namespace.into(), TableDef { name, kind }));
            (entities.len() - 1, HashSet::from([DB_ID.to_owned()]))
        });
        let column = ColumnDef {
            name: claim(columns, sql_name(attribute.ident.name())),
            attribute: Arc::clone(attribute),
        };
        let table = &mut entities[*place].1;
        if attribute.is_many() {
            let name = claim(&mut names, format!("{}_x_{}", table.name, column.name));
            members.push(TableDef {
                name,
                kind: TableKind::Members {
                    column: column.clone(),
                },
            });
        }
        if let TableKind::Entities { columns, .. } = &mut table.kind {
            columns.push(column);
        }
    }
    entities
        .into_iter()
        .map(|(_, table)| table)
        .chain(members)
        .collect()
}

/// The table and the column that show an attribute as entities see it.
pub(crate) fn place_of(tables: &[TableDef], attribute: Entid) -> Option<(&str, &str)> {
    tables.iter().find_map(|table| match &table.kind {
        TableKind::Entities { columns, .. } => {
            let column = columns
                .iter()
                .find(|column| column.attribute.id == attribute)?;
            Some((table.name.as_str(), column.name.as_str()))
        }
        TableKind::Members { .. } => None,
    })
}

/// Lower case, with `_` for whatever needs quotes.
pub(crate) fn sql_name(name: &str) -> String {
    let plain = |c: char| {
        if matches!(c, 'a'..='z' | '0'..='9' | '_') {
            c
        } else {
            '_'
        }
    };
    // Only ASCII is folded: a letter whose lower case is longer must not become several characters.
    name.chars()
        .map(|c| plain(c.to_ascii_lowercase()))
        .collect()
}

/// Takes a name, with `_` appended until it is free.
pub(crate) fn claim(taken: &mut HashSet<String>, mut name: String) -> String {
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use datomfusion_datalog::edn::Keyword;

    use super::*;
    use crate::datom::{Datom, TxId};
    use crate::schema::attrs;
    use crate::value::{Value, ValueType};

    /// A schema of these attributes, in order; `*` in front makes one cardinality-many.
    fn schema(idents: &[&str]) -> Schema {
        let mut schema = Schema::bootstrap();
        let tx = TxId::from_t(1);
        for (e, ident) in (2000..).map(Entid).zip(idents) {
            let many = ident.starts_with('*');
            let cardinality = if many {
                attrs::CARDINALITY_MANY
            } else {
                attrs::CARDINALITY_ONE
            };
            let ident = Value::Keyword(Keyword::new(ident.trim_start_matches('*')));
            schema.fold(&[
                Datom::add(e, attrs::IDENT, ident, tx),
                Datom::add(
                    e,
                    attrs::VALUE_TYPE,
                    Value::Ref(attrs::type_id(ValueType::Long)),
                    tx,
                ),
                Datom::add(e, attrs::CARDINALITY, Value::Ref(cardinality), tx),
            ]);
        }
        schema
    }

    /// `table(column, …)` of each table.
    fn shown(idents: &[&str]) -> Vec<String> {
        let show = |table: &TableDef| {
            let columns: Vec<&str> = match &table.kind {
                TableKind::Entities { columns, .. } => {
                    columns.iter().map(|column| column.name.as_str()).collect()
                }
                TableKind::Members { column } => vec![&column.name],
            };
            format!("{}({})", table.name, columns.join(" "))
        };
        tables(&schema(idents)).iter().map(show).collect()
    }

    #[test]
    fn the_bootstrap_forms_no_tables() {
        assert!(shown(&[]).is_empty());
        assert!(shown(&["db/x", "db.x/y"]).is_empty());
        assert_eq!(shown(&["dbx/y"]), ["dbx(y)"]);
    }

    #[test]
    fn a_namespace_is_a_table_and_a_many_attribute_another() {
        assert_eq!(
            shown(&["person/name", "*person/friend", "order/total", "person/age"]),
            [
                "person(name friend age)",
                "order(total)",
                "person_x_friend(friend)"
            ]
        );
    }

    #[test]
    fn names_need_no_quotes() {
        assert_eq!(
            shown(&[
                "community.type/Name",
                "billing-city/Straße",
                "Ünï/ḱ",
                "x/a+b?"
            ]),
            [
                "community_type(name)",
                "billing_city(stra_e)",
                "_n_(_)",
                "x(a_b_)"
            ]
        );
    }

    #[test]
    fn later_names_that_collide_give_way() {
        assert_eq!(
            shown(&[
                "a.b/x-y",
                "a-b/x",
                "a.b/x_y",
                "a.b/X.Y",
                "a_b/x",
                "a.b/db-id"
            ]),
            ["a_b(x_y x_y_ x_y__ db_id_)", "a_b_(x)", "a_b__(x)"]
        );
    }

    #[test]
    fn reserved_names_are_never_taken() {
        assert_eq!(
            shown(&[
                "datoms/x",
                "entity/x",
                "plain",
                "Idents/db_id",
                "transactions/t",
                "attributes/a"
            ]),
            [
                "datoms_(x)",
                "entity_(x)",
                "entity(plain)",
                "idents_(db_id_)",
                "transactions_(t)",
                "attributes_(a)"
            ]
        );
    }

    #[test]
    fn member_tables_and_namespaces_give_way_to_each_other() {
        assert_eq!(
            shown(&["*a/b", "a_x_b/c", "*a_x_b/d"]),
            ["a(b)", "a_x_b_(c d)", "a_x_b(b)", "a_x_b__x_d(d)"]
        );
        assert_eq!(
            shown(&["a_x_b/c", "*a/b"]),
            ["a_x_b(c)", "a(b)", "a_x_b_(b)"]
        );
    }

    #[test]
    fn an_attribute_knows_its_place() {
        let tables = tables(&schema(&["person/name", "*person/friend"]));
        assert_eq!(place_of(&tables, Entid(2001)), Some(("person", "friend")));
        assert_eq!(place_of(&tables, attrs::IDENT), None);
    }
}
