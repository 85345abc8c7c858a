//! Conclusions from an alert that ends a connection: whether another try would meet it again, and whether the size of
//! Warmline's first message may be its cause.

use rustls::AlertDescription as Alert;

/// True if an alert says that its sender does not accept something, so that another try would end in the same way.
/// Other alerts tell of accidents on the way or at the sender (RFC 8446 section 6).
pub fn is_final(alert: Alert) -> bool {
    !matches!(
        alert,
        Alert::CloseNotify
            | Alert::BadRecordMac
            | Alert::DecryptionFailed
            | Alert::RecordOverflow
            | Alert::DecompressionFailure
            | Alert::DecryptError
            | Alert::InternalError
            | Alert::UserCanceled
            | Alert::Unknown(_)
    )
}

/// True if servers send this alert on a first message that is too large for them: they read a part of it, or do not
/// know how to choose from it. An alert that shows that the message was read (for the version, the name, a certificate,
/// the application's protocol) does not count.
pub(super) fn may_be_for_size(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::CloseNotify
            | Alert::UnexpectedMessage
            | Alert::RecordOverflow
            | Alert::HandshakeFailure
            | Alert::IllegalParameter
            | Alert::DecodeError
            | Alert::InternalError
            | Alert::UserCanceled
            | Alert::MissingExtension
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::alert_name;

    /// Each alert that has a name; the second column is true if it is final, the third if size may be its cause.
    const TABLE: [(&str, bool, bool); 35] = [
        ("close_notify", false, true),
        ("unexpected_message", true, true),
        ("bad_record_mac", false, false),
        ("decryption_failed", false, false),
        ("record_overflow", false, true),
        ("decompression_failure", false, false),
        ("handshake_failure", true, true),
        ("no_certificate", true, false),
        ("bad_certificate", true, false),
        ("unsupported_certificate", true, false),
        ("certificate_revoked", true, false),
        ("certificate_expired", true, false),
        ("certificate_unknown", true, false),
        ("illegal_parameter", true, true),
        ("unknown_ca", true, false),
        ("access_denied", true, false),
        ("decode_error", true, true),
        ("decrypt_error", false, false),
        ("export_restriction", true, false),
        ("protocol_version", true, false),
        ("insufficient_security", true, false),
        ("internal_error", false, true),
        ("inappropriate_fallback", true, false),
        ("user_canceled", false, true),
        ("no_renegotiation", true, false),
        ("missing_extension", true, true),
        ("unsupported_extension", true, false),
        ("certificate_unobtainable", true, false),
        ("unrecognized_name", true, false),
        ("bad_certificate_status_response", true, false),
        ("bad_certificate_hash_value", true, false),
        ("unknown_psk_identity", true, false),
        ("certificate_required", true, false),
        ("no_application_protocol", true, false),
        ("ech_required", true, false),
    ];

    #[test]
    fn fault_17_each_alert_is_final_or_an_accident_as_the_table_says() {
        let known = (0..=u8::MAX).map(Alert::from).filter(|a| !matches!(a, Alert::Unknown(_)));
        let said: Vec<_> = known
            .map(|alert| (alert_name(alert), is_final(alert), may_be_for_size(alert)))
            .collect();
        let table = TABLE.map(|(name, last, size)| (name.to_owned(), last, size));
        assert_eq!(said, table);
        let unknown = Alert::Unknown(99);
        assert!(!is_final(unknown) && !may_be_for_size(unknown));
    }
}
