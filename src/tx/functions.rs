//! What a program lends to transactions: functions that say forms, and predicates that judge what is said.
//!
//! The database stores names; the code behind them is registered with each process that writes. A name
//! without code refuses the transaction, so that no writer can pass over a rule that it does not know.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use datomfusion_datalog::edn::{Edn, Form, Symbol};
use futures::future::{BoxFuture, FutureExt};

use super::data::{BUILT_IN, TxData, refused};
use crate::datom::Entid;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::schema::near;
use crate::value::{Value, excerpt};

/// Calls inside calls, at most.
const DEPTH_MAX: usize = 32;

type Function = Arc<dyn Fn(Db, Vec<Edn>) -> BoxFuture<'static, Result<TxData>> + Send + Sync>;
type AttributePredicate = Arc<dyn Fn(&Value) -> bool + Send + Sync>;
type EntityPredicate = Arc<dyn Fn(Db, Entid) -> BoxFuture<'static, Result<bool>> + Send + Sync>;

/// Transaction functions and predicates, by name. Clones are cheap.
///
/// A connection takes one with [`Connection::with_functions`](crate::Connection::with_functions), a
/// speculation with [`Db::with_using`].
///
/// # Examples
///
/// ```
/// use datomfusion::{TransactionFunctions, TxData, Value};
///
/// let mut functions = TransactionFunctions::new();
/// functions
///     // Called in transaction data as [:account/open "Ada"].
///     .register("account/open", |_db_before, arguments| async move {
///         TxData::parse(&format!("[{{:account/owner {} :account/balance 0}}]", arguments[0]))
///     })
///     // Named by an attribute: {:db/ident :account/balance :db.attr/preds account/covered? …}.
///     .register_attribute_predicate("account/covered?", |value| *value >= Value::Long(0));
/// ```
#[derive(Clone, Default)]
pub struct TransactionFunctions(Arc<Registry>);

#[derive(Clone, Default)]
struct Registry {
    functions: BTreeMap<Box<str>, Function>,
    attribute_predicates: BTreeMap<Box<str>, AttributePredicate>,
    entity_predicates: BTreeMap<Box<str>, EntityPredicate>,
}

impl TransactionFunctions {
    /// No functions and no predicates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a transaction function: `[:name argument …]` stands for the forms that it answers.
    ///
    /// It sees the value before the transaction and its arguments as they were written. Its forms may call
    /// functions again, up to 32 deep, and share temporary ids with the rest of the transaction. It runs
    /// anew if another writer was first, so it must do nothing but read. Answering [`Error::Invalid`]
    /// refuses the transaction.
    pub fn register<F, Answer>(&mut self, name: &str, function: F) -> &mut Self
    where
        F: Fn(Db, Vec<Edn>) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<TxData>> + Send + 'static,
    {
        let function: Function = Arc::new(move |db, arguments| function(db, arguments).boxed());
        let registry = Arc::make_mut(&mut self.0);
        registry.functions.insert(name.into(), function);
        self
    }

    /// Registers a predicate that attributes name in `:db.attr/preds`.
    ///
    /// It judges every value that a transaction or an import asserts from then on; what was there before
    /// is not judged again.
    pub fn register_attribute_predicate(
        &mut self,
        name: &str,
        predicate: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        let registry = Arc::make_mut(&mut self.0);
        let predicate: AttributePredicate = Arc::new(predicate);
        registry.attribute_predicates.insert(name.into(), predicate);
        self
    }

    /// Registers a predicate that specs name in `:db.entity/preds`: it sees the value after the
    /// transaction and the entity that says `:db/ensure`.
    pub fn register_entity_predicate<F, Answer>(&mut self, name: &str, predicate: F) -> &mut Self
    where
        F: Fn(Db, Entid) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<bool>> + Send + 'static,
    {
        let predicate: EntityPredicate = Arc::new(move |db, e| predicate(db, e).boxed());
        let registry = Arc::make_mut(&mut self.0);
        registry.entity_predicates.insert(name.into(), predicate);
        self
    }

    /// Judges a value.
    ///
    /// # Errors
    ///
    /// Why it cannot be said, or that nobody registered the predicate.
    pub(super) fn judge_value(&self, name: &Symbol, value: &Value) -> Result<(), String> {
        let known = &self.0.attribute_predicates;
        let predicate = known
            .get(name.as_str())
            .ok_or_else(|| unregistered("attribute", name, known.keys()))?;
        if predicate(value) {
            return Ok(());
        }
        Err(format!("{name} refuses {}", excerpt(&value.to_edn())))
    }

    /// Judges an entity; the reason if it is refused.
    pub(super) async fn judge_entity(
        &self,
        name: &Symbol,
        db_after: &Db,
        e: Entid,
    ) -> Result<Result<(), String>> {
        let known = &self.0.entity_predicates;
        let Some(predicate) = known.get(name.as_str()) else {
            return Ok(Err(unregistered("entity", name, known.keys())));
        };
        Ok(match predicate(db_after.clone(), e).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{name} refuses it")),
            Err(Error::Invalid(reason)) => Err(format!("{name} refuses it: {reason}")),
            Err(error) => return Err(error),
        })
    }
}

impl fmt::Debug for TransactionFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = &*self.0;
        f.debug_struct("TransactionFunctions")
            .field("functions", &registry.functions.keys())
            .field(
                "attribute_predicates",
                &registry.attribute_predicates.keys(),
            )
            .field("entity_predicates", &registry.entity_predicates.keys())
            .finish()
    }
}

/// The message for a predicate without code.
fn unregistered<'a>(
    kind: &str,
    name: &Symbol,
    known: impl Iterator<Item = &'a Box<str>>,
) -> String {
    format!(
        "{kind} predicate {name} is not registered here{}; register it with \
         TransactionFunctions::register_{kind}_predicate and Connection::with_functions",
        did_you_mean(name.as_str(), known.map(|name| &**name), "")
    )
}

fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>, sigil: &str) -> String {
    let near: Vec<_> = near(name, known)
        .iter()
        .map(|name| format!("{sigil}{name}"))
        .collect();
    if near.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", near.join(" or "))
}

/// A form of a transaction, and the top-level form that it is or that led to it.
pub(super) type Expanded<'a> = (Cow<'a, Form>, usize);

/// Puts what functions answer in the place of their calls.
pub(super) async fn expand<'a>(
    db: &Db,
    data: &'a TxData,
    functions: &TransactionFunctions,
) -> Result<Vec<Expanded<'a>>> {
    let mut expanded = Vec::with_capacity(data.forms().len());
    for (at, form) in data.forms().iter().enumerate() {
        let mut open = vec![(Cow::Borrowed(form), 0)];
        while let Some((form, depth)) = open.pop() {
            let refuse = |reason: String| refused(data, at, reason);
            let form = direct(form).map_err(refuse)?;
            let Some((name, arguments)) = call(&form) else {
                expanded.push((form, at));
                continue;
            };
            let known = &functions.0.functions;
            let Some(function) = known.get(name) else {
                return Err(refuse(unknown(name, known.keys())));
            };
            if depth == DEPTH_MAX {
                return Err(refuse(format!(
                    "functions call functions more than {DEPTH_MAX} deep, the last :{name}"
                )));
            }
            let arguments = arguments.iter().map(|form| form.edn.clone()).collect();
            let answer = match function(db.clone(), arguments).await {
                Ok(answer) => answer,
                Err(Error::Invalid(reason) | Error::Transaction { reason, .. }) => {
                    return Err(refuse(format!(":{name} refuses: {reason}")));
                }
                Err(error) => return Err(error),
            };
            let forms = answer.forms().iter().rev();
            open.extend(forms.map(|form| (Cow::Owned(form.clone()), depth + 1)));
        }
    }
    Ok(expanded)
}

/// `[:db.fn/call name argument …]` as `[name argument …]`; other forms as they are.
fn direct(form: Cow<'_, Form>) -> Result<Cow<'_, Form>, String> {
    let (Edn::Vector(parts) | Edn::List(parts)) = &form.edn else {
        return Ok(form);
    };
    match &parts[..] {
        [first, call @ ..] if name_of(first) == Some("db.fn/call") => {
            if call.first().and_then(name_of).is_none() {
                return Err("expected [:db.fn/call name argument …]".into());
            }
            Ok(Cow::Owned(Form {
                edn: Edn::Vector(call.to_vec()),
                span: form.span,
            }))
        }
        _ => Ok(form),
    }
}

/// The function that a form calls, and its arguments; `None` if the form is no call.
fn call(form: &Form) -> Option<(&str, &[Form])> {
    let (Edn::Vector(parts) | Edn::List(parts)) = &form.edn else {
        return None;
    };
    let (name, arguments) = parts.split_first()?;
    let name = name_of(name).filter(|name| !BUILT_IN.contains(name))?;
    Some((name, arguments))
}

fn name_of(form: &Form) -> Option<&str> {
    match &form.edn {
        Edn::Keyword(name) => Some(name.as_str()),
        Edn::Symbol(name) => Some(name.as_str()),
        _ => None,
    }
}

/// The message for a call of nothing.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a Box<str>> + Clone) -> String {
    let all = known.map(|name| &**name).chain(BUILT_IN);
    format!(
        "there is no operation :{name}{}; there are :db/add, :db/retract, :db/retractEntity, :db/cas and \
         what TransactionFunctions::register has named",
        did_you_mean(name, all, ":")
    )
}
