//! The kinds of plain values: durations, sizes, numbers, and words of a fixed set.

use std::{marker::PhantomData, num::NonZeroU64, time::Duration};

use http::HeaderName;
use schemars::{Schema, json_schema};
use serde::Serialize;

use super::written::Kind;
use crate::{
    connect::HeaderCase,
    pool::Sharing,
    telemetry::log::{Access, Format, Level},
    tls::{KeyExchange, MinVersion},
};

/// A duration with its unit, such as `200ms`; `0` is allowed.
#[derive(Debug)]
pub(super) struct Time;

/// A duration above zero with its unit, such as `5s`.
#[derive(Debug)]
pub(super) struct PositiveTime;

/// The longest duration that is accepted: longer ones are mistakes, and would overflow clocks.
const LONGEST: Duration = Duration::from_hours(365 * 24);

impl Kind for Time {
    type Value = Duration;

    fn read(text: &str) -> Result<Duration, String> {
        if text == "0" {
            return Ok(Duration::ZERO);
        }
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let Ok(count) = number.parse::<u64>() else {
            return Err(format!("{} is not a duration; {DURATIONS}", quote(text)));
        };
        let milliseconds = match unit {
            "ms" => Some(count),
            "s" => count.checked_mul(1_000),
            "m" => count.checked_mul(60_000),
            "h" => count.checked_mul(3_600_000),
            "" => return Err(format!("{} has no unit; write {count}s or {count}ms", quote(text))),
            _ => return Err(format!("{} is not a duration; {DURATIONS}", quote(text))),
        };
        refuse_leading_zero(text)?;
        milliseconds
            .map(Duration::from_millis)
            .filter(|duration| *duration <= LONGEST)
            .ok_or_else(|| format!("{} is longer than a year; write at most 8760h", quote(text)))
    }

    /// Shows the duration in its largest whole unit: `200ms`, `90s`, `1h`.
    fn show(value: &Duration) -> impl Serialize {
        let millis = value.as_millis();
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let unit =
            units.into_iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
        match unit {
            Some((name, unit)) => format!("{}{name}", millis / unit),
            None if millis == 0 => "0".into(),
            None => format!("{millis}ms"),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^(0|(0+|[1-9][0-9]*)(ms|s|m|h))$",
            "minimum": 0,
            "maximum": 0,
        })
    }
}

const DURATIONS: &str = "write one whole number with its unit: 200ms, 5s, 1m or 1h";

impl Kind for PositiveTime {
    type Value = Duration;

    fn read(text: &str) -> Result<Duration, String> {
        let duration = Time::read(text)?;
        if duration.is_zero() {
            return Err(format!(
                "{} is zero; write a duration above zero, such as 5s (there is no \"no limit\" here; 24h comes near it)",
                quote(text)
            ));
        }
        Ok(duration)
    }

    fn show(value: &Duration) -> impl Serialize {
        Time::show(value)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[1-9][0-9]*(ms|s|m|h)$" })
    }
}

/// A number of bytes within bounds, with or without a unit: `32768` or `32KiB`.
#[derive(Debug)]
pub(super) struct Bytes<const LEAST: usize, const MOST: usize>;

impl<const LEAST: usize, const MOST: usize> Kind for Bytes<LEAST, MOST> {
    type Value = usize;

    fn read(text: &str) -> Result<usize, String> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let factor = match unit {
            "" => Some(1),
            "KiB" => Some(1024),
            "MiB" => Some(1024 * 1024),
            _ => None,
        };
        let (Ok(count), Some(factor)) = (number.parse::<usize>(), factor) else {
            return Err(format!(
                "{} is not a size; write bytes, KiB or MiB: 32768, 32KiB or 1MiB",
                quote(text)
            ));
        };
        refuse_leading_zero(text)?;
        count.checked_mul(factor).filter(|bytes| (LEAST..=MOST).contains(bytes)).ok_or_else(|| {
            format!(
                "{} is out of bounds; write {}KiB to {}KiB",
                quote(text),
                LEAST / 1024,
                MOST / 1024
            )
        })
    }

    fn show(value: &usize) -> impl Serialize {
        *value
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^[1-9][0-9]*(KiB|MiB)?$",
            "minimum": LEAST,
            "maximum": MOST,
        })
    }
}

/// A whole number within bounds, read as an `N`.
#[derive(Debug)]
pub(super) struct Count<const LEAST: usize, const MOST: usize, N = usize>(PhantomData<N>);

impl<const LEAST: usize, const MOST: usize, N> Kind for Count<LEAST, MOST, N>
where
    N: TryFrom<i64> + TryInto<usize> + Copy + Serialize,
{
    type Value = N;

    fn read(text: &str) -> Result<N, String> {
        let count = whole(text).ok_or_else(|| {
            format!("{} is not a whole number; write one from {LEAST} to {MOST}", quote(text))
        })?;
        refuse_leading_zero(text)?;
        N::try_from(count)
            .ok()
            .filter(|count| (*count).try_into().is_ok_and(|count| (LEAST..=MOST).contains(&count)))
            .ok_or_else(|| format!("{} is out of bounds; write {LEAST} to {MOST}", quote(text)))
    }

    fn show(value: &N) -> impl Serialize {
        *value
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// A whole number up to a bound, read as `None` for 0, which is no limit.
#[derive(Debug)]
pub(super) struct Limit<const MOST: usize>;

impl<const MOST: usize> Kind for Limit<MOST> {
    type Value = Option<NonZeroU64>;

    fn read(text: &str) -> Result<Self::Value, String> {
        Count::<0, MOST, u64>::read(text).map(NonZeroU64::new)
    }

    fn show(value: &Self::Value) -> impl Serialize {
        value.map_or(0, NonZeroU64::get)
    }

    fn schema() -> Schema {
        Count::<0, MOST, u64>::schema()
    }
}

/// A whole number, or -1 for no limit (as in `HAProxy`'s `pool-max-conn`); read as `None` for -1.
#[derive(Debug)]
pub(super) struct MaxIdle;

impl Kind for MaxIdle {
    type Value = Option<usize>;

    fn read(text: &str) -> Result<Option<usize>, String> {
        refuse_leading_zero(text)?;
        match whole(text) {
            Some(-1) => Ok(None),
            Some(count) if (0..=1_000_000).contains(&count) => Ok(usize::try_from(count).ok()),
            _ => Err(format!(
                "{} is out of bounds; write -1 (unlimited), 0 (keep none idle) or up to 1000000",
                quote(text)
            )),
        }
    }

    fn show(value: &Self::Value) -> impl Serialize {
        value.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": -1, "maximum": 1_000_000 })
    }
}

/// A share from `0%` to `100%`, read as the number before the percent sign.
#[derive(Debug)]
pub(super) struct Percent;

impl Kind for Percent {
    type Value = u32;

    fn read(text: &str) -> Result<u32, String> {
        let number = text.strip_suffix('%').and_then(whole);
        let percent = number
            .and_then(|percent| u32::try_from(percent).ok())
            .filter(|percent| *percent <= 100)
            .ok_or_else(|| format!("{} is not a percentage; write 0% to 100%", quote(text)))?;
        refuse_leading_zero(text)?;
        Ok(percent)
    }

    fn show(value: &u32) -> impl Serialize {
        format!("{value}%")
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(0+|[1-9][0-9]?|100)%$" })
    }
}

/// Reads plain decimal digits, perhaps after a minus; `None` for anything else.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Refuses a number with a leading zero, such as `010`: this reader takes it for ten, and YAML readers that know octal
/// numbers take it for eight.
fn refuse_leading_zero(text: &str) -> Result<(), String> {
    let number = text.trim_start_matches('-');
    let plain = number.trim_start_matches('0');
    if plain.len() == number.len() || !plain.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    let octal = match i64::from_str_radix(plain, 8) {
        Ok(octal) if octal.to_string() != plain => {
            format!(", which older YAML readers take for octal, {octal} in decimal")
        }
        _ => String::new(),
    };
    let right = text.replacen(number, plain, 1);
    Err(format!("{} has a leading zero{octal}; write {right}", quote(text)))
}

/// Declares a kind whose values are a fixed set of words.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $name:ident -> $value:ty { $($text:literal => $to:path),+ $(,)? }
        right: $right:literal
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl Kind for $name {
            type Value = $value;

            fn read(text: &str) -> Result<$value, String> {
                match text {
                    $($text => Ok($to),)+
                    _ => Err(format!("{} is not known here; write {}", quote(text), $right)),
                }
            }

            fn show(value: &$value) -> impl Serialize {
                match value {
                    $($to => $text,)+
                }
            }

            fn schema() -> Schema {
                json_schema!({ "enum": [$($text),+] })
            }
        }
    };
}

words! {
    /// The format of log lines.
    FormatKind -> Format { "json" => Format::Json, "text" => Format::Text }
    right: "json or text"
}

words! {
    /// The least severe level that is logged.
    LevelKind -> Level {
        "error" => Level::Error,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
    }
    right: "error, warn, info, debug or trace"
}

/// A switch: `true` or `false`.
#[derive(Debug)]
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| format!("{} is not known here; write true or false", quote(text)))
    }

    fn show(value: &bool) -> impl Serialize {
        *value
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

words! {
    /// The groups that TLS keys are agreed with.
    KeyExchangeKind -> KeyExchange {
        "auto" => KeyExchange::Auto,
        "classic" => KeyExchange::Classic,
        "hybrid" => KeyExchange::Hybrid,
    }
    right: "auto, classic or hybrid"
}

/// The requests that get an access line. `off` and `false` mean the same, because Helm's YAML turns `off` into `false`.
#[derive(Debug)]
pub(super) struct AccessKind;

impl Kind for AccessKind {
    type Value = Access;

    fn read(text: &str) -> Result<Access, String> {
        match text {
            "off" | "false" => Ok(Access::Off),
            "errors" => Ok(Access::Errors),
            "all" => Ok(Access::All),
            _ => Err(format!("{} is not known here; write off, errors or all", quote(text))),
        }
    }

    fn show(value: &Access) -> impl Serialize {
        match value {
            Access::Off => "off",
            Access::Errors => "errors",
            Access::All => "all",
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["off", false, "errors", "all"] })
    }
}

/// The lowest TLS version. Without quotes YAML reads it as a number, which is accepted too.
#[derive(Debug)]
pub(super) struct MinVersionKind;

impl Kind for MinVersionKind {
    type Value = MinVersion;

    fn read(text: &str) -> Result<MinVersion, String> {
        match text {
            "1.2" => Ok(MinVersion::Tls12),
            "1.3" => Ok(MinVersion::Tls13),
            _ => Err(format!(
                "{} is not a TLS version that Warmline speaks; write \"1.2\" or \"1.3\"",
                quote(text)
            )),
        }
    }

    fn show(value: &MinVersion) -> impl Serialize {
        match value {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

words! {
    /// The case of field names in requests and responses.
    HeaderCaseKind -> HeaderCase {
        "kept" => HeaderCase::Kept,
        "lower" => HeaderCase::Lower,
        "title" => HeaderCase::Title,
    }
    right: "kept, lower or title"
}

words! {
    /// The rule by which requests share idle connections (`pool.reuse`).
    ReuseKind -> Sharing {
        "always" => Sharing::Always,
        "aggressive" => Sharing::Aggressive,
        "safe" => Sharing::Safe,
        "never" => Sharing::Never,
    }
    right: "always, aggressive, safe or never"
}

/// The name of a request field, or `off`, which is read as `None`.
#[derive(Debug)]
pub(super) struct FieldName;

impl Kind for FieldName {
    type Value = Option<HeaderName>;

    fn read(text: &str) -> Result<Option<HeaderName>, String> {
        match text {
            "off" | "false" => Ok(None),
            "on" | "true" => Err(format!(
                "{} does not say which field; write its name, such as Priority, or off",
                quote(text)
            )),
            _ => HeaderName::try_from(text).map(Some).map_err(|_| {
                format!("{} is not a field name; write one, such as Priority, or off", quote(text))
            }),
        }
    }

    fn show(value: &Self::Value) -> impl Serialize {
        value.as_ref().map_or("off", HeaderName::as_str)
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "boolean"] })
    }
}

/// Returns a value as errors show it: between backquotes, with control characters escaped, cut after 80 characters. PEM
/// is never shown, because it could be a private key, and no password of a URL.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.contains("-----BEGIN") {
        return "this PEM text".into();
    }
    let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.into() };
    let shown: String = without_password(text).chars().take(LONGEST).map(escape).collect();
    let cut = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{shown}{cut}`")
}

/// Returns a text with a dot for each character that may belong to a password: those between a colon and an `@` behind it, within
/// a word or a quoted text.
pub(super) fn without_password(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let hide = |word: &str| match (word.find(':'), word.rfind('@')) {
        (Some(colon), Some(at)) if colon < at => {
            let (before, rest) = word.split_at(colon + 1);
            let (password, behind) = rest.split_at(at - before.len());
            [before, &".".repeat(password.chars().count()), behind].concat()
        }
        _ => word.to_owned(),
    };
    text.split_inclusive(ends).map(hide).collect()
}
