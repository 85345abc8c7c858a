//! Copies of counts at one moment, from which metrics and pages are rendered.

use super::{Counter, Histogram, HistogramSnapshot, Label, Recent, Tally, recent::Noted};

/// Counts that can be copied at one moment.
pub trait Counted {
    /// The copy.
    type Snapshot;

    /// Copies the counts.
    fn snapshot(&self) -> Self::Snapshot;
}

/// Each value of a label with its count, zeros included.
pub type Counts<L> = Vec<(L, u64)>;

impl Counted for Counter {
    type Snapshot = u64;

    fn snapshot(&self) -> u64 {
        self.get()
    }
}

impl<L: Label> Counted for Tally<L> {
    type Snapshot = Counts<L>;

    fn snapshot(&self) -> Counts<L> {
        self.iter().collect()
    }
}

impl Counted for Histogram {
    type Snapshot = HistogramSnapshot;

    fn snapshot(&self) -> HistogramSnapshot {
        self.snapshot()
    }
}

impl<T: Clone + PartialEq> Counted for Recent<T> {
    type Snapshot = Vec<Noted<T>>;

    fn snapshot(&self) -> Vec<Noted<T>> {
        self.snapshot()
    }
}

/// Declares a struct of counts, and a second one for their copies at one moment, so that no copy lacks a count.
#[macro_export]
macro_rules! counted {
    ($(#[$meta:meta])* pub struct $name:ident, copied as $copy:ident {
        $($(#[$doc:meta])* pub $field:ident: $type:ty,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)+
        }

        $(#[$meta])*
        ///
        #[doc = concat!("This is a copy of [`", stringify!($name), "`], made at one moment.")]
        #[derive(Debug)]
        pub struct $copy {
            $($(#[$doc])* pub $field: <$type as $crate::telemetry::Counted>::Snapshot,)+
        }

        impl $crate::telemetry::Counted for $name {
            type Snapshot = $copy;

            fn snapshot(&self) -> $copy {
                $copy { $($field: $crate::telemetry::Counted::snapshot(&self.$field),)+ }
            }
        }
    };
}
