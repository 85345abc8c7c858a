//! The layers of the library, read from the groups of `mod` lines in `src/lib.rs`.

/// A group of modules that import only from groups further down.
pub struct Layer<'a> {
    /// The group's name: the comment above it, up to its colon or full stop.
    pub name: &'a str,
    /// The modules.
    pub modules: Vec<&'a str>,
}

/// Reads the layers from the text of `src/lib.rs`, top first.
pub fn layers(library: &str) -> Vec<Layer<'_>> {
    let groups = library.split("\n\n").map(|group| Layer {
        name: group.lines().find_map(name).unwrap_or("unnamed"),
        modules: group.lines().filter_map(module).collect(),
    });
    groups.filter(|layer| !layer.modules.is_empty()).collect()
}

fn name(line: &str) -> Option<&str> {
    let comment = line.strip_prefix("// ")?;
    Some(comment.split([':', '.']).next().unwrap_or(comment))
}

fn module(line: &str) -> Option<&str> {
    let line = line.strip_suffix(';')?;
    let (_, module) = line.split_once("mod ").filter(|(visibility, _)| {
        visibility.is_empty() || *visibility == "pub " || *visibility == "pub(crate) "
    })?;
    Some(module)
}

/// Returns the number of layers above the layer of a module; `None` if it is in no layer.
pub fn layer_index(layers: &[Layer<'_>], module: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.modules.contains(&module))
}
