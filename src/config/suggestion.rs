//! Remedies for unknown keys: a key is misspelt, is in the wrong place, or does not exist in this version.

use super::kind::quote;

/// Keys that other versions have or will have.
const NOT_YET: &[&str] = &[
    "affinity",
    "alpn",
    "balance",
    "crl",
    "crls",
    "health",
    "healthCheck",
    "http2",
    "passthrough",
    "protocol",
    "protocols",
    "upgrade",
];

/// Keys that turn verification off in other programs.
const UNVERIFIED: &[&str] = &[
    "allowInsecure",
    "insecure",
    "insecureSkipVerify",
    "rejectUnauthorized",
    "skipVerify",
    "sslVerify",
    "verify",
    "verifyPeer",
];

/// Keys that configure an HTTP proxy in other programs.
const PROXIES: &[&str] =
    &["forwardProxy", "httpProxy", "httpsProxy", "noProxy", "proxies", "proxy", "proxyUrl", "via"];

/// Returns what is wrong with an unknown key, and what would be right; `expected` are the keys that exist at its place.
pub(super) fn remedy_for_key(key: &str, expected: &[&str]) -> String {
    if let Some(known) = NOT_YET.iter().find(|known| same(known, key)) {
        return format!("`{known}` is not in this version; remove it");
    }
    let wrong = format!("{} is not a key here", quote(key));
    if UNVERIFIED.iter().any(|known| same(known, key)) {
        return format!(
            "{wrong}: nothing turns verification off; put the CA, or the server's own certificate, into `tls.trust`, and \
             the name that the certificate carries into `tls.verifyName`"
        );
    }
    if PROXIES.iter().any(|known| same(known, key)) {
        return format!(
            "{wrong}: this version dials each endpoint itself and goes through no HTTP proxy (HTTPS_PROXY is not read either); \
             take it out, and let the network pass connections to the endpoint"
        );
    }
    if let Some(meant) = closest(key, expected) {
        return format!("{wrong}; did you mean `{meant}`?");
    }
    match super::places_of(key).as_slice() {
        [] => format!("{wrong}; write one of {}", expected.join(", ")),
        places => format!("{wrong}; it belongs at {}", places.join(" or ")),
    }
}

/// Returns the expected key that is most like this one; `None` if more than a third of its letters differ.
fn closest<'a>(key: &str, expected: &[&'a str]) -> Option<&'a str> {
    let (distance, meant) =
        expected.iter().map(|known| (distance(&folded(known), &folded(key)), *known)).min()?;
    (distance * 3 <= meant.len()).then_some(meant)
}

fn same(a: &str, b: &str) -> bool {
    folded(a) == folded(b)
}

/// Returns the key's letters in lower case without `_` and `-`, so that `max_idle`, `max-idle` and `MaxIdle` are equal.
/// Keys are cut at 40 characters, because every known key is shorter.
fn folded(key: &str) -> Vec<char> {
    key.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .take(40)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Returns the Levenshtein distance: the number of insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_insertions_deletions_and_replacements() {
        for (a, b, expected) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(&folded(a), &folded(b)), expected, "{a} {b}");
        }
    }
}
