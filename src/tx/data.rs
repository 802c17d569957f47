//! Transaction data: EDN forms flattened to operations on single facts.
//!
//! A map becomes one operation an attribute, a nested map a new temporary id, a reverse attribute an
//! operation on the other entity. Attributes are looked up in the schema of db-before, so that every value
//! can be read as its attribute's type; entities stay unresolved.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datomfusion_datalog::edn::{Edn, Form, Keyword, read_all};

use super::functions::Expanded;
use crate::datom::Entid;
use crate::error::{Error, Result};
use crate::schema::{Attribute, Schema, attrs, tuple};
use crate::value::{Value, ValueType, excerpt};

/// The forms of one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct TxData {
    forms: Arc<[Form]>,
    /// The text that the forms were read from, for messages.
    text: Option<Arc<str>>,
}

impl TxData {
    /// Reads the text of one transaction: a vector of maps and lists.
    ///
    /// # Errors
    ///
    /// [`Error::Edn`] with line and column if the text is no EDN; [`Error::Invalid`] if it is not one
    /// transaction.
    pub fn parse(text: &str) -> Result<Self> {
        let mut forms = read_all(text)?;
        match (forms.pop(), forms.is_empty()) {
            (
                Some(Form {
                    edn: Edn::Vector(forms) | Edn::List(forms),
                    ..
                }),
                true,
            ) => Ok(Self {
                forms: forms.into(),
                text: Some(text.into()),
            }),
            (None, _) => Err(Error::invalid("there is no transaction: the text is empty")),
            (Some(_), true) => Err(Error::invalid(
                "a transaction is a vector of maps and lists: [{:person/name \"Ada\"} …]",
            )),
            (Some(_), false) => Err(Error::invalid(
                "a text is one transaction, one vector; this one has several forms",
            )),
        }
    }

    /// A transaction of these forms.
    pub fn new(forms: impl Into<Arc<[Form]>>) -> Self {
        Self {
            forms: forms.into(),
            text: None,
        }
    }

    /// The forms.
    pub fn forms(&self) -> &[Form] {
        &self.forms
    }
}

impl FromIterator<Edn> for TxData {
    fn from_iter<I: IntoIterator<Item = Edn>>(forms: I) -> Self {
        Self::new(forms.into_iter().map(Form::from).collect::<Vec<_>>())
    }
}

/// A name for an entity that is valid inside one transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TempId {
    /// A string.
    Text(Arc<str>),
    /// A negative number, in a partition if `#db/id` names one other than `:db.part/user`.
    Number(i64, Option<Keyword>),
    /// A nested map or `#db/id[:part]` without a number: a fresh entity each.
    Fresh(usize),
}

impl fmt::Display for TempId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number, None) => write!(f, "{number}"),
            Self::Number(number, Some(part)) => write!(f, "#db/id[{part} {number}]"),
            Self::Fresh(number) => write!(f, "#{number}"),
        }
    }
}

/// An entity as a form names it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Entid(Entid),
    /// An index into [`Operations::tempids`].
    Temp(usize),
    /// The transaction itself.
    Tx,
    Lookup(Arc<Attribute>, Value),
}

/// A value as a form gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Value(Value),
    Ref(Place),
    /// A tuple with references that are yet to be resolved; its elements are no tuples.
    Tuple(Vec<Option<Word>>),
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Add(Place, Arc<Attribute>, Word),
    Retract(Place, Arc<Attribute>, Option<Word>),
    RetractEntity(Place),
    /// Entity, attribute, the value it must have, the value it gets.
    Cas(Place, Arc<Attribute>, Option<Word>, Option<Word>),
}

/// An action, and the top-level form that asked for it.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) action: Action,
    pub(super) form: usize,
}

/// All operations of a transaction.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) list: Vec<Operation>,
    pub(super) tempids: Vec<TempId>,
}

/// Flattens the forms.
pub(super) fn operations(
    data: &TxData,
    expanded: &[Expanded<'_>],
    schema: &Schema,
) -> Result<Operations> {
    let mut flattener = Flattener {
        schema,
        out: Operations::default(),
        temps: HashMap::new(),
        form: 0,
    };
    for (form, at) in expanded {
        flattener.form = *at;
        flattener.form(form).map_err(|reason| {
            // What a function answered does not stand in the data.
            let reason = match form {
                Cow::Borrowed(_) => reason,
                Cow::Owned(form) => format!("{reason}, in {}", excerpt(&form.edn)),
            };
            refused(data, *at, reason)
        })?;
    }
    Ok(flattener.out)
}

/// A refusal that quotes the form, and says where it stands if the data was read from a text.
pub(super) fn refused(data: &TxData, form: usize, reason: impl Into<String>) -> Error {
    const SHOWN_CHARS_MAX: usize = 240;
    let form = &data.forms[form];
    let mut quote = form.edn.to_string();
    if let Some((cut, _)) = quote.char_indices().nth(SHOWN_CHARS_MAX) {
        quote.truncate(cut);
        quote.push('…');
    }
    if let Some(text) = &data.text {
        let (line, column) = form.span.position(text);
        quote = format!("{quote} (line {line}, column {column})");
    }
    Error::Transaction {
        form: quote,
        reason: reason.into(),
    }
}

struct Flattener<'a> {
    schema: &'a Schema,
    out: Operations,
    temps: HashMap<TempId, usize>,
    form: usize,
}

type Refusal<T> = std::result::Result<T, String>;

const OPERATIONS: &str = ":db/add, :db/retract, :db/retractEntity and :db/cas";

/// The operations that need no registered function.
pub(super) const BUILT_IN: [&str; 7] = [
    "db/add",
    "db/retract",
    "db/retractEntity",
    "db/cas",
    "db.fn/retractAttribute",
    "db.fn/retractEntity",
    "db.fn/cas",
];

impl Flattener<'_> {
    fn form(&mut self, form: &Form) -> Refusal<()> {
        match &form.edn {
            Edn::Map(entries) => self.map(entries).map(drop),
            Edn::Vector(parts) | Edn::List(parts) => self.list(parts),
            _ => Err("a transaction is made of maps and of lists such as [:db/add e a v]".into()),
        }
    }

    fn list(&mut self, parts: &[Form]) -> Refusal<()> {
        let Some((
            Form {
                edn: Edn::Keyword(operation),
                ..
            },
            arguments,
        )) = parts.split_first()
        else {
            return Err(format!("a list begins with an operation: {OPERATIONS}"));
        };
        let action = match (operation.as_str(), arguments) {
            ("db/add", [e, a, v]) => {
                let (place, attribute) = (self.place(e)?, self.attribute(a)?);
                // A reverse attribute in a list reads as in a map.
                match attribute {
                    (attribute, false) => {
                        for word in self.single(&attribute, v)? {
                            self.push(Action::Add(place.clone(), Arc::clone(&attribute), word));
                        }
                    }
                    (attribute, true) => self.reverse(&place, &attribute, v)?,
                }
                return Ok(());
            }
            ("db/retract", [e, a, v]) => {
                let (place, attribute) = (self.place(e)?, self.changed(a)?);
                let word = self.word(&attribute, v)?;
                Action::Retract(place, attribute, Some(word))
            }
            ("db/retract" | "db.fn/retractAttribute", [e, a]) => {
                Action::Retract(self.place(e)?, self.changed(a)?, None)
            }
            ("db/retractEntity" | "db.fn/retractEntity", [e]) => {
                Action::RetractEntity(self.place(e)?)
            }
            ("db/cas" | "db.fn/cas", [e, a, old, new]) => {
                let (place, attribute) = (self.place(e)?, self.changed(a)?);
                let old = self.optional(&attribute, old)?;
                let new = self.optional(&attribute, new)?;
                Action::Cas(place, attribute, old, new)
            }
            ("db/add", _) => return Err("expected [:db/add entity attribute value]".into()),
            ("db/retract", _) => {
                return Err("expected [:db/retract entity attribute] or \
                            [:db/retract entity attribute value]"
                    .into());
            }
            ("db/retractEntity" | "db.fn/retractEntity", _) => {
                return Err("expected [:db/retractEntity entity]".into());
            }
            ("db/cas" | "db.fn/cas", _) => {
                return Err("expected [:db/cas entity attribute old-value new-value]".into());
            }
            _ => {
                return Err(format!(
                    "there is no operation {operation}; there are {OPERATIONS}"
                ));
            }
        };
        self.push(action);
        Ok(())
    }

    /// Flattens a map and returns the entity that it is about.
    fn map(&mut self, entries: &[(Form, Form)]) -> Refusal<Place> {
        let id = entries
            .iter()
            .find(|(key, _)| is_keyword(&key.edn, "db/id"));
        let place = match id {
            Some((_, id)) => self.place(id)?,
            None => self.fresh(),
        };
        for (key, value) in entries {
            if is_keyword(&key.edn, "db/id") || installs(&key.edn) {
                continue;
            }
            let (attribute, reverse) = self.attribute(key)?;
            if reverse {
                self.reverse(&place, &attribute, value)?;
                continue;
            }
            for word in self.words(&attribute, value)? {
                self.push(Action::Add(place.clone(), Arc::clone(&attribute), word));
            }
        }
        Ok(place)
    }

    /// `{:db/id e :ns/_attr others}`: each of the others refers to `e`.
    fn reverse(&mut self, e: &Place, attribute: &Arc<Attribute>, value: &Form) -> Refusal<()> {
        let others = match &value.edn {
            Edn::Vector(items) if !self.is_lookup(items) => items.iter().collect(),
            Edn::Set(items) => items.iter().collect(),
            _ => vec![value],
        };
        for other in others {
            let place = match &other.edn {
                Edn::Map(entries) => self.map(entries)?,
                _ => self.place(other)?,
            };
            self.push(Action::Add(
                place,
                Arc::clone(attribute),
                Word::Ref(e.clone()),
            ));
        }
        Ok(())
    }

    fn push(&mut self, action: Action) {
        self.out.list.push(Operation {
            action,
            form: self.form,
        });
    }

    /// The attribute that a key names, and whether it is reversed.
    fn attribute(&self, key: &Form) -> Refusal<(Arc<Attribute>, bool)> {
        let ident = match &key.edn {
            Edn::Keyword(ident) => ident,
            Edn::Long(id) => {
                let attribute = self.schema.attribute(Entid(*id));
                return attribute
                    .map(|attribute| (Arc::clone(attribute), false))
                    .ok_or_else(|| format!("entity {id} is not an attribute"));
            }
            other => return Err(format!("an attribute is a keyword, got {other}")),
        };
        if let Some(attribute) = self.schema.attribute_by_ident(ident) {
            return Ok((Arc::clone(attribute), false));
        }
        if let Some(forward) = forward_of(ident) {
            let attribute = self.schema.attribute_by_ident(&forward);
            let attribute = attribute.ok_or_else(|| self.schema.unknown(&forward))?;
            if attribute.value_type != ValueType::Ref {
                return Err(format!(
                    "{ident} reverses {forward}, which is no reference but {}",
                    attribute.value_type
                ));
            }
            return Ok((Arc::clone(attribute), true));
        }
        Err(format!(
            "{}; declare it in an earlier transaction",
            self.schema.unknown(ident)
        ))
    }

    /// An attribute whose facts can be taken back one by one.
    fn changed(&self, key: &Form) -> Refusal<Arc<Attribute>> {
        let (attribute, reverse) = self.attribute(key)?;
        if reverse {
            return Err("a reverse attribute can only be asserted".into());
        }
        if let Some(names) = &attribute.tuple_attrs {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            return Err(format!(
                "{} is composed of {}; change those",
                attribute.ident,
                names.join(" and ")
            ));
        }
        if attribute.id == attrs::ENSURE {
            return Err(":db/ensure is never stored, so it can only be asserted".into());
        }
        Ok(attribute)
    }

    fn fresh(&mut self) -> Place {
        let id = TempId::Fresh(self.out.tempids.len());
        self.temp(id)
    }

    fn temp(&mut self, id: TempId) -> Place {
        let next = self.out.tempids.len();
        let at = *self.temps.entry(id.clone()).or_insert(next);
        if at == next {
            self.out.tempids.push(id);
        }
        Place::Temp(at)
    }

    /// The entity that a form names.
    fn place(&mut self, form: &Form) -> Refusal<Place> {
        match &form.edn {
            Edn::Long(id) if *id < 0 => Ok(self.temp(TempId::Number(*id, None))),
            Edn::Long(id) => Ok(Place::Entid(Entid(*id))),
            Edn::String(text) if is_tx_name(text) => Ok(Place::Tx),
            Edn::String(text) => Ok(self.temp(TempId::Text(Arc::clone(text)))),
            Edn::Keyword(ident) if ident.as_str() == "db/current-tx" => Ok(Place::Tx),
            Edn::Keyword(ident) => match self.schema.entid(ident) {
                Some(entid) => Ok(Place::Entid(entid)),
                None => Err(format!("there is no entity with the ident {ident}")),
            },
            Edn::Vector(parts) | Edn::List(parts) => self.lookup(parts),
            Edn::Tagged(tag, inner) if tag.as_str() == "db/id" => self.db_id(&inner.edn),
            other => Err(format!(
                "an entity is an id, a temporary id, an ident or a lookup ref, got {other}"
            )),
        }
    }

    /// `#db/id[:db.part/user -1]`.
    fn db_id(&mut self, inner: &Edn) -> Refusal<Place> {
        let Edn::Vector(parts) = inner else {
            return Err("expected #db/id[:db.part/user] or #db/id[:db.part/user -1]".into());
        };
        let parts: Vec<&Edn> = parts.iter().map(|part| &part.edn).collect();
        match parts[..] {
            [Edn::Keyword(part)] if part.as_str() == "db.part/tx" => Ok(Place::Tx),
            [Edn::Keyword(_)] => Ok(self.fresh()),
            [Edn::Keyword(part), Edn::Long(number)] if *number < 0 => {
                let part = (part.as_str() != "db.part/user").then(|| part.clone());
                Ok(self.temp(TempId::Number(*number, part)))
            }
            _ => Err("expected #db/id[:db.part/user] or #db/id[:db.part/user -1]".into()),
        }
    }

    /// Whether a vector reads as a lookup ref rather than as several entities: it names an attribute,
    /// and either that is unique or what follows is a plain value, which no list of entities holds.
    fn is_lookup(&self, parts: &[Form]) -> bool {
        let [
            Form {
                edn: Edn::Keyword(ident),
                ..
            },
            value,
        ] = parts
        else {
            return false;
        };
        let plain = !matches!(
            value.edn,
            Edn::Keyword(_) | Edn::Map(_) | Edn::Vector(_) | Edn::Tagged(..)
        );
        self.schema
            .attribute_by_ident(ident)
            .is_some_and(|attribute| attribute.unique.is_some() || plain)
    }

    fn lookup(&mut self, parts: &[Form]) -> Refusal<Place> {
        let [
            Form {
                edn: Edn::Keyword(ident),
                ..
            },
            value,
        ] = parts
        else {
            return Err("a lookup ref is a unique attribute and a value".into());
        };
        let attribute = self
            .schema
            .attribute_by_ident(ident)
            .ok_or_else(|| self.schema.unknown(ident))?;
        if attribute.unique.is_none() {
            return Err(format!(
                "{ident} is not unique, so a lookup ref cannot name an entity by it"
            ));
        }
        let attribute = Arc::clone(attribute);
        match self.word(&attribute, value)? {
            Word::Value(value) => Ok(Place::Lookup(attribute, value)),
            Word::Ref(Place::Entid(entid)) => Ok(Place::Lookup(attribute, Value::Ref(entid))),
            Word::Ref(_) | Word::Tuple(_) => {
                Err("the value of a lookup ref must be known before".into())
            }
        }
    }

    /// The values of a map entry: several for an attribute of cardinality many.
    fn words(&mut self, attribute: &Arc<Attribute>, value: &Form) -> Refusal<Vec<Word>> {
        let many = attribute.is_many();
        match &value.edn {
            Edn::Set(items) if many => self.each(attribute, items),
            Edn::Vector(items) if many && !self.is_one_value(attribute, items) => {
                self.each(attribute, items)
            }
            Edn::Set(_) => Err(format!("{} has one value, got a set", attribute.ident)),
            _ => self.single(attribute, value),
        }
    }

    /// Whether a vector is a single value of the attribute: a lookup ref or a tuple.
    fn is_one_value(&self, attribute: &Attribute, items: &[Form]) -> bool {
        match attribute.value_type {
            ValueType::Ref => self.is_lookup(items),
            ValueType::Tuple => !items.iter().any(|item| matches!(item.edn, Edn::Vector(_))),
            _ => false,
        }
    }

    fn each(&mut self, attribute: &Arc<Attribute>, items: &[Form]) -> Refusal<Vec<Word>> {
        items
            .iter()
            .map(|item| self.word(attribute, item))
            .collect()
    }

    fn single(&mut self, attribute: &Arc<Attribute>, value: &Form) -> Refusal<Vec<Word>> {
        Ok(vec![self.word(attribute, value)?])
    }

    fn optional(&mut self, attribute: &Arc<Attribute>, value: &Form) -> Refusal<Option<Word>> {
        if value.edn == Edn::Nil {
            Ok(None)
        } else {
            self.word(attribute, value).map(Some)
        }
    }

    /// One value, read as the attribute's type.
    fn word(&mut self, attribute: &Arc<Attribute>, value: &Form) -> Refusal<Word> {
        if value.edn == Edn::Nil {
            return Err(format!(
                "nil is no value of {}; leave the attribute out",
                attribute.ident
            ));
        }
        match attribute.value_type {
            ValueType::Ref => match &value.edn {
                Edn::Map(entries) => self.map(entries).map(Word::Ref),
                _ => self
                    .place(value)
                    .map(Word::Ref)
                    .map_err(|reason| format!("{} is a reference: {reason}", attribute.ident)),
            },
            ValueType::Tuple => self.tuple(attribute, value),
            value_type => Value::from_edn(&value.edn, value_type)
                .map(Word::Value)
                .map_err(|reason| format!("{}: {reason}", attribute.ident)),
        }
    }

    fn tuple(&mut self, attribute: &Attribute, value: &Form) -> Refusal<Word> {
        let ident = &attribute.ident;
        let Edn::Vector(items) = &value.edn else {
            return Err(format!(
                "{ident}: expected a vector for a tuple, got {}",
                value.edn
            ));
        };
        let types = tuple::element_types(attribute, items.len())?;
        let mut words = Vec::with_capacity(items.len());
        for (at, (item, value_type)) in items.iter().zip(types).enumerate() {
            let word = match (&item.edn, value_type) {
                (Edn::Nil, _) => Ok(None),
                (_, ValueType::Ref) => self.place(item).map(|place| Some(Word::Ref(place))),
                (edn, _) => Value::from_edn(edn, value_type).map(|value| Some(Word::Value(value))),
            };
            words.push(word.map_err(|reason| format!("{ident}, element {at}: {reason}"))?);
        }
        if words.iter().all(Option::is_none) {
            return Err(format!("{ident}: a tuple of nothing but nil is no value"));
        }
        let unresolved =
            |word: &Word| matches!(word, Word::Ref(place) if !matches!(place, Place::Entid(_)));
        let known = words.iter().map(|word| match word {
            Some(Word::Value(value)) => Some(value.clone()),
            Some(Word::Ref(Place::Entid(entid))) => Some(Value::Ref(*entid)),
            // References take the same room whatever they refer to.
            Some(Word::Ref(_) | Word::Tuple(_)) => Some(Value::Ref(Entid::default())),
            None => None,
        });
        let known = tuple::tuple(ident, known.collect())?;
        if words.iter().flatten().any(unresolved) {
            return Ok(Word::Tuple(words));
        }
        Ok(Word::Value(known))
    }
}

fn is_keyword(edn: &Edn, text: &str) -> bool {
    matches!(edn, Edn::Keyword(keyword) if keyword.as_str() == text)
}

/// `:db.install/_attribute` and its kin, which Datomic's older files carry: accepted and inert.
fn installs(key: &Edn) -> bool {
    matches!(key, Edn::Keyword(key)
        if matches!(key.namespace(), Some("db.install" | "db.alter")) && key.name().starts_with('_'))
}

fn is_tx_name(text: &str) -> bool {
    matches!(text, "datomic.tx" | "datahike.tx" | "datomfusion.tx")
}

/// The attribute that a reverse name reverses: `:a/b` for `:a/_b`.
fn forward_of(ident: &Keyword) -> Option<Keyword> {
    let name = ident
        .name()
        .strip_prefix('_')
        .filter(|name| !name.is_empty())?;
    Some(match ident.namespace() {
        Some(namespace) => Keyword::qualified(namespace, name),
        None => Keyword::new(name),
    })
}
