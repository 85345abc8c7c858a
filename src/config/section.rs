//! Sections of the document. The declaration of a section (`section!`) says of each key which setting it sets; the
//! reading, the schema and the form in which a plan is shown all come of that.

use std::marker::PhantomData;

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    errors::Section,
    written::{Kind, Written},
};

/// A part of the document, a value or a section, that sets something of type `T`.
pub(super) trait Sets<T> {
    /// Reads what is written under `key`, and puts it into `to`; what is left out stays there as it is. Errors are
    /// added to the findings of the section around it. Without `to` everything is read for its errors alone.
    fn set(&self, key: &str, to: Option<&mut T>, around: &mut Section<'_>);

    /// Returns `of` in the form in which users would write it.
    fn shown(of: &T) -> impl Serialize;
}

impl<K: Kind> Sets<K::Value> for Written<K> {
    fn set(&self, key: &str, to: Option<&mut K::Value>, around: &mut Section<'_>) {
        if let (Some(value), Some(to)) = (around.written(key, Some(self)), to) {
            *to = value;
        }
    }

    fn shown(of: &K::Value) -> impl Serialize {
        K::show(of)
    }
}

/// A section whose keys set something of type `T`; `section!` makes this of a declaration.
pub(super) trait Keys<T> {
    /// Reads the keys that set something, as [`Sets::set`] does.
    fn set_keys(&self, to: Option<&mut T>, section: &mut Section<'_>);

    /// Writes all keys in the order of their declaration: those that set something with their values in `of`, all
    /// others by `others`.
    fn show_keys<M: SerializeMap>(
        of: &T,
        map: &mut M,
        others: &mut impl FnMut(&'static str, &mut M) -> Result<(), M::Error>,
    ) -> Result<(), M::Error>;
}

/// A `T` in the form of the section `S`, all of whose keys set something.
pub(super) struct Shown<'a, S, T> {
    of: &'a T,
    section: PhantomData<S>,
}

impl<'a, S: Keys<T>, T> Shown<'a, S, T> {
    pub(super) const fn new(of: &'a T) -> Self {
        Self { of, section: PhantomData }
    }
}

impl<S: Keys<T>, T> Serialize for Shown<'_, S, T> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut map = serializer.serialize_map(None)?;
        S::show_keys(self.of, &mut map, &mut |_, _| Ok(()))?;
        map.end()
    }
}

/// Declares a section of the document. Each key, spelled as users write it, has a description for the schema, the type
/// of what is written, and, behind `=>`, the setting that it sets; a section within may set several settings of the
/// same value (`=> *upstream`). A key without `=>` needs more than its own text: `compile` reads it, and `shown` shows
/// it.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $name:ident sets $of:ident: $target:ty {
            $($(#[$describes:meta])* $key:ident: $type:ty $(=> $place:expr)?,)+
        }
    ) => {
        section! { $(#[$attribute])* $name { $($(#[$describes])* $key: $type,)+ } }

        impl Keys<$target> for $name {
            fn set_keys(&self, mut to: Option<&mut $target>, section: &mut Section<'_>) {
                $($(if let Some(written) = &self.$key {
                    let place = to.as_deref_mut().map(|$of| &mut $place);
                    written.set(stringify!($key), place, section);
                })?)+
            }

            #[allow(unused_variables, reason = "each key of this section may set something")]
            fn show_keys<M: SerializeMap>(
                $of: &$target,
                map: &mut M,
                others: &mut impl FnMut(&'static str, &mut M) -> Result<(), M::Error>,
            ) -> Result<(), M::Error> {
                $(section! { @show map, others, $key: $type $(=> $place)? })+
                Ok(())
            }
        }

        impl Sets<$target> for $name {
            fn set(&self, key: &str, to: Option<&mut $target>, around: &mut Section<'_>) {
                self.set_keys(to, &mut around.section(key));
            }

            fn shown(of: &$target) -> impl Serialize {
                Shown::<Self, _>::new(of)
            }
        }
    };
    (@show $map:ident, $others:ident, $key:ident: $type:ty => $place:expr) => {
        $map.serialize_entry(stringify!($key), &<$type as Sets<_>>::shown(&$place))?;
    };
    (@show $map:ident, $others:ident, $key:ident: $type:ty) => {
        $others(stringify!($key), $map)?;
    };
    (
        $(#[$attribute:meta])*
        $name:ident {
            $($(#[$describes:meta])* $key:ident: $type:ty,)+
        }
    ) => {
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(default)]
        #[schemars(inline, deny_unknown_fields)]
        #[allow(non_snake_case, reason = "keys are spelled as users write them")]
        $(#[$attribute])*
        pub(super) struct $name {
            $($(#[$describes])* pub(super) $key: Option<$type>,)+
        }
    };
}

pub(super) use section;
