//! Counters with a label whose values are those of an enum, so that their number is bounded.

use std::{fmt, marker::PhantomData};

use super::Counter;

/// A label with a fixed set of values. A pair of labels is a label too.
pub trait Label: Copy + 'static {
    /// The number of values.
    const COUNT: usize;

    /// Returns this value's index, below [`Label::COUNT`].
    fn index(self) -> usize;

    /// Returns the value with this index, which must be below [`Label::COUNT`].
    fn at(index: usize) -> Self;
}

impl<A: Label, B: Label> Label for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn at(index: usize) -> Self {
        (A::at(index / B::COUNT), B::at(index % B::COUNT))
    }
}

/// Declares an enum whose variants are the values of a label, each with its text in metrics and log lines, and perhaps,
/// behind `=>`, its meaning for the page.
#[macro_export]
macro_rules! label {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $text:literal => $meaning:literal),+ $(,)?
    }) => {
        $crate::label! { $(#[$meta])* $vis enum $name { $($(#[$doc])* $variant = $text),+ } }

        impl $name {
            /// Returns the meaning, for readers who do not know the documents.
            #[must_use]
            $vis const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every value, in order of declaration.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the text in metrics and log lines.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl $crate::telemetry::Label for $name {
            const COUNT: usize = Self::ALL.len();

            fn index(self) -> usize {
                self as usize
            }

            fn at(index: usize) -> Self {
                Self::ALL[index]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A counter for each value of a label.
pub struct Tally<L: Label> {
    cells: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Tally<L> {
    /// Adds 1 to a value's counter.
    pub fn increment(&self, label: L) {
        self.cells[label.index()].increment();
    }

    /// Returns a value's counter now.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.cells[label.index()].get()
    }

    /// Returns the sum of all counters.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.iter().map(Counter::get).sum()
    }

    /// Returns each value with its counter, in order of the values' indices.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> + '_ {
        self.cells.iter().enumerate().map(|(index, cell)| (L::at(index), cell.get()))
    }
}

impl<L: Label> Default for Tally<L> {
    fn default() -> Self {
        Self { cells: (0..L::COUNT).map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for Tally<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cells.iter().map(Counter::get)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    label! {
        /// A test's label.
        pub(super) enum Colour { Red = "red", Blue = "blue" }
    }

    #[test]
    fn a_pair_of_labels_counts_each_combination_apart() {
        let tally = Tally::<(Colour, Colour)>::default();
        tally.increment((Colour::Red, Colour::Blue));
        tally.increment((Colour::Red, Colour::Blue));
        tally.increment((Colour::Blue, Colour::Red));
        let seen: Vec<_> = tally.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(
            seen,
            [((Colour::Red, Colour::Blue), 2), ((Colour::Blue, Colour::Red), 1)],
            "counted: {tally:?}"
        );
        assert_eq!(tally.total(), 3);
    }
}
