//! Keys that stand in the wrong section, and where they belong.
//!
//! Other programs may keep keys of their own in most sections, so an unknown key
//! alone is no mistake there. One that is known in another section is: it has no
//! effect where it stands.

use super::known_keys::children;

const DCS: &str = "bootstrap.dcs";
const DCS_POSTGRESQL: &str = "bootstrap.dcs.postgresql";
/// Means something in `/config` too.
const EVERYWHERE: &str = "citus";

const BELOW_DCS: &str = "write it below bootstrap.dcs, or use edit-config";
pub(super) const BELOW_POSTGRESQL: &str = "write it below postgresql";
const BELOW_BOOTSTRAP: &str = "write it below bootstrap in the file of each member";
const BELOW_TAGS: &str = "write it below tags";
const OF_EACH_MEMBER: &str = "write it into the file of each member";

/// Where a key stands, the section that knows it, and what to do. The first row
/// that matches counts. Keys of `/config` are those of `bootstrap.dcs`.
const ROWS: [(&str, &str, &str); 14] = [
    ("", DCS, BELOW_DCS),
    ("", "postgresql", BELOW_POSTGRESQL),
    ("", "bootstrap", BELOW_BOOTSTRAP),
    ("", "tags", BELOW_TAGS),
    ("bootstrap", DCS, BELOW_DCS),
    ("bootstrap", "postgresql", BELOW_POSTGRESQL),
    ("postgresql", DCS, BELOW_DCS),
    ("postgresql", "bootstrap", BELOW_BOOTSTRAP),
    ("postgresql", "tags", BELOW_TAGS),
    // Names of whole sections before keys that have the same name.
    (DCS, "", OF_EACH_MEMBER),
    (DCS, "postgresql", BELOW_POSTGRESQL),
    (DCS, "bootstrap", BELOW_BOOTSTRAP),
    (DCS_POSTGRESQL, DCS, "write it beside postgresql, one level higher"),
    (DCS_POSTGRESQL, "bootstrap", BELOW_BOOTSTRAP),
];

/// What to do with a key that its own section does not know and another one does.
pub(super) fn remedy(section: &str, key: &str) -> Option<&'static str> {
    let rows = ROWS.iter().filter(|(stands, ..)| *stands == section && key != EVERYWHERE);
    let mut known = rows.filter(|(_, place, _)| children(place).contains(key));
    known.next().map(|(.., remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_a_key_in_the_wrong_place_has_a_right_one() {
        for (section, key, wanted) in [
            ("", "ttl", BELOW_DCS),
            ("", "nofailover", BELOW_TAGS),
            ("bootstrap", "synchronous_mode", BELOW_DCS),
            ("postgresql", "initdb", BELOW_BOOTSTRAP),
            (DCS, "pg_hba", BELOW_POSTGRESQL),
            (DCS, "parameters", BELOW_POSTGRESQL),
            (DCS, "name", OF_EACH_MEMBER),
            (DCS, "restapi", OF_EACH_MEMBER),
            (DCS, "initdb", BELOW_BOOTSTRAP),
            (
                DCS_POSTGRESQL,
                "maximum_lag_on_failover",
                "write it beside postgresql, one level higher",
            ),
        ] {
            assert_eq!(remedy(section, key), Some(wanted), "{section} {key}");
        }
        for (section, key) in [("tags", "ttl"), (DCS, "citus"), ("", "x-mine"), ("log", "ttl")] {
            assert_eq!(remedy(section, key), None, "{section} {key}");
        }
    }
}
