//! Lines of records in the formats that users write.

use super::form::Record;
use crate::config::log_format::Format;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tracing::Level;

fn render(format: &str) -> String {
    let moment = Timestamp::from_millisecond(1_795_208_005_007).unwrap();
    let record = Record {
        now: moment.to_zoned_datetime(TimeZone::UTC),
        level: Level::WARN,
        target: "node::dcs::etcd",
        file: "node/src/dcs/etcd.rs",
        line: 42,
        message: "it failed",
    };
    Format::read(format).render(|name| record.field(name, "NOW"))
}

#[test]
fn common_formats_are_understood() {
    assert_eq!(render("%(asctime)s %(levelname)s: %(message)s"), "NOW WARNING: it failed");
    assert_eq!(
        render("[%(levelname)-8s] %(name)s.%(module)s:%(lineno)d"),
        "[WARNING ] node.dcs.etcd.etcd:42"
    );
    assert_eq!(render("%(msecs)03d|%(levelno)5s|%(created)f"), "007|   30|1795208005.007000");
    assert_eq!(render("%(levelname).1s %(filename)s 100%%"), "W etcd.rs 100%");
    let pid = std::process::id();
    assert_eq!(render("%(process)d %(processName)s"), format!("{pid} MainProcess"));
}

#[test]
fn what_is_not_understood_stays_and_is_told() {
    assert_eq!(render("%(nonsense)s %x 5% %(message"), "%(nonsense)s %x 5% %(message");
    assert_eq!(Format::read("%(a)s %(message)s %(b)d").unknown(), ["a", "b"]);
    assert!(Format::default().unknown().is_empty());
}

proptest! {
    #[test]
    fn any_text_is_a_format(text in "[%(){}a-z .0-9\u{e9}-]{0,40}") {
        render(&text);
    }

    #[test]
    fn text_without_percent_is_itself(text in "[^%]{0,40}") {
        prop_assert_eq!(render(&text), text);
    }
}
