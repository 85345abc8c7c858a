//! An upstream's announcement of the time for which it keeps a connection: the `Keep-Alive` response field. RFC 2068
//! section 19.7.1.1 only reserved that; `timeout` and `max` are the parameters that Apache, nginx, Node and Jetty send.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::pool::KeepAlive;

pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Returns the limits that the fields announce; `None` if they announce none.
pub(super) fn announced(headers: &HeaderMap) -> Option<KeepAlive> {
    let mut announced = KeepAlive::default();
    let fields = headers.get_all(KEEP_ALIVE).iter().filter_map(|field| field.to_str().ok());
    for parameter in fields.flat_map(|field| field.split(',')) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        // A number above four billion is ignored.
        let Ok(number) = value.trim().trim_matches('"').parse::<u32>() else { continue };
        match name.trim() {
            name if name.eq_ignore_ascii_case("timeout") => {
                announced.timeout = Some(Duration::from_secs(number.into()));
            }
            name if name.eq_ignore_ascii_case("max") => announced.max = Some(number.into()),
            _ => {}
        }
    }
    (announced != KeepAlive::default()).then_some(announced)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeout_and_max_are_read_whatever_stands_beside_them() {
        let said = |timeout: Option<u64>, max| {
            Some(KeepAlive { timeout: timeout.map(Duration::from_secs), max })
        };
        for (fields, expected) in [
            (&["timeout=5, max=100"][..], said(Some(5), Some(100))),
            (&["Timeout = \"15\""], said(Some(15), None)),
            (&["max=0", "timeout=3"], said(Some(3), Some(0))),
            (&["hello", "timeout", "timeout=", "timeout=-1, max=1.5"], None),
            (&["timeout=99999999999999999999, timeout=7,,="], said(Some(7), None)),
            (&[], None),
        ] {
            let headers: HeaderMap =
                fields.iter().map(|field| (KEEP_ALIVE, HeaderValue::from_static(field))).collect();
            assert_eq!(announced(&headers), expected, "{fields:?}");
        }
    }
}
