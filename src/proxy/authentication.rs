//! Authentication that belongs to a connection and not to a request: NTLM, Negotiate with its relatives, and `CredSSP`.
//!
//! A server takes each request on such a connection for a request of the client that authenticated there (RFC 4559
//! section 6). From the first sign of such authentication on, the connection therefore serves that client alone; and
//! all requests of the handshake go over the same connection, as the server remembers the earlier ones with it.

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{AUTHORIZATION, PROXY_AUTHENTICATE, WWW_AUTHENTICATE},
};

/// The authentication schemes, in upper case. `CredSSP`, as `WinRM` takes it, carries TLS and NTLM or Kerberos within
/// its messages.
const SCHEMES: [&[u8]; 6] = [b"NTLM", b"NEGOTIATE", b"NEGO2", b"KERBEROS", b"PKU2U", b"CREDSSP"];

/// The meaning of a response for authentication of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The response asks for none of these schemes.
    None,
    /// The server offers one of these schemes.
    Offered,
    /// The server has answered a message of the handshake, and waits for the next one on this connection.
    Midway,
}

/// True if a request with these fields authenticates the connection that it is sent on.
pub(super) fn is_in(request: &HeaderMap) -> bool {
    request.contains_key(AUTHORIZATION) && strongest(request, &AUTHORIZATION) != Challenge::None
}

/// Returns what a response means for authentication of its connection.
pub(super) fn challenge(status: StatusCode, response: &HeaderMap) -> Challenge {
    match status {
        StatusCode::UNAUTHORIZED => strongest(response, &WWW_AUTHENTICATE),
        // The client's reply to this belongs to the hop and is never sent to the upstream: no handshake comes of it.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            match strongest(response, &PROXY_AUTHENTICATE) {
                Challenge::None => strongest(response, &WWW_AUTHENTICATE),
                _ => Challenge::Offered,
            }
        }
        _ => Challenge::None,
    }
}

/// Returns the strongest meaning among all values of a field: a handshake midway before an offer, an offer before none.
#[cold]
fn strongest(fields: &HeaderMap, name: &HeaderName) -> Challenge {
    let values = fields.get_all(name).iter();
    let challenges = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let found =
        challenges.fold((false, false), |(any, token), challenge| match scheme(challenge) {
            Challenge::None => (any, token),
            Challenge::Offered => (true, token),
            Challenge::Midway => (true, true),
        });
    match found {
        (false, _) => Challenge::None,
        (true, false) => Challenge::Offered,
        (true, true) => Challenge::Midway,
    }
}

/// Reads one element of a list of challenges: a scheme, alone or with a token, or a parameter of the scheme before it.
/// A comma within quotes divides too: at worst a connection is kept from others that could have been shared.
fn scheme(challenge: &[u8]) -> Challenge {
    let challenge = challenge.trim_ascii();
    let end = challenge.iter().position(u8::is_ascii_whitespace).unwrap_or(challenge.len());
    let (name, token) = challenge.split_at(end);
    if !SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(name)) {
        Challenge::None
    } else if token.is_empty() {
        Challenge::Offered
    } else {
        Challenge::Midway
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn fault_01_a_challenge_is_found_among_others_in_one_field_or_several_in_any_case() {
        for (values, expected) in [
            (&["NTLM"][..], Challenge::Offered),
            (&["negotiate"], Challenge::Offered),
            (&["Nego2"], Challenge::Offered),
            (&["Kerberos"], Challenge::Offered),
            (&["pku2u"], Challenge::Offered),
            (&["Basic realm=\"WSMAN\"", "CredSSP"], Challenge::Offered),
            (&["Basic realm=\"a\"", "NTLM"], Challenge::Offered),
            (&["Basic realm=\"a\", NTLM"], Challenge::Offered),
            (&["Digest realm=\"a, b\", nonce=\"c\",Negotiate ,\tNTLM"], Challenge::Offered),
            (&["Negotiate, Basic realm=\"a\""], Challenge::Offered),
            (&["NTLM TlRMTVNTUAACAAAA"], Challenge::Midway),
            (&["Negotiate", "NTLM TlRMTVNTUAACAAAA"], Challenge::Midway),
            (&["Negotiate YII=, Basic realm=\"a\""], Challenge::Midway),
            (&["PKU2U YII="], Challenge::Midway),
            (&["CredSSP FgMDAFo="], Challenge::Midway),
            (&[""], Challenge::None),
            (&["Basic realm=\"NTLM\""], Challenge::None),
            (&["Bearer ntlm=\"x\", Negotiated"], Challenge::None),
            (&["NTLMv2"], Challenge::None),
            (&["CredSSPs, X-PKU2U"], Challenge::None),
        ] {
            let found = challenge(StatusCode::UNAUTHORIZED, &fields(&WWW_AUTHENTICATE, values));
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn fault_01_only_401_and_407_challenge_and_407_begins_no_handshake() {
        let found = |status: u16, name, value| {
            let status = StatusCode::from_u16(status).expect("a status");
            challenge(status, &fields(&name, &[value]))
        };
        assert_eq!(found(407, PROXY_AUTHENTICATE, "NTLM TlRM"), Challenge::Offered);
        assert_eq!(found(407, WWW_AUTHENTICATE, "NTLM"), Challenge::Offered);
        assert_eq!(found(401, PROXY_AUTHENTICATE, "NTLM"), Challenge::None);
        assert_eq!(found(200, WWW_AUTHENTICATE, "Negotiate YII="), Challenge::None);
    }

    #[test]
    fn fault_01_a_request_is_known_by_the_scheme_of_its_authorization() {
        for (value, expected) in [
            ("NTLM TlRMTVNTUAABAAAA", true),
            ("negotiate YIIG", true),
            ("Negotiate", true),
            ("CredSSP FgMBAHM=", true),
            ("PKU2U YIIG", true),
            ("Basic bnRsbTpudGxt", false),
            ("Bearer Negotiate", false),
        ] {
            assert_eq!(is_in(&fields(&AUTHORIZATION, &[value])), expected, "{value}");
        }
        assert!(!is_in(&HeaderMap::new()));
    }
}
