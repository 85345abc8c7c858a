//! Amounts of CPU and memory as Kubernetes writes them: their comparison, and checks for the strict forms that
//! annotations may have.

/// The number 1 in billionths, the unit of [`amount`].
const ONE: i128 = 1_000_000_000;

/// Parses a Kubernetes quantity, and returns it in billionths. Returns `None` if the text is not a quantity, or if the
/// amount is too large.
pub(super) fn amount(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, over) = scale(suffix)?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(over)?;
    Some(digits.checked_mul(ONE)?.checked_mul(times)? / divisor)
}

/// Returns the multiplier and the divisor that a quantity's suffix stands for; `None` if there is no such suffix, or if
/// the number is too large.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, exponent: u32| base.checked_pow(exponent);
    Some(match suffix {
        "n" => (1, ONE),
        "u" => (1, power(10, 6)?),
        "m" => (1, power(10, 3)?),
        "" => (1, 1),
        "k" => (power(10, 3)?, 1),
        "M" => (power(10, 6)?, 1),
        "G" => (power(10, 9)?, 1),
        "T" => (power(10, 12)?, 1),
        "P" => (power(10, 15)?, 1),
        "E" => (power(10, 18)?, 1),
        "Ki" => (power(1024, 1)?, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = power(10, exponent.unsigned_abs())?;
            if exponent < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

/// True if the text is an amount of CPU above 0 in plain form: `50m`, `2`, `0.5`. Cores are below 1000, millicores
/// below 1,000,000.
pub(crate) fn is_cpu(text: &str) -> bool {
    if let Some(millis) = text.strip_suffix('m') {
        return is_positive(millis, 6);
    }
    match text.split_once('.') {
        None => is_positive(text, 3),
        Some((whole, fraction)) => {
            is_digits(whole, 3) && is_digits(fraction, 3) && !fraction.ends_with('0')
        }
    }
}

/// True if the text is an amount of memory above 0 in plain form: `64Mi`, `100M`, `1048576`.
pub(crate) fn is_memory(text: &str) -> bool {
    let number = ["Ki", "Mi", "Gi", "k", "M", "G"].iter().find_map(|unit| text.strip_suffix(unit));
    is_positive(number.unwrap_or(text), 15)
}

fn is_positive(text: &str, most: usize) -> bool {
    is_digits(text, most) && !text.starts_with('0')
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        for same in [
            &["1", "1000m", "1.0", "1e0", "1000000u", "0.001k", "1000000000n"][..],
            &["1Gi", "1024Mi", "1048576Ki", "1073741824", "1073741824000m"],
            &["100M", "100000k", "1e8", "100E6", "1000000e2"],
            &["0.5", "500m", ".5", "5e-1"],
        ] {
            let amounts: Vec<_> = same.iter().map(|text| amount(text)).collect();
            assert!(amounts[0].is_some(), "{same:?}");
            assert!(amounts.iter().all(|each| *each == amounts[0]), "{same:?} {amounts:?}");
        }
        assert!(amount("128Mi") > amount("128M"));
        assert!(amount("18E") > amount("15Ei"));
    }

    #[test]
    fn text_that_is_not_a_quantity_has_no_amount() {
        for text in [
            "",
            ".",
            "m",
            "1.2.3",
            "1x",
            "-1",
            "+1",
            "1 ",
            "1e",
            "1e99",
            "1mi",
            "9".repeat(60).as_str(),
        ] {
            assert_eq!(amount(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_annotation_has_one_of_few_plain_forms_and_is_more_than_nothing() {
        for text in
            ["1m", "50m", "1500m", "999999m", "1", "16", "999", "0.5", "0.25", "1.125", "000.1"]
        {
            assert!(is_cpu(text) && amount(text) > Some(0), "{text}");
        }
        for text in [
            "", "0", "0m", "0.0", "0.50", "05", "1000", "1000000m", "1.5m", ".5", "5.", "1e3",
            "-1", "1u", "1Gi", " 1", "1 ", "1\n", "１",
        ] {
            assert!(!is_cpu(text), "{text:?}");
        }
        for text in ["1", "64Mi", "1Gi", "100M", "500k", "65536Ki", "2G", "999999999999999"] {
            assert!(is_memory(text) && amount(text) > Some(0), "{text}");
        }
        for text in [
            "",
            "0",
            "0Mi",
            "064Mi",
            "1.5Gi",
            "64mi",
            "64MB",
            "64m",
            "1Ti",
            "-1",
            "1e6",
            "Mi",
            "64Mi\n",
            "1000000000000000",
        ] {
            assert!(!is_memory(text), "{text:?}");
        }
    }
}
