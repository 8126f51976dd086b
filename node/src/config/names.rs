//! Names that PostgreSQL cannot take as they are: of the member, of the scope, of
//! permanent slots.
//!
//! Files with such names have run for years, so a start only warns; a check that
//! an operator asks for reports them.

use super::document::Document;
use crate::document::findings::Findings;
use standby::sync::never_synchronous;
use topology::MemberName;
use topology::id::NAME_BYTES_MAX;

pub(super) fn check(document: Document, findings: &mut Findings) {
    check_member(document, findings);
    let scope = document.text_or_empty("scope");
    if scope.len() > NAME_BYTES_MAX {
        let what = format!("is longer than {NAME_BYTES_MAX} bytes: cluster_name is cut off");
        tell(findings, "scope", &what, "write a shorter one, if the cluster is new");
    }
    for section in ["slots", "permanent_slots", "permanent_replication_slots"] {
        let path = format!("bootstrap.dcs.{section}");
        let slots = document.at(&path).and_then(|slots| slots.as_object());
        for name in slots.into_iter().flat_map(|slots| slots.keys()) {
            if !is_slot_name(name) {
                let what = format!("PostgreSQL takes no slot with the name `{name}`");
                let remedy = format!("use a-z, 0-9 and _, at most {NAME_BYTES_MAX} of them");
                tell(findings, &path, &what, &remedy);
            }
        }
    }
}

fn check_member(document: Document, findings: &mut Findings) {
    let name = document.text_or_empty("name");
    let why = never_synchronous(&MemberName::new(&name)).filter(|_| !name.is_empty());
    if let Some(why) = why {
        let what = format!("this member never becomes a synchronous standby: {why}");
        tell(findings, "name", &what, "give the member another name, or set the tag nosync");
    }
    if name.chars().count() > NAME_BYTES_MAX {
        let what = format!(
            "is longer than {NAME_BYTES_MAX} characters: its slot is the same as that of a \
             member whose name begins alike"
        );
        tell(findings, "name", &what, "give the member a shorter name");
    }
}

fn tell(findings: &mut Findings, path: &str, what: &str, remedy: &str) {
    match findings.are_strict() {
        true => findings.add(path, what, remedy),
        false => findings.warn(format!("{path}: {what}; {remedy}")),
    }
}

fn is_slot_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::{Value, json};

    fn warned(document: Value) -> Vec<String> {
        let mut findings = Findings::default();
        check(whole_of(&document), &mut findings);
        assert!(findings.is_empty(), "a start goes on: {findings}");
        let mut strict = Findings::strict();
        check(whole_of(&document), &mut strict);
        assert_eq!(strict.iter().count(), findings.warnings().len());
        findings.warnings().to_vec()
    }

    #[test]
    fn p8_a_name_that_postgresql_cuts_off_is_named_with_what_it_means() {
        let long = "n".repeat(64);
        let told = warned(json!({"name": long}));
        assert!(told[0].starts_with("name: this member never becomes a synchronous standby:"));
        assert!(told[0].contains("longer than 63 bytes"), "{told:?}");
        assert!(told[1].contains("its slot is the same"), "{told:?}");
        assert_eq!(warned(json!({"name": "n".repeat(63), "scope": "s".repeat(63)})), [""; 0]);
        for name in ["n\u{e9}", "a,b", " n1", "*"] {
            assert_eq!(warned(json!({"name": name})).len(), 1, "{name}");
        }
        let told = warned(json!({"name": "n1", "scope": "s".repeat(64)}));
        assert!(told[0].starts_with("scope: is longer than 63 bytes"), "{told:?}");
    }

    #[test]
    fn p8_a_slot_that_cannot_be_is_named() {
        let told = warned(json!({"bootstrap": {"dcs": {"slots": {
            "good_1": {}, "Bad-1": {}, "x".repeat(64): null,
        }}}}));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("no slot with the name `Bad-1`"), "{told:?}");
    }
}
