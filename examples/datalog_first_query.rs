//! A query says what must hold, and a variable that stands twice joins.

use datomfusion::{Connection, Inputs, Store, Term, TxData};

const SCHEMA: &str = r#"[
    {:db/ident :book/title :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :book/year :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :book/author :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
    {:db/ident :author/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}]"#;

const BOOKS: &str = r#"[
    {:db/id "pratchett" :author/name "Terry Pratchett"}
    {:db/id "gaiman" :author/name "Neil Gaiman"}
    {:book/title "Good Omens" :book/year 1990 :book/author ["pratchett" "gaiman"]}
    {:book/title "Small Gods" :book/year 1992 :book/author "pratchett"}
    {:book/title "Coraline" :book/year 2002 :book/author "gaiman"}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    connection.transact(&TxData::parse(BOOKS)?).await?;
    let db = connection.db();

    // Three patterns, [entity attribute value]. ?book and ?author stand in two of them: those are joins.
    let query = r#"[:find ?title ?year
                    :in $ ?name
                    :where [?author :author/name ?name]
                           [?book :book/author ?author]
                           [?book :book/title ?title]
                           [?book :book/year ?year]
                           [(< ?year 2000)]]"#;
    let answer = db.q(query, &Inputs::new().argument("Neil Gaiman")).await?;
    let row = [Term::from("Good Omens"), Term::Long(1990)];
    assert_eq!(answer.rows(), [row]);

    // The shape of :find is the shape of the answer. A dot asks for one value, three for a collection.
    let query = "[:find (count ?book) . :where [?book :book/title]]";
    let count = db.q(query, &Inputs::new()).await?;
    assert_eq!(count.to_term(), Term::Long(3));
    let query = r#"[:find [?title ...] :where [?book :book/title ?title]
                                              (not [?book :book/author [:author/name "Neil Gaiman"]])]"#;
    let titles = db.q(query, &Inputs::new()).await?;
    assert_eq!(titles.to_term(), Term::vector([Term::from("Small Gods")]));

    // What is aggregated is a set. :with keeps two books of one year apart, and :keys makes maps of rows.
    let query = r#"[:find ?name (count ?book) (min ?year)
                    :keys name books first
                    :where [?book :book/author ?author] [?author :author/name ?name]
                           [?book :book/year ?year]
                    :order-by [?name :asc]]"#;
    let authors = db.q(query, &Inputs::new()).await?.to_term();
    println!("{authors}");
    assert_eq!(
        authors.to_string(),
        r#"[{:books 2, :first 1990, :name "Neil Gaiman"} {:books 2, :first 1990, :name "Terry Pratchett"}]"#
    );

    // A mistake is quoted and underlined.
    let query = "[:find ?title :where [?book :book/title ?titel]]";
    let error = db
        .q(query, &Inputs::new())
        .await
        .expect_err("?title is bound nowhere");
    println!("{error}");
    assert!(error.to_string().contains("^^^^^^"));
    Ok(())
}
