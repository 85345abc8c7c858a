//! The layers of the library, read from the groups of `mod` lines in `src/lib.rs`.

/// A group of rooms that import only from groups further down.
pub struct Layer<'a> {
    /// The group's name: what the comment above it says before its colon.
    pub name: &'a str,
    /// The rooms.
    pub rooms: Vec<&'a str>,
}

/// Reads the layers from the text of `src/lib.rs`, top first.
pub fn layers(library: &str) -> Vec<Layer<'_>> {
    let groups = library.split("\n\n").map(|group| Layer {
        name: group.lines().find_map(name).unwrap_or("unnamed"),
        rooms: group.lines().filter_map(room).collect(),
    });
    groups.filter(|layer| !layer.rooms.is_empty()).collect()
}

fn name(line: &str) -> Option<&str> {
    let comment = line.strip_prefix("// ")?;
    Some(comment.split([':', '.']).next().unwrap_or(comment))
}

fn room(line: &str) -> Option<&str> {
    let line = line.strip_suffix(';')?;
    let (_, room) = line.split_once("mod ").filter(|(visibility, _)| {
        visibility.is_empty() || *visibility == "pub " || *visibility == "pub(crate) "
    })?;
    Some(room)
}

/// Returns the place of a room's layer, from the top.
pub fn depth(layers: &[Layer<'_>], room: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.rooms.contains(&room))
}
