//! The count of a connection's streams. A stream is one exchange on the connection; HTTP/1.1 allows one at a time.

/// The streams that are open on a connection, and the number that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams {
    open: u32,
    limit: u32,
}

impl Streams {
    /// Returns the streams of a connection that allows this number at a time, and has none open.
    pub(super) fn new(limit: u32) -> Self {
        Self { open: 0, limit }
    }

    /// Returns the number of open streams.
    pub(super) fn open(self) -> u32 {
        self.open
    }

    /// Begins a stream; `None` if there is no room for it.
    pub(super) fn begin(self) -> Option<Self> {
        self.has_room().then(|| Self { open: self.open + 1, ..self })
    }

    /// Ends a stream.
    pub(super) fn end(self) -> Self {
        Self { open: self.open.saturating_sub(1), ..self }
    }

    /// Puts another limit in force. Streams that are open stay so, even if the limit is lower than their number.
    #[cfg(test)]
    pub(super) fn allow(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// True if one more stream may begin.
    pub(super) fn has_room(self) -> bool {
        self.open < self.limit
    }

    /// True if no stream is open.
    pub(super) fn is_idle(self) -> bool {
        self.open == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connection_has_room_while_fewer_streams_are_open_than_it_allows() {
        for (open, limit, has_room, is_idle) in [
            (0, 1, true, true),
            (1, 1, false, false),
            (0, 3, true, true),
            (2, 3, true, false),
            (3, 3, false, false),
            (0, 0, false, true),
            (3, 0, false, false),
            (3, 2, false, false),
        ] {
            let streams = Streams { open, limit };
            assert_eq!((streams.has_room(), streams.is_idle()), (has_room, is_idle), "{streams:?}");
            assert_eq!(streams.begin().is_some(), has_room, "{streams:?}");
        }
    }

    #[test]
    fn a_lower_limit_ends_no_stream_and_lets_none_begin_until_enough_have_ended() {
        let mut streams = Streams { open: 3, limit: 3 }.allow(2);
        for (open, begins) in [(3, false), (2, false), (1, true), (0, true)] {
            assert_eq!((streams.open(), streams.begin().is_some()), (open, begins));
            streams = streams.end();
        }
    }

    proptest! {
        #[test]
        fn no_stream_begins_at_the_limit_and_each_that_began_ends_once(
            steps in prop::collection::vec(prop_oneof![
                3 => Just(None),
                2 => Just(Some(u32::MAX)),
                1 => (0..4_u32).prop_map(Some),
            ], 0..100),
        ) {
            let (mut streams, mut open, mut limit) = (Streams::new(1), 0_u32, 1);
            for step in steps {
                match step {
                    None => {
                        prop_assert_eq!(streams.begin().is_some(), open < limit);
                        if let Some(begun) = streams.begin() {
                            (streams, open) = (begun, open + 1);
                        }
                    }
                    Some(u32::MAX) => (streams, open) = (streams.end(), open.saturating_sub(1)),
                    Some(other) => (streams, limit) = (streams.allow(other), other),
                }
                prop_assert_eq!(streams, Streams { open, limit });
                prop_assert_eq!(streams.is_idle(), open == 0);
            }
        }
    }
}
