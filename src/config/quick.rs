//! The quick reader: reads a document in one pass if nothing in it is unusual, because most of a reload's time goes
//! into reading. Every other document is left to the thorough reader in `document`, which reports what is wrong and
//! where.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize as _, Deserializer,
    de::{
        DeserializeSeed, Error, MapAccess, SeqAccess, Visitor,
        value::{BorrowedStrDeserializer, StringDeserializer, U64Deserializer},
    },
    forward_to_deserialize_any,
};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, StrInput, options};

use super::spec::Document;

/// The most YAML events of a document that is read here; lower than each bound of the thorough reader.
const MOST_EVENTS: usize = 200_000;

/// Reads the document; `None` if the thorough reader has to judge the text.
pub(super) fn read(text: &str) -> Option<Document> {
    let mut reader = Reader::new(text);
    reader.begin().ok()?;
    let document = Document::deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(document)
}

/// The error for anything that the thorough reader must judge: a tag, an alias, an unknown key, a key without a value.
#[derive(Debug)]
struct NeedsThoroughReader;

impl fmt::Display for NeedsThoroughReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the document is out of the ordinary")
    }
}

impl std::error::Error for NeedsThoroughReader {}

impl Error for NeedsThoroughReader {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A serde deserializer over the YAML events of a text.
struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    taken: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let options = options! { emit_comments: false, flow_nesting_limit: 64 };
        Self { events: Parser::new_from_str_with_options(text, options), taken: 0 }
    }

    /// Takes the beginning of the text and of its first document. Fails if there is no document.
    fn begin(&mut self) -> Result<(), NeedsThoroughReader> {
        match (self.take()?, self.take()?) {
            (Event::StreamStart, Event::DocumentStart(_, None)) => Ok(()),
            _ => Err(NeedsThoroughReader),
        }
    }

    /// Takes the end of the document and of the text. Fails if something follows the document.
    fn end(&mut self) -> Result<(), NeedsThoroughReader> {
        match (self.take()?, self.take()?) {
            (Event::DocumentEnd, Event::StreamEnd) => Ok(()),
            _ => Err(NeedsThoroughReader),
        }
    }

    /// Takes the next event. Fails at an error, at the end, and beyond the bound on events.
    fn take(&mut self) -> Result<Event<'t>, NeedsThoroughReader> {
        self.taken += 1;
        match self.events.next_event() {
            Some(Ok((event, _))) if self.taken <= MOST_EVENTS => Ok(event),
            _ => Err(NeedsThoroughReader),
        }
    }

    /// Takes the next event if it equals `wanted`; returns true if it did. Fails at an error and at the end.
    fn take_if(&mut self, wanted: &Event<'_>) -> Result<bool, NeedsThoroughReader> {
        let is_wanted = match self.events.peek() {
            Some(Ok((event, _))) => event == wanted,
            _ => return Err(NeedsThoroughReader),
        };
        if is_wanted {
            self.take()?;
        }
        Ok(is_wanted)
    }

    /// Returns the line and column at which the next event begins.
    fn place(&mut self) -> Result<[u64; 2], NeedsThoroughReader> {
        match self.events.peek() {
            Some(Ok((_, span))) => Ok([span.start.line() as u64, span.start.col() as u64 + 1]),
            _ => Err(NeedsThoroughReader),
        }
    }

    /// Takes a scalar's text. Fails if the next event is another one, has a tag or an anchor, or is plain text that
    /// YAML reads as null, infinity or not-a-number.
    fn text(&mut self) -> Result<Cow<'t, str>, NeedsThoroughReader> {
        match self.take()? {
            Event::Scalar(text, style, 0, None)
                if style != ScalarStyle::Plain || is_plain_text(&text) =>
            {
                Ok(text)
            }
            _ => Err(NeedsThoroughReader),
        }
    }
}

/// True if a plain (unquoted) scalar is read as its text. False if YAML reads the text as null, infinity or
/// not-a-number.
fn is_plain_text(text: &str) -> bool {
    let unsigned = text.trim_start_matches(['+', '-']);
    let is_null = matches!(text, "" | "~") || text.eq_ignore_ascii_case("null");
    let is_number = unsigned.starts_with(|first: char| first.is_ascii_digit());
    let is_infinite = is_number && text.parse::<f64>().is_ok_and(f64::is_infinite);
    !(is_null || is_infinite || unsigned.starts_with('.'))
}

impl<'t> Deserializer<'t> for &mut Reader<'t> {
    type Error = NeedsThoroughReader;

    /// Fails: the type of each value comes from the document's fields, never from the value's text.
    fn deserialize_any<V: Visitor<'t>>(self, _: V) -> Result<V::Value, NeedsThoroughReader> {
        Err(NeedsThoroughReader)
    }

    /// Reads the value of a key that is written; a key without a value was refused as unusual.
    fn deserialize_option<V: Visitor<'t>>(
        self,
        visitor: V,
    ) -> Result<V::Value, NeedsThoroughReader> {
        visitor.visit_some(self)
    }

    /// Reads a scalar's text; fails as [`Reader::text`] does.
    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, NeedsThoroughReader> {
        match self.text()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'t>>(
        self,
        visitor: V,
    ) -> Result<V::Value, NeedsThoroughReader> {
        self.deserialize_str(visitor)
    }

    /// Reads a value with its place, as a sequence of line, column and value.
    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NeedsThoroughReader> {
        let place = self.place()?;
        visitor.visit_seq(WithPlace { reader: self, place, given: 0 })
    }

    /// Reads a list, in block or flow style; fails if something else is there, or it has a tag or an anchor.
    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, NeedsThoroughReader> {
        match self.take()? {
            Event::SequenceStart(_, 0, None) => visitor.visit_seq(Entries(self)),
            _ => Err(NeedsThoroughReader),
        }
    }

    /// Reads a mapping, in block or flow style, whose keys the visitor judges; fails if something else is there, or it has
    /// a tag or an anchor.
    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NeedsThoroughReader> {
        match self.take()? {
            Event::MappingStart(_, 0, None) => visitor.visit_map(Entries(self)),
            _ => Err(NeedsThoroughReader),
        }
    }

    forward_to_deserialize_any! {
        <W: Visitor<'t>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        map enum identifier ignored_any
    }
}

/// The elements of a list, or the entries of a mapping.
struct Entries<'r, 't>(&'r mut Reader<'t>);

impl<'t> SeqAccess<'t> for Entries<'_, 't> {
    type Error = NeedsThoroughReader;

    fn next_element_seed<T: DeserializeSeed<'t>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NeedsThoroughReader> {
        if self.0.take_if(&Event::SequenceEnd)? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.0).map(Some)
    }
}

impl<'t> MapAccess<'t> for Entries<'_, 't> {
    type Error = NeedsThoroughReader;

    fn next_key_seed<K: DeserializeSeed<'t>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NeedsThoroughReader> {
        if self.0.take_if(&Event::MappingEnd)? {
            return Ok(None);
        }
        let key = match self.0.text()? {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)),
            Cow::Owned(key) => seed.deserialize(StringDeserializer::new(key)),
        };
        key.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, NeedsThoroughReader> {
        seed.deserialize(&mut *self.0)
    }
}

/// A sequence of three: a line, a column, and the value itself.
struct WithPlace<'r, 't> {
    reader: &'r mut Reader<'t>,
    place: [u64; 2],
    given: usize,
}

impl<'t> SeqAccess<'t> for WithPlace<'_, 't> {
    type Error = NeedsThoroughReader;

    fn next_element_seed<T: DeserializeSeed<'t>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NeedsThoroughReader> {
        let given = self.given;
        self.given += 1;
        match self.place.get(given) {
            Some(number) => seed.deserialize(U64Deserializer::new(*number)).map(Some),
            None => seed.deserialize(&mut *self.reader).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{document, errors::Findings},
        *,
    };

    /// Asserts that the quick reader's document is that of the thorough reader; true if the quick reader read the text
    /// at all.
    fn agrees(text: &str) -> bool {
        let Some(quick) = read(text) else { return false };
        let mut findings = Findings::default();
        let thorough =
            document::read_thoroughly(text, &mut findings).map_err(|finding| finding.message);
        assert!(findings.is_empty(), "{text}\n{findings:?}");
        assert_eq!(format!("{:?}", Ok::<_, String>(quick)), format!("{thorough:?}"), "{text}");
        true
    }

    #[test]
    fn fault_29_an_ordinary_document_is_read_in_one_pass_with_all_its_places() {
        assert!(agrees(crate::config::example()));
        let json =
            r#"{"upstreams": [{"name": "a", "endpoints": ["a:1"], "tls": {"trust": "\u0061"}}]}"#;
        assert!(agrees(json));
        assert!(agrees(
            "\u{feff}# A comment\n---\nupstreams:\n- {name: 'a', endpoints: [ \"a:1\" ]}\n..."
        ));
        assert!(agrees("upstreams: []\nlog: {}\nthreads: 010\ndrain: |\n  5s\n"));
    }

    #[test]
    fn fault_29_whatever_is_out_of_the_ordinary_is_left_to_the_thorough_reader() {
        for text in [
            "",
            "# nothing",
            "[]",
            "threads",
            "threads:",
            "threads: ~",
            "threads: Null",
            "threads: [1]",
            "threads: {a: 1}",
            "threads: 1\nthreads: 2",
            "threads: 1\n---\nthreads: 2",
            "threads: 1\n...\nthreads: 2",
            "%YAML 1.2\n---\nthreads: 1",
            "thread: 1",
            "threads: !!int 1",
            "threads: ! 1",
            "threads: &a 1",
            "log: &a {}",
            "metrics: {bind: &a []}",
            "threads: &a 1\ndrain: *a",
            "log: {<<: {format: json}}",
            "~: 1",
            "? [a]\n: 1",
            "threads: .inf",
            "threads: -.NaN",
            "threads: 1e999",
            "log: [json]",
            "upstreams: [[a, [b]]]",
            "upstreams: [{identity: [a, b]}]",
            "upstreams: [~]",
            "upstreams: {name: a}",
            "log: {format: [}",
            "log: {format: json",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        let many = format!("metrics: {{bind: [{}]}}", "a, ".repeat(MOST_EVENTS));
        assert!(read(&many).is_none(), "too many values");
    }

    proptest! {
        #[test]
        fn fault_29_both_readers_agree_on_whatever_becomes_of_the_example(
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..9_usize, "[ \n\\-:\\[\\]{},\"'#&*!%~.0-9a-z]{0,6}"), 1..4)
        ) {
            let mut text: Vec<char> = crate::config::example().chars().collect();
            for (at, length, put) in cuts {
                let at = at.index(text.len());
                let end = (at + length).min(text.len());
                text.splice(at..end, put.chars());
            }
            agrees(&text.into_iter().collect::<String>());
        }
    }
}
