//! The law, as a pure function from the sources to what is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use crate::{
    arrows::{Arrow, arrows},
    layers::{Layer, depth, layers},
    source::{Mention, Names, Source, is_of_tests},
};

/// A breach of the law.
pub struct Fault {
    path: String,
    line: usize,
    wrong: String,
    right: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, wrong, right } = self;
        write!(f, "{path}:{line}: {wrong}; {right}")
    }
}

/// Returns everything that is wrong with the sources of a library, among which is `src/lib.rs`.
pub fn faults(sources: &[Source]) -> Vec<Fault> {
    let library = sources.iter().find(|source| source.path == "src/lib.rs");
    let layers = layers(library.map_or("", |library| &library.text));
    let arrows = arrows(sources);
    let silent = sources.iter().filter(|source| !source.says_what_it_is_for()).map(silent);
    let misled = arrows.iter().filter_map(|arrow| misled(arrow, &layers));
    let mut faults: Vec<_> = silent.chain(misled).collect();
    faults.extend(knots(&arrows));
    faults.extend(sources.iter().flat_map(|source| strangers(source, &layers)));
    faults
}

fn silent(source: &Source) -> Fault {
    Fault {
        path: source.path.clone(),
        line: 1,
        wrong: "the file does not say what it is for".into(),
        right: "begin it with a `//!` comment that does",
    }
}

/// Returns the fault of an arrow between two rooms that does not point down.
fn misled(arrow: &Arrow<'_>, layers: &[Layer<'_>]) -> Option<Fault> {
    let (from, to) = (arrow.source.room()?, arrow.to.first()?);
    let places = (depth(layers, from), depth(layers, to));
    let (wrong, right) = match places {
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
    Some(Fault { path: arrow.source.path.clone(), line: arrow.line, wrong, right })
}

/// The arrows between modules that have the same parent, each with the import that makes it.
type Neighbours<'a> = BTreeMap<Names, BTreeMap<Names, &'a Arrow<'a>>>;

/// Returns a fault for each cycle between neighbours: rooms, or modules within one module. What a module and those inside
/// it import from each other makes no cycle.
fn knots(arrows: &[Arrow<'_>]) -> Vec<Fault> {
    let mut neighbours = Neighbours::new();
    for arrow in arrows {
        let from = &arrow.source.module;
        let common = from.iter().zip(&arrow.to).take_while(|(from, to)| from == to).count();
        if common < from.len() && common < arrow.to.len() {
            let all = neighbours.entry(from[..=common].to_vec()).or_default();
            all.entry(arrow.to[..=common].to_vec()).or_insert(arrow);
        }
    }
    let cycles = neighbours.keys().filter_map(|module| cycle(&neighbours, module));
    cycles.map(|cycle| knot(&cycle)).collect()
}

/// Returns the arrows of a shortest cycle through a module, if that is the first module of the cycle by name.
fn cycle<'a>(neighbours: &Neighbours<'a>, start: &Names) -> Option<Vec<&'a Arrow<'a>>> {
    let mut seen = BTreeSet::new();
    let mut ways = VecDeque::from([(start, Vec::new())]);
    while let Some((module, way)) = ways.pop_front() {
        for (next, arrow) in neighbours.get(module).into_iter().flatten() {
            let longer = [way.as_slice(), &[*arrow]].concat();
            if next == start {
                return Some(longer);
            }
            if next > start && seen.insert(next) {
                ways.push_back((next, longer));
            }
        }
    }
    None
}

fn knot(cycle: &[&Arrow<'_>]) -> Fault {
    let step = |arrow: &&Arrow<'_>| {
        format!("{}:{} imports `{}`", arrow.source.path, arrow.line, arrow.to.join("::"))
    };
    let steps: Vec<_> = cycle.iter().map(step).collect();
    Fault {
        path: cycle[0].source.path.clone(),
        line: cycle[0].line,
        wrong: format!("a cycle: {}", steps.join(", ")),
        right: "move what the first and the last share to a module that both import",
    }
}

/// Returns a fault for each line that names a crate which the file's room does not know.
fn strangers<'a>(source: &'a Source, layers: &'a [Layer<'_>]) -> impl Iterator<Item = Fault> + 'a {
    let of_code = |mention: &&Mention| !is_of_tests(&mention.within);
    source.mentions.iter().filter(of_code).filter_map(move |mention| {
        let (room, name) = (source.room()?, &mention.written[0]);
        is_forbidden(room, name, layers).then(|| Fault {
            path: source.path.clone(),
            line: mention.line,
            wrong: format!("`{room}` knows the crate `{name}`"),
            right: "take a plain type, which a layer above makes",
        })
    })
}

/// True if this module must not name this crate: `pool` and `tls` must not name hyper, the layers below `config` not
/// serde.
fn is_forbidden(room: &str, name: &str, layers: &[Layer<'_>]) -> bool {
    let places = depth(layers, "config").zip(depth(layers, room));
    match name {
        "hyper" | "hyper_util" | "hyper_rustls" => matches!(room, "pool" | "tls"),
        "serde" | "serde_json" | "serde_yaml" | "schemars" => {
            places.is_some_and(|(config, own)| config < own)
        }
        _ => false,
    }
}
