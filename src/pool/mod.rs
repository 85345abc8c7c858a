//! stub

use std::{num::NonZeroU64, time::Duration};

/// A pool's numbers, validated; the design's section 2 says what each does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The strict cap: connecting, in use, idle and closing together. At least 1.
    pub max_connections: usize,
    /// How many may be idle; `None` is unlimited, 0 keeps none.
    pub max_idle: Option<usize>,
    /// The period of the purge rule; zero keeps none idle.
    pub purge_delay: Duration,
    /// How long one may be idle; zero: no limit.
    pub idle_timeout: Duration,
    /// How old one may become, before jitter; zero: no limit.
    pub max_age: Duration,
    /// Requests per connection; `None` is unlimited.
    pub max_requests: Option<NonZeroU64>,
    /// How many may wait without a dial of their own.
    pub max_queue: usize,
    /// How long one may wait without a dial of its own.
    pub queue_timeout: Duration,
}
