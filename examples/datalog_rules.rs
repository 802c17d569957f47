//! A rule names what holds, and may call itself: ancestors, however far.

use datomfusion::{Connection, Inputs, Store, Term, TxData};

const SCHEMA: &str = r#"[
    {:db/ident :part/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :part/of :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]"#;

const PARTS: &str = r#"[
    {:db/id "bike" :part/name "bicycle"}
    {:db/id "cart" :part/name "cart"}
    {:db/id "wheel" :part/name "wheel" :part/of ["bike" "cart"]}
    {:db/id "spoke" :part/name "spoke" :part/of "wheel"}
    {:db/id "nipple" :part/name "nipple" :part/of "spoke"}
    {:db/id "bell" :part/name "bell" :part/of "bike"}]"#;

/// Two branches: a part of it, or a part of a part of it. The first is where the recursion ends.
const RULES: &str = r#"[
    [(within ?part ?whole) [?part :part/of ?whole]]
    [(within ?part ?whole) [?part :part/of ?middle] (within ?middle ?whole)]
    [(named ?part ?name)   [?part :part/name ?name]]]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    connection.transact(&TxData::parse(PARTS)?).await?;
    let db = connection.db();

    // % is where the rules go.
    let query = r#"[:find [?name ...]
                    :in $ % ?whole
                    :where (named ?w ?whole) (within ?p ?w) (named ?p ?name)
                    :order-by [?name :asc]]"#;
    let parts = db
        .q(query, &Inputs::new().rules(RULES).argument("bicycle"))
        .await?;
    let names = ["bell", "nipple", "spoke", "wheel"];
    assert_eq!(parts.to_term(), Term::vector(names.map(Term::from)));

    // The same rule answers the other way round: no direction is built in.
    let query = r#"[:find [?name ...]
                    :in $ % ?part
                    :where (named ?p ?part) (within ?p ?w) (named ?w ?name)
                    :order-by [?name :asc]]"#;
    let wholes = db
        .q(query, &Inputs::new().rules(RULES).argument("nipple"))
        .await?;
    let names = ["bicycle", "cart", "spoke", "wheel"];
    assert_eq!(wholes.to_term(), Term::vector(names.map(Term::from)));

    // Cycles end too: a fact that was found once is found.
    let cycle = r#"[{:part/name "bicycle" :part/of [:part/name "bell"]}]"#;
    connection.transact(&TxData::parse(cycle)?).await?;
    let query = "[:find (count ?p) . :in $ % :where (within ?p ?p)]";
    let within_itself = connection
        .db()
        .q(query, &Inputs::new().rules(RULES))
        .await?;
    println!("{} parts lie within themselves", within_itself.to_term());
    assert_eq!(within_itself.to_term(), Term::Long(2));
    Ok(())
}
