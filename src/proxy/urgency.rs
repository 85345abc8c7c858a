//! The urgency that a request asks for: the parameter `u` of RFC 9218, or a bare number.

use http::{HeaderMap, HeaderName};

use crate::pool::DEFAULT_URGENCY;

/// Returns the urgency, 0 (most urgent) to 7 (least urgent); the default if the field is missing or not understood (RFC
/// 9218 section 4).
pub(super) fn of(headers: &HeaderMap, field: &HeaderName) -> u8 {
    let said = headers.get(field).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A dictionary's last member counts (RFC 8941 section 3.2).
    let member = said.split(',').rev().find_map(|member| {
        let member = member.trim();
        let number = member.strip_prefix("u=").unwrap_or(member);
        number.split(';').next()?.parse().ok()
    });
    member.filter(|urgency| *urgency <= 7).unwrap_or(DEFAULT_URGENCY)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::HeaderName};

    use super::*;

    #[test]
    fn urgency_is_read_from_a_dictionary_or_a_bare_number_and_nonsense_counts_as_nothing() {
        let field = HeaderName::from_static("priority");
        for (value, urgency) in [
            ("u=0", 0),
            ("u=7, i", 7),
            ("i, u=1;x=2", 1),
            ("u=5, u=2", 2),
            ("4", 4),
            ("u=8", DEFAULT_URGENCY),
            ("u=-1", DEFAULT_URGENCY),
            ("urgent", DEFAULT_URGENCY),
            ("", DEFAULT_URGENCY),
        ] {
            let headers = [(field.clone(), HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(of(&headers, &field), urgency, "{value}");
        }
        assert_eq!(of(&HeaderMap::new(), &field), DEFAULT_URGENCY);
    }
}
