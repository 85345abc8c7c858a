//! A value that is replaced as a whole while others read it without waiting.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, Guard};

/// The newest of a series of immutable values.
pub struct Latest<T>(ArcSwap<T>);

impl<T> Latest<T> {
    /// The first one.
    pub fn new(value: impl Into<Arc<T>>) -> Self {
        Self(ArcSwap::new(value.into()))
    }

    /// The newest, for a short look: who keeps it longer takes a [`Latest::share`].
    pub fn get(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// The newest, to keep.
    pub fn share(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// From now on this is the newest; gives back the one before.
    pub fn replace(&self, value: impl Into<Arc<T>>) -> Arc<T> {
        self.0.swap(value.into())
    }
}

impl<T: fmt::Debug> fmt::Debug for Latest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}
