//! The document's shape without its meaning. Parsing into it finds syntax errors before anything else, and it tells
//! which key is at a place.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    errors::join,
    written::{Placed, Position},
};

/// A key that the schema does not know at its path.
#[derive(Debug)]
pub(super) struct UnknownKey<'a> {
    pub(super) path: String,
    pub(super) key: &'a str,
    pub(super) at: Position,
    /// The keys that the schema knows at that path.
    pub(super) known: Vec<&'a str>,
}

/// A node of the document: a value, a list or a mapping.
#[derive(Debug)]
pub(super) enum Outline {
    /// Null: `~`, or a key without a value.
    Nothing,
    Value,
    List(Vec<Placed<Outline>>),
    Mapping(Vec<(Placed<String>, Placed<Outline>)>),
}

/// A test for each node of a walk over the document. Its arguments are the node's path, the place of its key (`None`
/// for an element of a list) and the node; the walk ends at the first `true`.
type Test<'a> = &'a mut dyn FnMut(&str, Option<Position>, &Placed<Outline>) -> bool;

impl Placed<Outline> {
    /// Returns the path of the key at a place.
    pub(super) fn path_of_key(&self, at: Position) -> Option<String> {
        self.find(&mut |_, key, _| key == Some(at)).map(|(path, _)| path)
    }

    /// Returns the path and the shape of the value that begins at a place; if several begin there, those of the
    /// outermost.
    pub(super) fn value_at(&self, at: Position) -> Option<(String, &'static str)> {
        let (path, node) = self.find(&mut |_, _, node| node.at == at)?;
        Some((path, node.value.shape()))
    }

    /// Returns the path of the null at a place.
    pub(super) fn null_at(&self, at: Position) -> Option<String> {
        self.nulls().into_iter().find(|(_, null)| *null == at).map(|(path, _)| path)
    }

    /// Returns the path and place of every null below the document's root.
    pub(super) fn nulls(&self) -> Vec<(String, Position)> {
        let mut nulls = Vec::new();
        self.find(&mut |path, _, node| {
            if matches!(node.value, Outline::Nothing) && !path.is_empty() {
                nulls.push((path.into(), node.at));
            }
            false
        });
        nulls
    }

    /// Returns the place of every value by its path.
    pub(super) fn places(&self) -> HashMap<String, Position> {
        let mut places = HashMap::new();
        self.find(&mut |path, _, node| {
            places.insert(path.into(), node.at);
            false
        });
        places
    }

    /// Returns every key that the schema does not know at its path.
    pub(super) fn unknown_keys<'a>(&'a self, schema: &'a Value) -> Vec<UnknownKey<'a>> {
        let mut unknown = Vec::new();
        self.compare("", schema, &mut unknown);
        unknown
    }

    /// Adds every key at or below this node that the schema does not know there to `unknown`. Nodes that the schema
    /// does not describe are passed over.
    fn compare<'a>(&'a self, path: &str, schema: &'a Value, unknown: &mut Vec<UnknownKey<'a>>) {
        match &self.value {
            Outline::Nothing | Outline::Value => {}
            Outline::List(list) => {
                let Some(items) = schema.get("items") else { return };
                for (index, child) in list.iter().enumerate() {
                    child.compare(&format!("{path}[{index}]"), items, unknown);
                }
            }
            Outline::Mapping(entries) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let Some(properties) = properties else { return };
                for (Placed { value: key, at }, child) in entries {
                    let path = join(path, key);
                    if let Some(below) = properties.get(key) {
                        child.compare(&path, below, unknown);
                    } else {
                        let known = properties.keys().map(String::as_str).collect();
                        unknown.push(UnknownKey { path, key, at: *at, known });
                    }
                }
            }
        }
    }

    /// Returns the first node that satisfies the test, with its path; outer nodes are tested before inner ones.
    fn find(&self, test: Test<'_>) -> Option<(String, &Self)> {
        self.find_at("", None, test)
    }

    /// Returns the first node at or below this one that satisfies the test, with its path; `path` and `key` are those
    /// of this node.
    fn find_at(
        &self,
        path: &str,
        key: Option<Position>,
        test: Test<'_>,
    ) -> Option<(String, &Self)> {
        if test(path, key, self) {
            return Some((path.into(), self));
        }
        match &self.value {
            Outline::Nothing | Outline::Value => None,
            Outline::List(list) => list
                .iter()
                .enumerate()
                .find_map(|(index, child)| child.find_at(&format!("{path}[{index}]"), None, test)),
            Outline::Mapping(entries) => entries.iter().find_map(|(key, child)| {
                child.find_at(&join(path, &key.value), Some(key.at), test)
            }),
        }
    }
}

impl Outline {
    /// Returns the node's shape in words, for an error: `nothing`, `a single value`, `a list` or `a mapping`.
    fn shape(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Value => "a single value",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

/// The serde visitor that accepts every value and keeps only its shape.
struct Shape;

/// Defines visitor methods that turn every scalar into [`Outline::Value`].
macro_rules! single_values {
    ($($visit:ident($type:ty)),+) => {
        $(fn $visit<E>(self, _: $type) -> Result<Outline, E> { Ok(Outline::Value) })+
    };
}

impl<'de> Visitor<'de> for Shape {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    single_values!(
        visit_bool(bool),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128)
    );
    single_values!(visit_f64(f64), visit_str(&str), visit_bytes(&[u8]));

    fn visit_unit<E>(self) -> Result<Outline, E> {
        Ok(Outline::Nothing)
    }

    fn visit_none<E>(self) -> Result<Outline, E> {
        Ok(Outline::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Outline, A::Error> {
        let mut children = Vec::new();
        while let Some(child) = list.next_element()? {
            children.push(child);
        }
        Ok(Outline::List(children))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Outline, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(Outline::Mapping(entries))
    }
}
