//! A store behind a web server: what is asked of it, and what it may get wrong.

use super::chain;
use super::server::{Web, answer};
use crate::error::Error;
use crate::id::{BranchName, PackId};
use crate::store::{FrameKind, PackWriter, Store};

fn frames() -> (PackWriter, Vec<crate::Location>) {
    let mut writer = PackWriter::new(PackId([7; 16]));
    let locations = (0..20u8)
        .map(|n| writer.append(FrameKind::Leaf, 0, crate::NodeId::of(&[n]), &[n; 50]))
        .collect();
    (writer, locations)
}

#[tokio::test]
async fn a_server_without_ranges_and_tags_serves_what_it_has() {
    let (writer, locations) = frames();
    let (id, body) = (writer.id(), writer.finish());
    let sent = body.clone();
    let web = Web::serve(move |asked| match &*asked.path {
        "/heads/main" => answer("200 OK", &[], b"head"),
        path if path.starts_with("/packs/") => answer("200 OK", &[], &sent),
        _ => answer("404 Not Found", &[], b"gone"),
    });
    let store = Store::open_url(&web.url()).unwrap();
    let (head, version) = store.head(&BranchName::default()).await.unwrap().unwrap();
    assert_eq!(head, "head");
    let again = store
        .head_if_changed(&BranchName::default(), &version)
        .await;
    assert_eq!(again.unwrap(), None);
    let other = BranchName::try_new("other").unwrap();
    assert!(store.head(&other).await.unwrap().is_none());
    assert_eq!(store.read_pack(id).await.unwrap(), body);
    for (n, location) in (0u8..).zip(&locations) {
        assert_eq!(store.read(*location).await.unwrap(), vec![n; 50]);
    }
    let footer = crate::read_footer(&store, id).await.unwrap();
    assert_eq!(footer.entries().len(), locations.len());
}

#[tokio::test]
async fn a_server_that_refuses_fails_or_lies_is_found_out() {
    let (writer, locations) = frames();
    let (id, body) = (writer.id(), writer.finish());
    // An error of its own, a login page under any name, half of an object, less than what was asked for.
    let half = body.slice(..body.len() / 2);
    for (status, headers, sent, words) in [
        ("403 Forbidden", vec![], &b"<html>no"[..], "403 Forbidden"),
        ("302 Found", vec![("Location", "/login")], b"", "redirect"),
        ("200 OK", vec![], b"<html>log in", "are there"),
        ("200 OK", vec![], &half, "are there"),
        (
            "206 Partial Content",
            vec![("Content-Range", "bytes 0-9/10")],
            b"0123456789",
            "",
        ),
        ("206 Partial Content", vec![], b"0123456789", ""),
        ("200 OK", vec![("ETag", "\u{1}")], b"", ""),
    ] {
        let said = answer(status, &headers, sent);
        let web = Web::serve(move |_| said.clone());
        let store = Store::open_url(&web.url()).unwrap();
        let error = store.read(locations[19]).await.unwrap_err();
        let said = chain(&error);
        assert!(
            said.to_lowercase().contains(&words.to_lowercase()),
            "{status}: {said}"
        );
        assert!(!said.contains("<html>"), "{said}");
        assert!(crate::read_footer(&store, id).await.is_err(), "{status}");
    }
    // No answer at all, and one that is no HTTP.
    for said in [&b""[..], b"garbage\r\n\r\n"] {
        let web = Web::serve(move |_| said.to_vec());
        let store = Store::open_url(&web.url()).unwrap();
        let bound = std::time::Duration::from_mins(1);
        let found = tokio::time::timeout(bound, store.read_pack(id)).await;
        let error = found.expect("it hangs").unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn listing_is_refused_without_asking() {
    let web = Web::serve(|_| answer("501 Not Implemented", &[], b""));
    let store = Store::open_url(&web.url()).unwrap();
    for error in [
        store.list_branches().await.unwrap_err(),
        store.list_packs().await.unwrap_err(),
        store.list_notes().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("does not say what it holds"), "{said}");
    }
    assert_eq!(web.asked().len(), 0);
}
