//! Command lines in manifests.

use std::process::Command;

use serde_json::Value;

/// Fails if the program does not know a subcommand, an option or a value among these arguments: a `--help` at their end
/// is answered only if everything before is right.
#[track_caller]
pub(crate) fn understood(arguments: &Value) {
    let arguments = arguments.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let answer = Command::new(env!("CARGO_BIN_EXE_warmline"))
        .args(arguments.clone())
        .arg("--help")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{:?}: {said}", arguments.collect::<Vec<_>>());
}

#[test]
fn an_unknown_option_or_value_before_the_request_for_help_is_an_error() {
    for wrong in [&["run", "--confind", "--help"][..], &["run", "--log-level", "loud", "--help"]] {
        let answer = Command::new(env!("CARGO_BIN_EXE_warmline")).args(wrong).output().unwrap();
        assert_eq!(answer.status.code(), Some(2), "{wrong:?}");
    }
}
