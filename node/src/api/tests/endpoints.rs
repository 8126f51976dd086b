//! Every row is reachable by its methods, and by no others.

use super::member::{Member, WAIT_MAX};
use super::*;
use crate::api::endpoints::{self, Access, Endpoint, find};
use reqwest::{Method, StatusCode};
use std::collections::BTreeSet;

const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::TRACE,
];

fn paths() -> BTreeSet<&'static str> {
    endpoints::all().map(|row| row.path).collect()
}

fn rows_for(path: &str, method: &Method) -> Vec<Endpoint> {
    endpoints::all().filter(|row| row.path == path && row.methods.contains(method)).collect()
}

/// What a path answers to a method that none of its rows has.
fn refused_with(path: &str, method: &Method) -> u16 {
    let is_readable = !rows_for(path, &Method::GET).is_empty();
    match *method {
        Method::HEAD | Method::OPTIONS if is_readable => 503,
        Method::GET | Method::HEAD | Method::OPTIONS => 404,
        _ => 501,
    }
}

#[test]
fn a_path_and_a_method_find_their_row_and_no_other() {
    for path in paths() {
        for method in &METHODS {
            let found = find(method, path);
            match (&rows_for(path, method)[..], found) {
                ([row], Ok(found)) => {
                    let same = (row.path, row.about) == (found.path, found.about);
                    assert!(same && found.methods.contains(method), "{method} {path}");
                }
                ([], Err(refusal)) => {
                    let code = refusal.status.as_u16();
                    assert_eq!(code, refused_with(path, method), "{method} {path}");
                }
                (rows, _) => panic!("{} rows for {method} {path}", rows.len()),
            }
        }
    }
    for method in &METHODS {
        let code = find(method, "/nonexistent").err().map(|refusal| refusal.status.as_u16());
        assert_eq!(code, Some(refused_with("/nonexistent", method)), "{method}");
    }
}

/// A caller without a password: rows for every caller answer, all others ask for it.
#[tokio::test]
async fn every_row_answers_its_callers_and_refuses_others() {
    let restapi = RestApi { authentication: Some(login()), ..RestApi::default() };
    let member = Member::start(published("n1"), primary(), restapi).await;
    member.settle(&[("n1", member.url("/patroni"))]);
    member.get("/cluster").await;
    for row in endpoints::all() {
        for method in row.methods {
            let answer = member.ask(method.clone(), row.path, None);
            let answer = tokio::time::timeout(WAIT_MAX, answer).await.expect("an answer");
            let is_asked = answer.status() == StatusCode::UNAUTHORIZED;
            let is_open = matches!(row.access, Access::Open | Access::OpenInPart);
            assert_eq!(is_asked, !is_open, "{method} {}", row.path);
            let code = answer.status().as_u16();
            // A group without regions has no document of its region.
            let is_absent = code == 404 && row.path != "/region";
            assert!(code != 501 && !is_absent, "{method} {}: {code}", row.path);
        }
    }
}

/// What changes something is never for every caller, and what every caller may ask
/// changes nothing.
#[test]
fn the_method_and_the_callers_of_a_row_agree() {
    for row in endpoints::all() {
        let is_safe = row.methods.iter().all(Method::is_safe);
        let is_open = matches!(row.access, Access::Open | Access::OpenInPart);
        assert_eq!(is_safe, is_open, "{} {:?}", row.path, row.methods);
    }
}

#[test]
fn the_page_has_a_line_for_every_row() {
    let page = endpoints::reference();
    assert_eq!(page.lines().count(), endpoints::all().count() + 2);
    assert!(page.contains("| `/failsafe` | POST | members, operators |"), "{page}");
    assert!(page.contains("| `/replica` | GET, HEAD, OPTIONS | all |"), "{page}");
}
