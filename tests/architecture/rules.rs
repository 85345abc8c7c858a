//! The rules of the layers, as a pure function from the sources to the violations in them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use crate::{
    imports::{Import, imports},
    layers::{Layer, layer_index, layers},
    source::{Mention, Names, Source, is_of_tests},
};

/// A breach of the rules.
pub struct Violation {
    path: String,
    line: usize,
    wrong: String,
    right: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, wrong, right } = self;
        write!(f, "{path}:{line}: {wrong}; {right}")
    }
}

/// Returns everything that is wrong with the sources of a library, among which is `src/lib.rs`.
pub fn violations(sources: &[Source]) -> Vec<Violation> {
    let library = sources.iter().find(|source| source.path == "src/lib.rs");
    let layers = layers(library.map_or("", |library| &library.text));
    let imports = imports(sources);
    let without_purpose =
        sources.iter().filter(|source| !source.says_what_it_is_for()).map(missing_purpose);
    let misdirected = imports.iter().filter_map(|import| wrong_direction(import, &layers));
    let mut violations: Vec<_> = without_purpose.chain(misdirected).collect();
    violations.extend(cycles(&imports));
    violations.extend(sources.iter().flat_map(|source| forbidden_crates(source, &layers)));
    violations
}

fn missing_purpose(source: &Source) -> Violation {
    Violation {
        path: source.path.clone(),
        line: 1,
        wrong: "the file does not say what it is for".into(),
        right: "begin it with a `//!` comment that does",
    }
}

/// Returns the violation of an import between two modules of the crate's root that does not point down.
fn wrong_direction(import: &Import<'_>, layers: &[Layer<'_>]) -> Option<Violation> {
    let (from, to) = (import.source.top_module()?, import.to.first()?);
    let indexes = (layer_index(layers, from), layer_index(layers, to));
    let (wrong, right) = match indexes {
        _ if from == to => return None,
        (Some(own), Some(other)) if own < other => return None,
        (Some(own), Some(other)) if own == other => (
            format!("`{from}` imports `{to}`, of its own layer ({})", layers[own].name),
            "move what both need to a layer below, or one of the two to a layer of its own",
        ),
        (Some(_), Some(other)) => (
            format!("`{from}` imports `{to}`, of a layer above it ({})", layers[other].name),
            "move what it needs down, or let the layer above hand it in",
        ),
        (own, _) => {
            let lost = if own.is_none() { from } else { to };
            (format!("`{lost}` is in no layer"), "name it in a group of `mod` lines in src/lib.rs")
        }
    };
    Some(Violation { path: import.source.path.clone(), line: import.line, wrong, right })
}

/// The modules that each module imports among its neighbours, each with the first such import.
type Neighbours<'a> = BTreeMap<Names, BTreeMap<Names, &'a Import<'a>>>;

/// Returns a violation for each cycle between neighbours, which are modules with the same parent. Imports between a
/// module and the modules inside it make no cycle.
fn cycles(imports: &[Import<'_>]) -> Vec<Violation> {
    let mut neighbours = Neighbours::new();
    for import in imports {
        let from = &import.source.module;
        let common = from.iter().zip(&import.to).take_while(|(from, to)| from == to).count();
        if common < from.len() && common < import.to.len() {
            let all = neighbours.entry(from[..=common].to_vec()).or_default();
            all.entry(import.to[..=common].to_vec()).or_insert(import);
        }
    }
    let cycles = neighbours.keys().filter_map(|module| shortest_cycle(&neighbours, module));
    cycles.map(|cycle| cycle_violation(&cycle)).collect()
}

/// Returns the imports of a shortest cycle through a module, if that is the first module of the cycle by name.
fn shortest_cycle<'a>(neighbours: &Neighbours<'a>, start: &Names) -> Option<Vec<&'a Import<'a>>> {
    let mut seen = BTreeSet::new();
    let mut paths = VecDeque::from([(start, Vec::new())]);
    while let Some((module, path)) = paths.pop_front() {
        for (next, import) in neighbours.get(module).into_iter().flatten() {
            let longer = [path.as_slice(), &[*import]].concat();
            if next == start {
                return Some(longer);
            }
            if next > start && seen.insert(next) {
                paths.push_back((next, longer));
            }
        }
    }
    None
}

fn cycle_violation(cycle: &[&Import<'_>]) -> Violation {
    let describe = |import: &&Import<'_>| {
        format!("{}:{} imports `{}`", import.source.path, import.line, import.to.join("::"))
    };
    let steps: Vec<_> = cycle.iter().map(describe).collect();
    Violation {
        path: cycle[0].source.path.clone(),
        line: cycle[0].line,
        wrong: format!("a cycle: {}", steps.join(", ")),
        right: "move what the first and the last share to a module that both import",
    }
}

/// Returns a violation for each line that names a crate which is forbidden in the file's module.
fn forbidden_crates<'a>(
    source: &'a Source,
    layers: &'a [Layer<'_>],
) -> impl Iterator<Item = Violation> + 'a {
    let of_code = |mention: &&Mention| !is_of_tests(&mention.within);
    source.mentions.iter().filter(of_code).filter_map(move |mention| {
        let (module, name) = (source.top_module()?, &mention.written[0]);
        is_forbidden(module, name, layers).then(|| Violation {
            path: source.path.clone(),
            line: mention.line,
            wrong: format!("`{module}` knows the crate `{name}`"),
            right: "take a plain type, which a layer above makes",
        })
    })
}

/// True if this module must not name this crate: `pool` and `tls` must not name hyper, the layers below `config` not
/// serde.
fn is_forbidden(module: &str, name: &str, layers: &[Layer<'_>]) -> bool {
    let indexes = layer_index(layers, "config").zip(layer_index(layers, module));
    match name {
        "hyper" | "hyper_util" | "hyper_rustls" => matches!(module, "pool" | "tls"),
        "serde" | "serde_json" | "serde_yaml" | "schemars" => {
            indexes.is_some_and(|(config, own)| config < own)
        }
        _ => false,
    }
}
