//! Texts for TLS errors: rustls prints most of them in the notation of its own source.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Returns the name of an alert as the RFCs and other programs write it (RFC 8446 section 6).
pub fn alert_name(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let name = match alert {
        A::CloseNotify => "close_notify",
        A::UnexpectedMessage => "unexpected_message",
        A::BadRecordMac => "bad_record_mac",
        A::DecryptionFailed => "decryption_failed",
        A::RecordOverflow => "record_overflow",
        A::DecompressionFailure => "decompression_failure",
        A::HandshakeFailure => "handshake_failure",
        A::NoCertificate => "no_certificate",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::IllegalParameter => "illegal_parameter",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::ExportRestriction => "export_restriction",
        A::ProtocolVersion => "protocol_version",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::InappropriateFallback => "inappropriate_fallback",
        A::UserCanceled => "user_canceled",
        A::NoRenegotiation => "no_renegotiation",
        A::MissingExtension => "missing_extension",
        A::UnsupportedExtension => "unsupported_extension",
        A::CertificateUnobtainable => "certificate_unobtainable",
        A::UnrecognisedName => "unrecognized_name",
        A::BadCertificateStatusResponse => "bad_certificate_status_response",
        A::BadCertificateHashValue => "bad_certificate_hash_value",
        A::UnknownPSKIdentity => "unknown_psk_identity",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        A::EncryptedClientHelloRequired => "ech_required",
        other => return format!("number {}", u8::from(other)),
    };
    name.into()
}

/// Returns a text for an error of a TLS connection. The handshake's note has better ones for refused certificates.
pub fn words(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("the alert {}", alert_name(*alert)),
        Error::InvalidMessage(message) => invalid_message(message).into(),
        Error::PeerIncompatible(why) => incompatible(why).into(),
        Error::InvalidCertificate(refusal) => {
            format!("its certificate was refused: {}", refused(refusal))
        }
        Error::NoCertificatesPresented => "it sent no certificate".into(),
        Error::DecryptError => {
            "a record cannot be decrypted: bytes were changed on the way, or it broke off".into()
        }
        Error::PeerSentOversizedRecord => "it sent a record larger than TLS allows".into(),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "it sent a TLS message out of turn".into()
        }
        Error::PeerMisbehaved(_) => {
            "it broke the rules of TLS: it is faulty, or something between changes bytes".into()
        }
        Error::NoApplicationProtocol => "it knows none of the protocols that were offered".into(),
        Error::General(text) => format!("TLS failed on this side: {text}"),
        _ => "TLS failed on this side".into(),
    }
}

/// Replaces the TLS error inside an I/O error by its text, so that the printed error shows that; other errors stay as
/// they are.
pub fn in_words(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => io::Error::new(error.kind(), words(tls)),
        None => error,
    }
}

/// Returns the text for a certificate that was refused; it follows "its certificate was refused: ".
fn refused(refusal: &CertificateError) -> &'static str {
    match refusal {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it was issued by a CA that is not trusted here"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet (or this machine's clock is wrong)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers"
        }
        _ => "it is malformed, or of a kind that is not taken",
    }
}

/// Returns the text for a TLS message of the peer that cannot be read.
fn invalid_message(message: &InvalidMessage) -> &'static str {
    match message {
        InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion => {
            "what it sent is not TLS: does that port speak TLS at all?"
        }
        InvalidMessage::CertificatePayloadTooLarge | InvalidMessage::HandshakePayloadTooLarge => {
            "its certificates, or another message of the handshake, are larger than 64 KiB: have it send the chain alone"
        }
        InvalidMessage::MessageTooLarge => "it sent a record larger than TLS allows",
        _ => {
            "it sent a TLS message that cannot be read: it is faulty, or something between changes bytes"
        }
    }
}

/// Returns the text for a peer with which no version, cipher suite, group or signature is common.
fn incompatible(why: &PeerIncompatible) -> &'static str {
    match why {
        PeerIncompatible::NoCipherSuitesInCommon => "it takes none of our cipher suites",
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired => {
            "it takes none of our groups for the key exchange (X25519, P-256, P-384 and hybrid ones)"
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "it has no signature algorithm in common with us"
        }
        PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
            "it speaks TLS 1.1 or older alone, and 1.2 is the oldest that is spoken here; update it"
        }
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "it speaks TLS 1.2, and tls.minVersion is 1.3"
        }
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
            "it lacks the extended master secret (RFC 7627), without which TLS 1.2 is not safe; update it"
        }
        _ => "it speaks a variety of TLS that is not spoken here; update it",
    }
}

#[cfg(test)]
mod tests {
    use rustls::PeerMisbehaved;

    use super::*;

    #[test]
    fn fault_14_no_error_of_tls_is_told_in_the_notation_of_source_code() {
        let errors = [
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::Unknown(99)),
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge),
            Error::InvalidMessage(InvalidMessage::MissingData("KeyShare")),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
            Error::DecryptError,
            Error::HandshakeNotComplete,
        ];
        for error in errors {
            let said = words(&error);
            // Two capitals inside of words that follow small letters are how Rust names its variants.
            let camel = said.split_whitespace().any(|word| {
                word.char_indices()
                    .skip(1)
                    .any(|(at, c)| c.is_uppercase() && word[..at].ends_with(char::is_lowercase))
                    && !(word.contains("KiB") || word.contains("tls.minVersion"))
            });
            assert!(!camel && !said.contains("::") && !said.contains('{'), "{said}");
        }
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::Unknown(99)), "number 99");
    }
}
