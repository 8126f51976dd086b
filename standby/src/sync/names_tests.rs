//! What `synchronous_standby_names` may look like.

use super::*;
use proptest::prelude::*;

fn set(names: &[&str]) -> NameSet {
    names.iter().map(|name| MemberName::from(*name)).collect()
}

#[test]
fn every_form_that_postgresql_takes_is_read() {
    use Method::{Priority, Quorum};
    let cases: [(&str, Method, u64, &[&str]); 16] = [
        ("a", Priority, 1, &["a"]),
        ("b, a", Priority, 1, &["a", "b"]),
        ("2 (a,b)", Priority, 2, &["a", "b"]),
        ("FIRST 1 (a,b)", Priority, 1, &["a", "b"]),
        ("first\t3(a , b)", Priority, 3, &["a", "b"]),
        ("ANY 1 (\"node-1\",n2)", Quorum, 1, &["n2", "node-1"]),
        ("any 02 (a,b)", Quorum, 2, &["a", "b"]),
        ("\"a\"\"b\"", Priority, 1, &["a\"b"]),
        ("\"first\", \"ANY\"", Priority, 1, &["ANY", "first"]),
        ("a,A", Priority, 1, &["a"]),
        ("1,x", Priority, 1, &["1", "x"]),
        ("x$1,\u{e9}t\u{e9}", Priority, 1, &["x$1", "\u{e9}t\u{e9}"]),
        ("*", Priority, 1, &[]),
        ("ANY 1 (*)", Quorum, 1, &[]),
        ("ANY 2 (a,*)", Quorum, 2, &[]),
        ("\"*\",a", Priority, 1, &[]),
    ];
    for (text, method, count, names) in cases {
        let names = names.iter().map(|n| MemberName::from(*n)).collect();
        assert_eq!(Names::parse(text), Names { method, count, names }, "{text}");
    }
}

#[test]
fn what_postgresql_refuses_names_no_standby() {
    for text in [
        "",
        " ",
        ",",
        "a,",
        "a b",
        "0 (a)",
        "ANY 0 (a)",
        "ANY (a)",
        "ANY 1 a",
        "FIRST",
        "any",
        "1 ()",
        "1 (a",
        "1 a)",
        "a-b",
        "\"a",
        "2147483648 (a)",
        "99999999999999999999 (a)",
        "1 (a) b",
        "first,a",
        "1 (any)",
        "((a))",
        "'a'",
        "-1 (a)",
    ] {
        assert_eq!(Names::parse(text), Names::none(), "{text}");
    }
}

#[test]
fn names_are_written_sorted_and_quoted_where_they_must_be() {
    let waits_for_any = format!("ANY 1 ({PLACEHOLDER})");
    let cases = [
        (Names::none(), ""),
        (Names::placeholder(SyncMode::On), PLACEHOLDER),
        (Names::all(&set(&["n2"]), 0), "n2"),
        (Names::all(&set(&["n3", "n2"]), 0), "2 (n2,n3)"),
        (Names::all(&set(&[]), 0), ""),
        (Names::all(&set(&[]), 1), PLACEHOLDER),
        (Names::any(1, &set(&["n2", "node-1"])), "ANY 1 (\"node-1\",n2)"),
        (Names::any(1, &set(&["b", "a", "A"])), "ANY 1 (a,b)"),
        (Names::any(1, &set(&["a"])), "ANY 1 (a)"),
        (Names::any(1, &set(&[])), &waits_for_any),
        (Names::placeholder(SyncMode::Quorum), &waits_for_any),
        (Names::any(0, &set(&["a"])), ""),
        (Names::all(&set(&["First"]), 0), "\"First\""),
        (Names::all(&set(&["1a"]), 0), "\"1a\""),
        (Names::all(&set(&["a\"b"]), 0), "\"a\"\"b\""),
        (Names::all(&set(&["_a$1"]), 0), "_a$1"),
        (Names::all(&set(&["\u{e9}"]), 0), "\"\u{e9}\""),
    ];
    for (names, text) in cases {
        assert_eq!(names.write(), text);
    }
}

#[test]
fn the_placeholder_is_no_standby_with_a_count() {
    let placeholder = Names::placeholder(SyncMode::On);
    assert_eq!(Names::parse(PLACEHOLDER), placeholder);
    assert_eq!(Names::parse("*"), placeholder);
    let beside = Names::parse(&format!("ANY 1 (a,{PLACEHOLDER})"));
    assert_eq!(beside.set(), set(&["a"]));
    assert_eq!((placeholder.promised(), placeholder.required().len()), (0, 0));
}

#[test]
fn b3_quorum_mode_writes_the_placeholder_in_its_own_form() {
    let none = Names::placeholder(SyncMode::Quorum);
    assert_eq!(none.write(), format!("ANY 1 ({PLACEHOLDER})"));
    assert_eq!(Names::parse(&none.write()), none);
    assert!(!none.is_same(&Names::placeholder(SyncMode::On)), "it is written again");
    assert_eq!((none.promised(), none.required().len()), (0, 0));
    // What another program wrote keeps its count.
    assert_eq!(Names::parse("2 (*)").write(), format!("2 ({PLACEHOLDER})"));
}

#[test]
fn p8_a_name_that_a_standby_cannot_say_of_itself_is_never_waited_for() {
    let can = |text: &str| can_be_named(&MemberName::from(text));
    assert!(can("n1") && can("node 1") && can("a\"b") && can(&"n".repeat(63)));
    for text in ["", "*", PLACEHOLDER, "a,b", " a", "a ", "n\u{e9}", "a\tb", &"n".repeat(64)] {
        assert!(!can(text), "{text}");
    }
}

#[test]
fn only_who_must_have_all_is_required() {
    assert_eq!(Names::parse("2 (a,b)").required(), set(&["a", "b"]));
    assert!(Names::parse("a,b").required().is_empty());
    assert!(Names::parse("ANY 1 (a,b)").required().is_empty());
    assert_eq!(Names::parse("ANY 3 (a,b)").promised(), 2);
    assert!(Names::parse("FIRST 1 (A)").is_same(&Names::parse("a")));
    assert!(!Names::parse("ANY 1 (a)").is_same(&Names::parse("a")));
}

fn any_names() -> impl Strategy<Value = Names> {
    let name = prop_oneof![
        "[a-zA-Z_][a-zA-Z0-9_$]{0,5}",
        "[ -~]{1,6}",
        Just("FIRST".to_string()),
        Just("any".to_string()),
        Just("\u{e9}\"*".to_string()),
    ];
    (any::<bool>(), 1u64..5, prop::collection::vec(name, 0..5)).prop_map(|(any, count, names)| {
        let set: NameSet = names.into_iter().map(MemberName::new).filter(can_be_named).collect();
        if any { Names::any(count, &set) } else { Names::all(&set, count) }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(names in any_names()) {
        prop_assert_eq!(Names::parse(&names.write()), names);
    }

    #[test]
    fn no_text_makes_the_reader_fail(text in "\\PC{0,40}") {
        Names::parse(&text);
    }

    /// Whatever is read is written in a form that means the same.
    #[test]
    fn what_is_read_keeps_its_meaning(text in "(ANY|FIRST|1|2|\\(|\\)|,| |a|B|\\*|\"x y\"){0,9}") {
        let names = Names::parse(&text);
        let again = Names::parse(&names.write());
        prop_assert_eq!(names.set(), again.set());
        prop_assert_eq!(names.count, again.count);
    }
}
