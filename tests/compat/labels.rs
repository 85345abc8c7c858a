//! The values of labels that the program has, whether or not something was counted under them.

use std::collections::{BTreeMap, BTreeSet};

use warmline::{
    config::{Outcome, SourceKind as Origin},
    pool::{EndReason, Rejection, Reuse},
    telemetry::ends::{Facing, Manner, Side},
    tls::{Handshake, VerifyFailure, Version},
    upstream::{Code, Party, RetryReason, RetryRefusal, Stage},
};

macro_rules! values {
    ($($label:ident),+) => {
        BTreeMap::from([$((stringify!($label), $label::ALL.iter().map(|value| value.as_str()).collect())),+])
    };
}

/// Returns the values by the label's name in the sources.
pub(crate) fn all() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    values![
        Code,
        EndReason,
        Facing,
        Handshake,
        Manner,
        Origin,
        Outcome,
        Party,
        Rejection,
        RetryReason,
        RetryRefusal,
        Reuse,
        Side,
        Stage,
        VerifyFailure,
        Version
    ]
}
