//! What a client says that it takes.

use axum::http::{HeaderMap, header::ACCEPT};

/// Whether this media type is named; `*/*` does not count.
pub(super) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.any(|accept| accept.contains(media))
}
