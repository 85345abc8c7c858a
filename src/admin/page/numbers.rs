//! Numbers in the forms that the page shows.

use std::{fmt, time::Duration};

use crate::telemetry::{Quantile, log::HumanDuration};

/// A count, with a comma between thousands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.char_indices() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A number per second: `0`, `0.4`, `1,204`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PerSecond(pub f64);

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate if rate < 0.05 => f.write_str("0"),
            rate if rate < 9.95 => write!(f, "{rate:.1}"),
            #[allow(clippy::cast_sign_loss, reason = "it is above 9")]
            rate => write!(f, "{}", Count(rate.round() as u64)),
        }
    }
}

/// A share from 0 to 1 in percent, rounded down, so that only the whole is 100 %.
#[derive(Debug, Clone, Copy)]
pub(super) struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            share if share >= 1.0 => f.write_str("100 %"),
            share => write!(f, "{:.1} %", (share * 1000.0).floor() / 10.0),
        }
    }
}

/// Returns a duration for people, or a dash if there is none.
pub(super) fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".into(), |time| HumanDuration(time).to_string())
}

/// Returns a quantile for people, or a dash if there is none.
pub(super) fn quantile(quantile: Option<Quantile>) -> String {
    quantile.map_or_else(|| "–".into(), |quantile| quantile.to_string())
}

/// Returns the count with the word in the right number: `1 request`, `2 requests`.
pub(super) fn plural(count: u64, word: &str) -> String {
    format!("{} {word}{}", Count(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Count(count).to_string(), text);
        }
    }

    #[test]
    fn rates_have_a_decimal_where_it_says_something() {
        for (rate, text) in
            [(0.0, "0"), (0.04, "0"), (0.44, "0.4"), (9.9, "9.9"), (1203.6, "1,204")]
        {
            assert_eq!(PerSecond(rate).to_string(), text);
        }
    }

    #[test]
    fn all_is_said_of_all_alone() {
        for (share, text) in [(1.0, "100 %"), (0.9999, "99.9 %"), (0.0, "0.0 %"), (0.975, "97.5 %")]
        {
            assert_eq!(Percent(share).to_string(), text);
        }
    }
}
