//! The media types that a client accepts.

use axum::http::{HeaderMap, header::ACCEPT};

/// True if an Accept field names this media type. The wildcard `*/*` does not count.
pub(super) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.any(|accept| accept.contains(media))
}
