//! Quoted texts that go on at the left edge.
//!
//! PyYAML lets a quoted text continue with less indentation than its map has,
//! and people paste certificates and commands so. The parser here follows the
//! standard and refuses it. Blanks before a continued line mean nothing inside
//! quotes, so the lines are indented and the text is read again.

/// Quoted texts of one configuration that are mended.
const MENDED_MAX: usize = 1_000;
const REFUSAL: &str = "invalid indentation in quoted scalar";

/// A text and how often it was mended.
pub(super) struct Mended {
    pub text: String,
    mended: usize,
}

impl Mended {
    pub fn new(text: &str) -> Mended {
        Mended { text: text.to_string(), mended: 0 }
    }

    /// Indents the quoted text that begins at this character (from 0) and column,
    /// if that is what the parser did not like. `false`: it is not.
    pub fn indent(&mut self, refusal: &str, index: usize, column: usize) -> bool {
        if refusal != REFUSAL || self.mended == MENDED_MAX {
            return false;
        }
        self.mended += 1;
        let Some((start, quote)) = self.text.char_indices().nth(index) else {
            return false;
        };
        let indented = indented(&self.text[start..], quote, column + 1);
        let changed = indented.len() != self.text.len() - start;
        self.text.replace_range(start.., &indented);
        changed
    }
}

/// The rest of a text from its opening quote on, with every line up to the closing
/// quote indented by `columns` at least.
fn indented(rest: &str, quote: char, columns: usize) -> String {
    let end = closing(rest, quote).unwrap_or(rest.len());
    let mut lines = rest[..end].split('\n');
    let mut out = lines.next().unwrap_or_default().to_string();
    for line in lines {
        let blanks = line.bytes().take_while(|b| *b == b' ').count();
        out.push('\n');
        out.push_str(&" ".repeat(columns.saturating_sub(blanks)));
        out.push_str(line);
    }
    out + &rest[end..]
}

/// Where the quote closes. A doubled single quote and what stands behind a
/// backslash in double quotes do not close it.
fn closing(rest: &str, quote: char) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if quote == '"' => {
                characters.next();
            }
            c if c == quote => match characters.peek() {
                Some((_, next)) if quote == '\'' && *next == quote => {
                    characters.next();
                }
                _ => return Some(at),
            },
            _ => {}
        }
    }
    None
}
