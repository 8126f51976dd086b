//! Words of a command line, as a shell makes them.
//!
//! Commands in a configuration are split here and never given to a shell, so
//! nothing in a value is expanded.

/// Words as a shell makes them: quotes, and escapes outside single quotes.
/// `None`: a quote is not closed, or nothing follows a backslash.
pub fn split(command: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = split(r#"a 'b c' "d \" e" f\ g '' "#).unwrap();
        assert_eq!(words, ["a", "b c", "d \" e", "f g", ""]);
        assert_eq!(split("'open"), None);
    }
}
