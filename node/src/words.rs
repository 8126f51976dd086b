//! Words of a command line, as a shell makes them.
//!
//! Commands in a configuration are split here and never given to a shell, so
//! nothing in a value is expanded.

/// What a backslash takes its meaning from between double quotes; before
/// anything else it stands for itself there.
const ESCAPED_IN_QUOTES: [char; 4] = ['$', '`', '"', '\\'];

/// Words as a shell makes them: quotes, and escapes outside single quotes.
/// `None`: a quote is not closed, or nothing follows a backslash.
pub(crate) fn split(command: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => escape(chars.next()?, quote, &mut word),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// What follows a backslash. A line that ends with one goes on in the next.
fn escape(next: char, quote: Option<char>, word: &mut Option<String>) {
    if next == '\n' {
        return;
    }
    let word = word.get_or_insert_default();
    if quote.is_some() && !ESCAPED_IN_QUOTES.contains(&next) {
        word.push('\\');
    }
    word.push(next);
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

    #[test]
    fn between_double_quotes_a_backslash_stands_for_itself_before_most() {
        let cases = [
            (r#""a\nb""#, r"a\nb"),
            (r#""\$HOME \`x\` \" \\""#, r#"$HOME `x` " \"#),
            (r#""\d+\.\w""#, r"\d+\.\w"),
            (r"'a\nb'", r"a\nb"),
            (r"a\nb", "anb"),
            ("\"one \\\ntwo\"", "one two"),
        ];
        for (text, wanted) in cases {
            assert_eq!(split(text).unwrap(), [wanted], "{text}");
        }
        assert_eq!(split("\"open\\"), None);
        assert_eq!(split("a \\\nb").unwrap(), ["a", "b"]);
    }
}
