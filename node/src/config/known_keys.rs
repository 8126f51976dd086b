//! The keys that the table of settings knows, and the one that was probably meant.

use super::settings;
use crate::dcs::settings::OTHER_SECTIONS;
use std::collections::BTreeSet;
use strsim::levenshtein;

/// The known keys of a section; none when it is no section.
pub(super) fn children(section: &str) -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = settings::all_paths()
        .filter_map(|(path, _)| {
            let rest = if section.is_empty() {
                path.as_str()
            } else {
                path.strip_prefix(section)?.strip_prefix('.')?
            };
            rest.split('.').next().map(str::to_string)
        })
        .collect();
    if section.is_empty() {
        keys.extend(OTHER_SECTIONS.map(str::to_string));
    }
    keys
}

/// The known key within two edits, if that is less than half of the word.
pub(super) fn nearest<'a>(
    key: &str,
    known: impl IntoIterator<Item = &'a String>,
) -> Option<&'a str> {
    const EDITS_MAX: usize = 2;
    let near = known.into_iter().map(|word| (levenshtein(key, word), word));
    let close = near.filter(|(edits, word)| *edits <= EDITS_MAX && edits * 2 < word.len());
    close.min_by_key(|(edits, _)| *edits).map(|(_, word)| word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_up_to_two_typing_errors_is_found() {
        let known = ["listen".to_string(), "ttl".to_string()];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("lsten2", &known), Some("listen"));
        assert_eq!(nearest("lostxn3", &known), None);
        assert_eq!(nearest("tlt", &known), None, "most of a short word would be wrong");
    }
}
