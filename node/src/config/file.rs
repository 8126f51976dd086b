//! From files to one document.
//!
//! A file, or every `.yml` and `.yaml` file of a directory in the order of
//! their names, each laid over the one before; then the environment. Without
//! a file `PATRONI_CONFIGURATION` is the whole, else the environment alone.
//!
//! Invariant: a file that is there but cannot be read is a finding, never
//! "no file".

use super::env::{self, Environment};
use super::findings::Findings;
use serde_json::{Map, Number, Value};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use topology::document::patch;

/// No configuration is longer; something else was named by mistake.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The merged document. Empty when nothing is configured.
pub fn document(path: Option<&Path>, env: &Environment, findings: &mut Findings) -> Value {
    let mut document = Value::Object(Map::new());
    let files = path.and_then(|path| existing_files(path, findings));
    if let (None, Some(text)) = (&files, env::given(env, "PATRONI_CONFIGURATION")) {
        lay(&mut document, "PATRONI_CONFIGURATION", text, findings);
        return document;
    }
    for file in files.unwrap_or_default() {
        match read_bounded(&file) {
            Ok(text) => lay(&mut document, &file.display().to_string(), &text, findings),
            Err(error) => unreadable(&file, &error, findings),
        }
    }
    patch(&mut document, &env::overlay(env, findings));
    document
}

fn lay(document: &mut Value, place: &str, text: &str, findings: &mut Findings) {
    match parse(text) {
        Ok(value) if value.is_object() => {
            patch(document, &value);
        }
        Ok(_) => findings.add(place, "the top level is no map", "write `scope: NAME` and so on"),
        Err(error) => findings.add(place, format!("is no YAML: {error}"), "correct the syntax"),
    }
}

fn unreadable(path: &Path, error: &io::Error, findings: &mut Findings) {
    let remedy = "name a readable file, or a directory of .yml files";
    findings.add(&path.display().to_string(), format!("cannot be read: {error}"), remedy);
}

/// `None`: nothing is there, so the environment alone counts.
fn existing_files(path: &Path, findings: &mut Findings) -> Option<Vec<PathBuf>> {
    match files_of(path) {
        Ok(files) => Some(files),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let place = path.display();
            findings.warn(format!("{place} does not exist; only the environment is read"));
            None
        }
        Err(error) => {
            unreadable(path, &error, findings);
            None
        }
    }
}

fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    if !kind.is_dir() {
        return Err(io::Error::other("neither a file nor a directory"));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let is_yaml = file.extension().is_some_and(|end| end == "yml" || end == "yaml");
        if is_yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("too long for a configuration"));
    }
    Ok(text)
}

#[derive(Debug, thiserror::Error)]
pub enum NotYaml {
    #[error("{0}")]
    Syntax(#[from] serde_yaml::Error),
    #[error("the tag `{0}` is not known")]
    Tag(String),
    #[error("a map cannot be the key of a map")]
    Key,
    #[error("`<<` wants a map or a list of maps")]
    Merge,
}

/// YAML as JSON, in the order it was written, with `<<` merged.
pub fn parse(text: &str) -> Result<Value, NotYaml> {
    let yaml: serde_yaml::Value = serde_yaml::from_str(text)?;
    to_json(yaml)
}

fn to_json(yaml: serde_yaml::Value) -> Result<Value, NotYaml> {
    use serde_yaml::Value as Yaml;
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::Number(number) => number_to_json(&number),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(map) => map_to_json(map)?,
        Yaml::Tagged(tagged) => return Err(NotYaml::Tag(tagged.tag.to_string())),
    })
}

/// JSON has no infinity: such numbers stay texts.
fn number_to_json(number: &serde_yaml::Number) -> Value {
    let whole = number.as_u64().map(Number::from).or_else(|| number.as_i64().map(Number::from));
    let any = whole.or_else(|| number.as_f64().and_then(Number::from_f64));
    any.map_or_else(|| Value::String(number.to_string()), Value::Number)
}

/// Own keys win over merged ones. The merging is done here and not by
/// `apply_merge` because a merged map may itself merge another.
fn map_to_json(map: serde_yaml::Mapping) -> Result<Value, NotYaml> {
    let mut own = Map::new();
    let mut merged = Map::new();
    for (key, value) in map {
        let key = key_text(key)?;
        let value = to_json(value)?;
        if key == "<<" {
            merge_into(&mut merged, value)?;
        } else {
            own.insert(key, value);
        }
    }
    for (key, value) in merged {
        own.entry(key).or_insert(value);
    }
    Ok(Value::Object(own))
}

fn merge_into(merged: &mut Map<String, Value>, source: Value) -> Result<(), NotYaml> {
    let sources = match source {
        Value::Array(items) => items,
        single => vec![single],
    };
    for source in sources {
        let Value::Object(source) = source else {
            return Err(NotYaml::Merge);
        };
        for (key, value) in source {
            merged.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn key_text(key: serde_yaml::Value) -> Result<String, NotYaml> {
    match to_json(key)? {
        Value::String(text) => Ok(text),
        Value::Array(_) | Value::Object(_) => Err(NotYaml::Key),
        plain => Ok(plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(path: &Path, env: &[(&str, &str)]) -> (Value, Findings) {
        let env = env.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let mut findings = Findings::default();
        (document(Some(path), &env, &mut findings), findings)
    }

    #[test]
    fn merges_chain_and_own_keys_win() {
        let text = "a: &a {x: 1, y: 1}\nb: &b\n  <<: *a\n  y: 2\nc:\n  <<: [*b, *a]\n  z: 3\n";
        let value = parse(text).unwrap();
        assert_eq!(value["c"], json!({"z": 3, "y": 2, "x": 1}));
    }

    #[test]
    fn yaml_keeps_order_and_the_words_of_version_1_1_stay_texts() {
        let value = parse("z: on\na: 0600\n1: .inf\nn: ~\n").unwrap();
        assert_eq!(value.to_string(), r#"{"z":"on","a":"0600","1":".inf","n":null}"#);
    }

    #[test]
    fn what_is_no_configuration_is_refused_in_words() {
        for text in ["a: !x 1", "? {a: b}\n: c", "<<: 5", "a: [", "a: 1\na: 2", "a: 1\n---\nb: 2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_of_a_directory_merge_in_order_and_the_environment_wins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("20.yaml", "scope: second\npostgresql: {listen: 'a:1', pgpass: null}");
        write("10.yml", "scope: first\nname: n1\npostgresql: {listen: 'b:2', pgpass: p}");
        write("30.txt", "scope: never");
        let (value, findings) = read(dir.path(), &[("PATRONI_NAME", "from-env")]);
        assert_eq!(
            value,
            json!({"scope": "second", "name": "from-env",
            "postgresql": {"listen": "a:1"}})
        );
        assert!(findings.is_empty());
    }

    #[test]
    fn every_broken_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yml"), "a: [").unwrap();
        std::fs::write(dir.path().join("b.yml"), "- 1").unwrap();
        assert_eq!(read(dir.path(), &[]).1.iter().count(), 2);
        let (_, findings) = read(Path::new("/dev/null"), &[]);
        assert!(findings.to_string().contains("neither a file nor a directory"));
    }

    #[test]
    fn patroni_configuration_is_the_whole_when_there_is_no_file() {
        let env = [("PATRONI_CONFIGURATION", "scope: a"), ("PATRONI_NAME", "ignored")];
        let (value, _) = read(Path::new("/nonexistent/x.yml"), &env);
        assert_eq!(value, json!({"scope": "a"}));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.yml");
        std::fs::write(&file, "scope: b").unwrap();
        assert_eq!(read(&file, &env).0, json!({"scope": "b", "name": "ignored"}));
    }
}
