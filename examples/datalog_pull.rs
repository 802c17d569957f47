//! A pull pattern is the shape of the answer: entities as maps, as deep as you ask.

use datomfusion::edn::Keyword;
use datomfusion::{Connection, Inputs, LookupRef, Store, TxData, Value};

const SCHEMA: &str = r#"[
    {:db/ident :album/title :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :album/tracks :db/valueType :db.type/ref :db/cardinality :db.cardinality/many
     :db/isComponent true}
    {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :track/seconds :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :member/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :member/played-on :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]"#;

const ALBUM: &str = r#"[
    {:db/id "album" :album/title "Kind of Blue"
     :album/tracks [{:track/name "So What" :track/seconds 562} {:track/name "Blue in Green"}]}
    {:member/name "Miles Davis" :member/played-on "album"}
    {:member/name "Bill Evans" :member/played-on "album"}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    connection.transact(&TxData::parse(ALBUM)?).await?;
    let db = connection.db();
    let album = LookupRef {
        attribute: Keyword::new("album/title"),
        value: Value::String("Kind of Blue".into()),
    };

    // A map in a pattern follows a reference; what an entity lacks is left out, or has a default.
    let pattern = "[:album/title {:album/tracks [:track/name (:track/seconds :default 0)]}]";
    let pulled = db.pull(pattern, album.clone()).await?.to_string();
    println!("{pulled}");
    assert!(pulled.starts_with(r#"{:album/title "Kind of Blue", :album/tracks [{"#));
    assert!(pulled.contains(r#"{:track/name "So What", :track/seconds 562}"#));
    assert!(pulled.contains(r#"{:track/name "Blue in Green", :track/seconds 0}"#));

    // An underscore follows it backwards; :as renames.
    let pattern = "[{[:member/_played-on :as :players] [:member/name]}]";
    let players = db.pull(pattern, album).await?.to_string();
    println!("{players}");
    assert_eq!(players.matches(":member/name").count(), 2);
    assert!(players.starts_with("{:players ["));

    // In a query, what is found is pulled; all entities of an answer at the cost of one.
    let query = r#"[:find [(pull ?m [:member/name {:member/played-on [:album/title]}]) ...]
                    :in $ ?who
                    :where [?m :member/name ?who]]"#;
    let found = db.q(query, &Inputs::new().argument("Bill Evans")).await?;
    assert_eq!(
        found.to_term().to_string(),
        r#"[{:member/name "Bill Evans", :member/played-on [{:album/title "Kind of Blue"}]}]"#
    );

    // Nobody of that name: nothing, and no error.
    let nobody = LookupRef {
        attribute: Keyword::new("album/title"),
        value: Value::String("Kind of Green".into()),
    };
    assert_eq!(db.pull("[*]", nobody).await?.to_string(), "nil");
    Ok(())
}
