//! Words that name no actor or no number, in comments and in what an operator reads.
//!
//! A sentence says which member, program or person acts: the words of `VAGUE` do not.
//! Comments and names in the code are read in all files, string literals (sentences of
//! rules, log lines, answers) outside of tests.
//!
//! Absent on purpose: a parser of Rust. `pieces` knows comments and literals, which is
//! all that is asked of it.

use super::{all_sources, read};
use std::path::Path;

const VAGUE: [&str; 9] = [
    "whoever",
    "whomever",
    "whom",
    "somebody",
    "nobody",
    "everybody",
    "so many",
    "so long",
    "shall",
];
/// In texts only: a comment may have a relative clause.
const VAGUE_IN_TEXTS: [&str; 2] = ["who", "anybody"];

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Comment(&'a str),
    Text(&'a str),
    Code(&'a str),
}

/// Comments, string literals and the code between them, each with the number of its line.
fn pieces(source: &str) -> Vec<(usize, Piece<'_>)> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(next) = source[at..].find(['/', '"', '\'']) {
        let start = at + next;
        let rest = &source[start..];
        found.push((line, Piece::Code(&source[at..start])));
        line += source[at..start].matches('\n').count();
        at = start + 1;
        if rest.starts_with("//") {
            let comment = rest.lines().next().unwrap_or_default();
            found.push((line, Piece::Comment(comment)));
            at = start + comment.len();
        } else if rest.starts_with('\'') {
            at = start + length_of_char(rest);
        } else if rest.starts_with('"') {
            let length = length_of_text(&source[..start], rest);
            found.push((line, Piece::Text(&rest[..length])));
            line += rest[..length].matches('\n').count();
            at = start + length;
        }
    }
    found.push((line, Piece::Code(&source[at..])));
    found
}

/// Names of functions, types and variables that have a vague word in them, with their line
/// below the first one of the code.
fn vague_names(code: &str) -> Vec<(usize, &str)> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let lines = code.lines().enumerate();
    let names = lines
        .flat_map(|(line, text)| text.split(move |c| !is_of_name(c)).map(move |name| (line, name)));
    names.filter(|(_, name)| vague(&Piece::Comment(&in_words(name))).is_some()).collect()
}

/// `may_somebody_lead` and `MaySomebodyLead` as words.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for (before, c) in std::iter::once(' ').chain(name.chars()).zip(name.chars()) {
        if c == '_' || (before.is_lowercase() && c.is_uppercase()) {
            words.push(' ');
        }
        words.extend(Some(c).filter(|c| *c != '_'));
    }
    words
}

/// A character between its quotes; of a lifetime, only its mark.
fn length_of_char(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    let first = chars.next().map(|(_, c)| c);
    match (first, chars.next()) {
        (Some('\\'), Some((escaped, c))) => {
            let after = escaped + c.len_utf8();
            rest[after..].find('\'').map_or(1, |end| after + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

/// A literal with both of its quotes. What stands before it says whether it is a raw one.
fn length_of_text(before: &str, rest: &str) -> usize {
    let name = before.trim_end_matches('#');
    if name.ends_with('r') {
        let end = format!("\"{}", "#".repeat(before.len() - name.len()));
        return rest[1..].find(&end).map_or(rest.len(), |at| at + 2);
    }
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    rest.len()
}

/// The words of a piece in small letters, with a space around each.
fn words(piece: &str) -> String {
    let text = piece.replace("\\n", " ").to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

fn vague(piece: &Piece) -> Option<&'static str> {
    let has = |text: &str, word: &&str| words(text).contains(&format!(" {word} "));
    match piece {
        Piece::Comment(text) => VAGUE.into_iter().find(|word| has(text, word)),
        Piece::Text(text) => VAGUE.into_iter().chain(VAGUE_IN_TEXTS).find(|word| has(text, word)),
        Piece::Code(_) => None,
    }
}

/// Where the tests inside a file begin, which stand at its end.
fn product(source: &str) -> &str {
    let is_module = |rest: &str| {
        let line = rest.lines().find(|line| !line.starts_with("#[")).unwrap_or_default();
        line.starts_with("mod ") && line.ends_with('{')
    };
    let tests = source.match_indices("#[cfg(test)]").find(|(at, _)| is_module(&source[*at..]));
    tests.map_or(source, |(at, _)| &source[..at])
}

fn is_of_tests(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let parts = ["/tests/", "/tests.rs", "_test", "/ha/check", "/model", "/sample.rs"];
    parts.iter().any(|part| name.contains(part))
}

#[test]
fn comments_and_texts_name_the_actor() {
    let mut found = Vec::new();
    let sources = all_sources();
    for path in sources.iter().filter(|path| !path.ends_with("tidy/words.rs")) {
        let source = read(path);
        let texts_end = if is_of_tests(path) { 0 } else { product(&source).lines().count() };
        for (line, piece) in pieces(&source) {
            let is_read = matches!(piece, Piece::Comment(_)) || line <= texts_end;
            let word = vague(&piece).filter(|_| is_read);
            found.extend(word.map(|word| format!("{}:{line}: {word}", path.display())));
        }
    }
    assert!(found.is_empty(), "say which member, program or person:\n{}", found.join("\n"));
}

#[test]
fn names_in_code_name_the_actor() {
    let mut found = Vec::new();
    for path in all_sources().iter().filter(|path| !path.ends_with("tidy/words.rs")) {
        let source = read(path);
        for (line, piece) in pieces(&source) {
            let Piece::Code(code) = piece else { continue };
            let names = vague_names(code).into_iter();
            found.extend(
                names.map(|(at, name)| format!("{}:{}: {name}", path.display(), line + at)),
            );
        }
    }
    assert!(found.is_empty(), "say which member, program or person:\n{}", found.join("\n"));
}

#[test]
fn a_vague_word_is_found_in_every_kind_of_name() {
    let names = |code: &'static str| {
        vague_names(code).into_iter().map(|(_, name)| name).collect::<Vec<_>>()
    };
    let code = "fn may_somebody_lead() {}\nenum Token { Everybody, IsShallow }\nconst WHOEVER: u8";
    assert_eq!(names(code), ["may_somebody_lead", "Everybody", "WHOEVER"]);
    assert_eq!(names("fn waits_for_so_many() {} fn so_manyfold() {}"), ["waits_for_so_many"]);
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let source = concat!(
        "let a = \"no // comment, \\\" whom\"; // so\n",
        "fn f<'a>(c: char) { c == '\"' || c == '\\'' }\n",
        "let raw = r#\"a \" b\"#; let whom = \"x\";",
    );
    let wanted = [
        (1, Piece::Text("\"no // comment, \\\" whom\"")),
        (1, Piece::Comment("// so")),
        (3, Piece::Text("\"a \" b\"")),
        (3, Piece::Text("\"x\"")),
    ];
    let told = pieces(source).into_iter().filter(|(_, piece)| !matches!(piece, Piece::Code(_)));
    assert_eq!(told.collect::<Vec<_>>(), wanted);
    assert_eq!(vague(&Piece::Text("\"wait:\\nwhom\"")), Some("whom"));
    assert_eq!(vague(&Piece::Comment("// those who vote")), None);
}
