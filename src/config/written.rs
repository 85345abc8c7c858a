//! Values as they were written in the document, with their places.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_yaml::{Location, Spanned};

/// A place in the document; line and column count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A kind of scalar value: the way between text and value in both directions, and the schema of the text.
pub(super) trait Kind {
    /// The type of the value that is read.
    type Value;

    /// Reads the value's text. The error says what is wrong, and after a semicolon what would be right.
    fn read(text: &str) -> Result<Self::Value, String>;

    /// Returns the value as users would write it; `read` makes the same value of it again.
    fn show(value: &Self::Value) -> impl Serialize;

    /// Returns the JSON Schema of the values of this kind.
    fn schema() -> Schema;
}

/// A scalar value whose text has not been read yet: `compile` reads all of them, and reports all wrong ones together.
#[derive(Debug)]
pub(super) struct Written<K> {
    pub(super) text: String,
    pub(super) at: Position,
    kind: PhantomData<K>,
}

impl<K: Kind> Written<K> {
    pub(super) fn read(&self) -> Result<K::Value, String> {
        K::read(&self.text)
    }
}

impl<'de, K> Deserialize<'de> for Written<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Placed { value: text, at } = Placed::deserialize(deserializer)?;
        Ok(Self { text, at, kind: PhantomData })
    }
}

impl<K: Kind> JsonSchema for Written<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "value".into()
    }

    fn schema_id() -> Cow<'static, str> {
        std::any::type_name::<K>().into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        K::schema()
    }
}

/// A list or mapping (or a scalar's text) with its place.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: Position,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Placed", PlacedVisitor(PhantomData))
    }
}

/// The serde visitor that takes a value with its place from the quick or the thorough reader.
struct PlacedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PlacedVisitor<T> {
    type Value = Placed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }

    /// Takes the value from the thorough reader, as a `serde_yaml::Spanned`.
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Placed<T>, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Placed { value, at: referenced.into() })
    }

    /// Takes the value from the quick reader, as a sequence of line, column and value.
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Placed<T>, A::Error> {
        let missing = || A::Error::custom("a value has a line, a column and itself");
        let line = parts.next_element()?.ok_or_else(missing)?;
        let column = parts.next_element()?.ok_or_else(missing)?;
        let value = parts.next_element()?.ok_or_else(missing)?;
        Ok(Placed { value, at: Position { line, column } })
    }
}

impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
