//! A value that is replaced as a whole while others read it without waiting.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, Guard};

/// The newest of a series of immutable values.
pub struct Latest<T>(ArcSwap<T>);

impl<T> Latest<T> {
    /// Creates the cell with its first value.
    pub fn new(value: impl Into<Arc<T>>) -> Self {
        Self(ArcSwap::new(value.into()))
    }

    /// Returns the newest value for a short look; to keep it for longer, use [`Latest::share`].
    pub fn get(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// Returns the newest value, to keep.
    pub fn share(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Makes this the newest value; returns the former one.
    pub fn replace(&self, value: impl Into<Arc<T>>) -> Arc<T> {
        self.0.swap(value.into())
    }
}

impl<T: fmt::Debug> fmt::Debug for Latest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}
