//! Generated histories of two branches that merge each other, against a twin that knows neither logs nor
//! indexes: it compares three whole databases as maps of cells.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::conn::fixture::Random;
use crate::datom::Datom;

type Cell = (Entid, Entid);
type Facts = BTreeMap<Cell, BTreeSet<Value>>;

/// Two branches, and what the test knows of how their ids correspond.
struct Two {
    /// `main` and `dev`.
    lines: [Connection; 2],
    /// Ids below are the same.
    shared: Entid,
    /// The other pairs, by the id on `main`.
    pairs: BTreeMap<Entid, Entid>,
}

impl Two {
    /// An entity of line `from`, as the other line calls it.
    fn translate(&self, from: usize, e: Entid) -> Entid {
        if e < self.shared || e.is_tx() {
            return e;
        }
        let pair = if from == 0 {
            self.pairs.get(&e).copied()
        } else {
            self.pairs
                .iter()
                .find(|(_, dev)| **dev == e)
                .map(|(main, _)| *main)
        };
        pair.unwrap_or_else(|| panic!("{e} of line {from} is unknown to the other"))
    }
}

fn value(v: Value, translate: &impl Fn(Entid) -> Entid) -> Value {
    match v {
        Value::Ref(to) => Value::Ref(translate(to)),
        Value::Tuple(elements) => {
            let elements = elements.iter().cloned();
            let known = elements.map(|element| element.map(|v| value(v, translate)));
            Value::Tuple(known.collect())
        }
        v => v,
    }
}

fn facts(datoms: Vec<Datom>, translate: impl Fn(Entid) -> Entid) -> Facts {
    let mut facts = Facts::new();
    for datom in datoms.into_iter().filter(|datom| !datom.e.is_tx()) {
        facts
            .entry((translate(datom.e), translate(datom.a)))
            .or_default()
            .insert(value(datom.v, &translate));
    }
    facts
}

/// The attribute composed of `:p/age` and `:p/best`, if there is one.
fn composite(db: &Db) -> Option<Entid> {
    db.schema().entid(&Keyword::new("p/key"))
}

/// Says of every entity what its parts make.
fn compose(facts: &mut Facts, key: Entid, parts: [Entid; 2]) {
    facts.retain(|(_, a), values| *a != key && !values.is_empty());
    let entities: BTreeSet<Entid> = facts.keys().map(|(e, _)| *e).collect();
    for e in entities {
        let part = |a| {
            facts
                .get(&(e, a))
                .and_then(|values| values.first())
                .cloned()
        };
        let elements = parts.map(part);
        if elements.iter().any(Option::is_some) {
            let tuple = Value::Tuple(elements.into());
            facts.insert((e, key), BTreeSet::from([tuple]));
        }
    }
}

fn lives(facts: &Facts, e: Entid) -> bool {
    facts
        .range((e, Entid(0))..=(e, Entid(i64::MAX)))
        .next()
        .is_some()
}

/// Decides by a rule that knows nothing but the conflict.
fn rule(conflict: &Conflict) -> Resolution {
    if (conflict.e.0 + conflict.a.0) % 3 == 0 {
        Resolution::Ours
    } else {
        Resolution::Theirs
    }
}

/// The merged facts and the conflicts, from three whole databases in ids of ours.
fn twin(
    [base, ours, theirs]: [&Facts; 3],
    new: &BTreeSet<Entid>,
    is_many: impl Fn(Entid) -> bool,
    composite: Option<(Entid, [Entid; 2])>,
) -> (Facts, Vec<Conflict>) {
    let gone = |e: Entid| lives(base, e) && !lives(ours, e) && !new.contains(&e);
    let retracted = |e: Entid| lives(base, e) && !lives(theirs, e) && !new.contains(&e);
    let mut merged = ours.clone();
    let mut conflicts = Vec::new();
    let mut ask =
        |kind, (e, a): Cell, base: Option<&Value>, ours: Option<&Value>, theirs: Option<&Value>| {
            let conflict = Conflict {
                kind,
                e,
                a,
                base: base.cloned(),
                ours: ours.cloned(),
                theirs: theirs.cloned(),
            };
            let take = rule(&conflict) == Resolution::Theirs;
            conflicts.push(conflict);
            take
        };
    let cells: BTreeSet<Cell> = [base, ours, theirs]
        .iter()
        .flat_map(|f| f.keys().copied())
        .filter(|(_, a)| composite.is_none_or(|(key, _)| key != *a))
        .collect();
    for cell in cells {
        let of = |facts: &'_ Facts| facts.get(&cell).cloned().unwrap_or_default();
        let (b, o, t) = (of(base), of(ours), of(theirs));
        let to_gone = |v: &Value| matches!(v, Value::Ref(to) if gone(*to));
        let blocked = |v: &Value| gone(cell.0) || to_gone(v);
        let doomed = |v: &Value| retracted(cell.0) || matches!(v, Value::Ref(to) if retracted(*to));
        let result = merged.entry(cell).or_default();
        if is_many(cell.1) {
            for v in b.union(&o).chain(&t).collect::<BTreeSet<_>>() {
                let (in_b, in_o, in_t) = (b.contains(v), o.contains(v), t.contains(v));
                if in_t != in_b && in_t != in_o {
                    if !in_t {
                        result.remove(v);
                    } else if !blocked(v) || ask(ConflictKind::Retracted, cell, None, None, Some(v))
                    {
                        result.insert(v.clone());
                    }
                } else if in_o
                    && !in_b
                    && !in_t
                    && doomed(v)
                    && ask(ConflictKind::Retracted, cell, None, Some(v), None)
                {
                    result.remove(v);
                }
            }
            continue;
        }
        let (vb, vo, vt) = (b.first(), o.first(), t.first());
        if t != b && t != o {
            let clear = o == b && !vt.is_some_and(blocked);
            let kind = if vt.is_none() || vo.is_none() {
                ConflictKind::Retracted
            } else {
                ConflictKind::Changed
            };
            if clear || ask(kind, cell, vb, vo, vt) {
                result.clone_from(&t);
            }
        } else if let Some(v) = vo
            && o != b
            && t != o
            && doomed(v)
            && ask(ConflictKind::Retracted, cell, vb, vo, vt)
        {
            result.clone_from(&t);
        }
    }
    merged.retain(|_, values| !values.is_empty());
    if let Some((key, parts)) = composite {
        compose(&mut merged, key, parts);
    }
    (merged, conflicts)
}

async fn random_transaction(random: &mut Random, line: &Connection) {
    let name = |random: &mut Random| format!("n{}", random.below(9));
    let mut forms = Vec::new();
    let mut used = BTreeSet::new();
    for _ in 0..=random.below(3) {
        let one = name(random);
        if !used.insert(one.clone()) {
            continue;
        }
        let e = person(&line.db(), &one).await;
        match (random.below(9), e) {
            (0, Some(e)) => forms.push(format!("[:db/retractEntity {e}]")),
            (1, Some(e)) => forms.push(format!("[:db/retract {e} :p/age]")),
            (2, Some(e)) => forms.push(format!("[:db/retract {e} :p/tags :t{}]", random.below(3))),
            (3, Some(e)) => forms.push(format!("[:db/retract {e} :p/friend]")),
            (0..=4, _) => forms.push(format!("{{:p/name \"{one}\" :p/age {}}}", random.below(4))),
            (5, _) => forms.push(format!(
                "{{:p/name \"{one}\" :p/tags :t{}}}",
                random.below(3)
            )),
            (6, _) => forms.push(format!("{{:p/note \"anonymous {}\"}}", random.below(100))),
            (kind, _) => {
                let other = name(random);
                if used.insert(other.clone()) {
                    let a = if kind == 7 { "best" } else { "friend" };
                    forms.push(format!(
                        "{{:p/name \"{one}\" :p/{a} {{:p/name \"{other}\"}}}}"
                    ));
                }
            }
        }
    }
    // Two forms may contradict each other by way of references; such a transaction is not made.
    let data = TxData::parse(&format!("[{}]", forms.join(" "))).unwrap();
    _ = line.transact(&data).await;
}

/// One merge, compared with the twin. `None` if uniqueness had a say, of which the twin knows nothing.
async fn check(two: &mut Two, into: usize) -> Option<MergeOutcome> {
    let (ours, theirs) = (two.lines[into].db(), two.lines[1 - into].db());
    let strategy = MergeStrategy::Decide(Arc::new(rule));
    let report = two.lines[into].merge(&theirs, &strategy).await.unwrap();
    for (&from, &to) in &report.renumbered {
        let (main, dev) = if into == 0 { (to, from) } else { (from, to) };
        two.pairs.insert(main, dev);
    }
    let after = two.lines[into].db();
    match report.outcome {
        MergeOutcome::UpToDate => return Some(report.outcome),
        MergeOutcome::FastForward => panic!("both lines have said something"),
        MergeOutcome::Refused => panic!("nothing is refused by the rule"),
        MergeOutcome::Merged => {}
    }
    let again = two.lines[into].merge(&theirs, &strategy).await.unwrap();
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
    let unique = |(c, _): &(Conflict, Resolution)| matches!(c.kind, ConflictKind::Unique { .. });
    if report.conflicts.iter().any(unique) {
        return None;
    }
    let same = |e| e;
    let other = |e| two.translate(1 - into, e);
    let base_is_ours = ours.commit_hash(report.base.t).await.unwrap() == Some(report.base.hash);
    let line = if base_is_ours { &ours } else { &theirs };
    let base = line.as_of(TimePoint::T(report.base.t)).await.unwrap();
    let base = all(&base, Index::Eavt).await;
    // What theirs forgot before it was ever merged has no name on ours.
    let base = if base_is_ours {
        facts(base, same)
    } else {
        facts(base, other)
    };
    let before = facts(all(&ours, Index::Eavt).await, same);
    let new: BTreeSet<Entid> = report.renumbered.values().copied().collect();
    let is_many = |a| after.schema().attribute(a).is_some_and(|a| a.is_many());
    let (expected, conflicts) = twin(
        [
            &base,
            &before,
            &facts(all(&theirs, Index::Eavt).await, other),
        ],
        &new,
        is_many,
        composite(&after).map(|key| (key, ["p/age", "p/best"].map(|a| attribute(&after, a)))),
    );
    let found = facts(all(&after, Index::Eavt).await, same);
    let differs: Vec<_> = found
        .iter()
        .filter(|(c, v)| expected.get(c) != Some(v))
        .collect();
    let lacks: Vec<_> = expected
        .iter()
        .filter(|(c, v)| found.get(c) != Some(v))
        .collect();
    assert_eq!(differs, lacks);
    let key = |c: &Conflict| format!("{c:?}");
    let found: BTreeSet<_> = report.conflicts.iter().map(|(c, _)| key(c)).collect();
    assert_eq!(
        found.len(),
        report.conflicts.len(),
        "a conflict comes twice"
    );
    let expected: BTreeSet<_> = conflicts.iter().map(key).collect();
    assert_eq!(found, expected);
    Some(report.outcome)
}

#[tokio::test]
async fn generated_merges_agree_with_the_twin() {
    let (mut merged, mut skipped, mut conflicts) = (0, 0, 0);
    // The later ones have once found entities that came back, and references decided before their cells. The
    // last ones have a composite.
    for seed in (0..40).chain(1380..1401).chain(2000..2016) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let main = people(seed).await;
        if seed >= 2000 {
            let key = "[{:db/ident :p/key :db/valueType :db.type/tuple
                :db/cardinality :db.cardinality/one :db/tupleAttrs [:p/age :p/best]}]";
            transact(&main, key).await;
        }
        for _ in 0..4 {
            random_transaction(&mut random, &main).await;
        }
        let shared = main.db().0.next_entid;
        let dev = branch_off(&main, "dev").await;
        let mut two = Two {
            lines: [main, dev],
            shared,
            pairs: BTreeMap::new(),
        };
        for round in 0..12 {
            for line in 0..2 {
                // So that neither is an ancestor of the other.
                transact(
                    &two.lines[line],
                    &format!("[{{:p/note \"{seed} {round} {line}\"}}]"),
                )
                .await;
                for _ in 0..random.below(3) {
                    random_transaction(&mut random, &two.lines[line]).await;
                }
                if random.below(5) == 0 {
                    two.lines[line].checkpoint().await.unwrap();
                }
            }
            let into = usize::from(random.below(2) == 0);
            let before = two.lines[into].db();
            match check(&mut two, into).await {
                Some(_) => merged += 1,
                None => skipped += 1,
            }
            conflicts += u64::from(two.lines[into].db().basis_t() > before.basis_t());
        }
        for line in &two.lines {
            line.db().verify().await.unwrap();
            line.checkpoint().await.unwrap();
            line.db().verify().await.unwrap();
        }
    }
    assert!(
        conflicts > 0 && merged > 20 * skipped,
        "{merged} compared, {skipped} not"
    );
}
