//! What PyYAML reads though the standard, and the parser here, refuses it.
//!
//! People paste certificates, commands and lists so: a quoted text or a list in
//! brackets that goes on with less indentation than its map has, a tab before a
//! continued line, a comment directly behind a quote. Blanks mean nothing in these
//! places, so the text is mended where the parser stopped, and read again.
//!
//! Invariant: what is mended are blanks between words, nothing else; a place that is
//! told counts as it was written.

use super::not_yaml::Place;
use std::collections::HashMap;

/// Places of one configuration that are mended.
const MENDED_MAX: usize = 1_000;

/// A text, and the blanks that were put in front of its lines.
pub(super) struct Lenient {
    pub text: String,
    /// Deeper than any block of the text.
    margin: usize,
    added: HashMap<usize, isize>,
    mended: usize,
}

impl Lenient {
    pub(super) fn new(text: &str) -> Lenient {
        let margin = text.lines().map(leading).max().unwrap_or(0) + 1;
        Lenient { text: text.to_string(), margin, added: HashMap::new(), mended: 0 }
    }

    /// Mends what the parser refused at this place, which is the character `index`
    /// (from 0). `false`: it is no such thing.
    pub(super) fn mend(&mut self, refusal: &str, index: usize, place: Place) -> bool {
        self.mended += 1;
        if self.mended > MENDED_MAX {
            return false;
        }
        match refusal {
            "invalid indentation in quoted scalar" => self.indent_quoted(index, place.line),
            // Both are met in brackets only; a block that ends is no mistake.
            "invalid indentation" | "invalid indentation in flow construct" => {
                self.indent(place.line)
            }
            "tab cannot be used as indentation" => self.indent(place.line),
            "comments must be separated from other tokens by whitespace" => self.part(index),
            _ => false,
        }
    }

    /// The place as it is in the text that was given.
    pub(super) fn as_written(&self, place: Place) -> Place {
        let added = self.added.get(&place.line).copied().unwrap_or(0);
        let column = (place.column as isize - added).max(1) as usize;
        Place { column, ..place }
    }

    /// Lines that continue the quoted text which begins at this character.
    fn indent_quoted(&mut self, index: usize, line: usize) -> bool {
        let Some((start, quote)) = self.text.char_indices().nth(index) else {
            return false;
        };
        let rest = &self.text[start..];
        let breaks = rest[..closing(rest, quote).unwrap_or(rest.len())].matches('\n').count();
        // All of them: `any` would stop at the first.
        (line + 1..=line + breaks).filter(|line| self.indent(*line)).count() > 0
    }

    /// Puts a line behind the margin. `false`: it is there already.
    fn indent(&mut self, line: usize) -> bool {
        let Some((start, end)) = self.bounds_of(line) else {
            return false;
        };
        let written = &self.text[start..end];
        let words = written.trim_start_matches([' ', '\t']);
        let before = written.len() - words.len();
        if words.trim().is_empty() || (leading(written) >= self.margin && before == self.margin) {
            return false;
        }
        let indented = format!("{}{words}", " ".repeat(self.margin));
        self.text.replace_range(start..end, &indented);
        *self.added.entry(line).or_default() += self.margin as isize - before as isize;
        true
    }

    /// A blank before a comment.
    fn part(&mut self, index: usize) -> bool {
        let found = self.text.char_indices().nth(index);
        let Some((at, _)) = found.filter(|(_, character)| *character == '#') else {
            return false;
        };
        self.text.insert(at, ' ');
        true
    }

    /// Where a line (from 1) begins and ends.
    fn bounds_of(&self, line: usize) -> Option<(usize, usize)> {
        let mut start = 0;
        for _ in 1..line {
            start += self.text[start..].find('\n')? + 1;
        }
        let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        Some((start, end))
    }
}

fn leading(line: &str) -> usize {
    line.bytes().take_while(|byte| *byte == b' ').count()
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
