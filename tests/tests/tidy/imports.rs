//! The direction of imports between modules.
//!
//! In every directory of sources, the modules beside each other form no circle: a
//! newcomer can read them one after the other. A parent and its children may use each
//! other. The order of the daemon's top modules is written down (`LAYERS`).
//!
//! Tests are left out: they may use what they test and what it is used by.

use super::{CRATES, code, is_test, read, root, sources};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use std::collections::BTreeMap;
use std::path::Path;

/// The daemon's modules. Each uses only those of the lines above it.
const LAYERS: [&[&str]; 7] = [
    &["clock", "document", "init", "notify", "password", "tls", "words"],
    &["background", "dcs", "watchdog"],
    &["config"],
    &["log", "peers", "postgres"],
    &["act", "deadman", "generate", "promises", "region"],
    &["api", "command_line"],
    &["daemon"],
];

type Module = Vec<String>;
/// Modules of one crate, by path, with their code.
type Crate = BTreeMap<Module, String>;
/// Which child of a module uses which of its siblings, and where.
type Edges = BTreeMap<(String, String), String>;

fn module_of(source: &Path, file: &Path) -> Module {
    let relative = file.strip_prefix(source).expect("a file of this crate").with_extension("");
    let mut module: Module =
        relative.components().map(|part| part.as_os_str().to_string_lossy().into()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

fn modules(name: &str) -> Crate {
    let source = root().join(name).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    let here = |file: &Path| {
        file.strip_prefix(&source).is_ok_and(|rest| !is_test(&Path::new("/").join(rest)))
    };
    files.retain(|file| here(file));
    files.iter().map(|file| (module_of(&source, file), code(&read(file)))).collect()
}

/// The paths of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let mut depth = 0;
    let mut from = 0;
    let ends = tree.char_indices().chain([(tree.len(), ',')]);
    for (at, letter) in ends {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand_one(prefix, tree[from..at].trim(), paths);
                from = at + 1;
            }
            _ => {}
        }
    }
}

fn expand_one(prefix: &str, item: &str, paths: &mut Vec<String>) {
    match item.split_once('{') {
        Some((head, rest)) => {
            let rest = rest.strip_suffix('}').unwrap_or(rest);
            expand(&format!("{prefix}{}", head.trim()), rest, paths);
        }
        None if item.is_empty() => {}
        None => paths.push(format!("{prefix}{}", item.split(" as ").next().unwrap_or(item))),
    }
}

/// All paths that a file names: in its `use` lines, and those that start with a keyword.
pub(crate) fn named_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let flat = code.split_whitespace().collect::<Vec<_>>().join(" ");
    for statement in flat.split(';') {
        if let Some((_, tree)) = statement.rsplit_once("use ")
            && !tree.contains(['(', '='])
        {
            expand("", tree.trim(), &mut paths);
        }
    }
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = flat.split(|letter| !is_path(letter));
    let rooted = words.filter(|word| {
        ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start))
    });
    paths.extend(rooted.map(str::to_string));
    paths
}

/// A path as it counts from the root of the crate.
fn absolute(module: &Module, path: &str) -> Module {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base = module.clone();
    match parts.first() {
        Some(&"crate") => base.clear(),
        Some(&"self") => {}
        Some(&"super") => {
            base.pop();
            while parts.get(1) == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
        }
        _ => parts.insert(0, ""),
    }
    base.extend(parts[1..].iter().map(|part| part.to_string()));
    base
}

/// The module in which a path ends.
fn target<'a>(modules: &'a Crate, path: &Module) -> Option<&'a Module> {
    let found = (1..=path.len()).rev().find_map(|n| modules.get_key_value(&path[..n]));
    found.map(|(module, _)| module)
}

/// For each module with children: which of them uses which.
fn sibling_edges(modules: &Crate) -> BTreeMap<Module, Edges> {
    let mut found: BTreeMap<Module, Edges> = BTreeMap::new();
    for (module, code) in modules {
        for path in named_paths(code) {
            let Some(other) = target(modules, &absolute(module, &path)) else { continue };
            let common = module.iter().zip(other).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(common), other.get(common)) {
                let edges = found.entry(module[..common].to_vec()).or_default();
                edges.insert(
                    (from.clone(), to.clone()),
                    format!("{} uses {path}", module.join("::")),
                );
            }
        }
    }
    found
}

/// Where modules use each other in a circle.
fn circle(edges: &Edges) -> Vec<&String> {
    let graph =
        DiGraphMap::<&str, ()>::from_edges(edges.keys().map(|(a, b)| (a.as_str(), b.as_str())));
    let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
    let inside = |circle: &[&str], pair: &(String, String)| {
        circle.contains(&pair.0.as_str()) && circle.contains(&pair.1.as_str())
    };
    let places = |circle: Vec<&str>| {
        let inside = edges.iter().filter(move |(pair, _)| inside(&circle, pair));
        inside.map(|(_, place)| place).collect::<Vec<_>>()
    };
    circles.flat_map(places).collect()
}

#[test]
fn modules_beside_each_other_form_no_circle() {
    let mut circles: Vec<String> = Vec::new();
    for name in CRATES {
        for edges in sibling_edges(&modules(name)).values() {
            circles.extend(circle(edges).into_iter().map(|place| format!("{name}: {place}")));
        }
    }
    assert!(circles.is_empty(), "circles of modules: {circles:#?}");
}

#[test]
fn the_daemons_modules_use_only_those_of_lower_layers() {
    let edges = sibling_edges(&modules("node")).remove(&Module::new()).expect("top modules");
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for ((from, to), place) in &edges {
        let (Some(upper), Some(lower)) = (layer(from), layer(to)) else {
            panic!("{from} or {to} stands in no layer: {place}");
        };
        assert!(lower < upper, "{from} may not use {to}: {place}");
    }
}

#[test]
fn a_circle_is_found() {
    let file = |path: &str, code: &str| {
        (path.split("::").map(str::to_string).collect::<Module>(), code.to_string())
    };
    let modules: Crate = [
        file("a", "mod one; mod two;"),
        file("a::one", "use super::two::{Thing, other::{self, That}};"),
        file("a::two", "fn f() { crate::a::one::g() }"),
        file("a::two::other", ""),
        file("b", "use crate::a;"),
    ]
    .into();
    let edges = sibling_edges(&modules);
    assert_eq!(circle(&edges[&Module::from(["a".to_string()])]).len(), 2, "{edges:?}");
    assert!(circle(&edges[&Module::new()]).is_empty());
}
