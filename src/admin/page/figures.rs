//! Drawings that show at a glance what a table of numbers does not. Each is next to its numbers, and hidden from screen
//! readers.

use std::{collections::VecDeque, fmt::Write as _};

use maud::{Markup, html};

use crate::pool::Census;

/// The number of samples in a line's width: a minute of them.
const PLACES: usize = 60;
const HEIGHT: f32 = 22.0;

/// Draws the last minute of a rate as a line, the newest sample at the right, the highest at the top; nothing for fewer
/// than two samples.
pub(super) fn line(samples: &VecDeque<f32>) -> Markup {
    let most = samples.iter().copied().fold(0.0, f32::max);
    let begin = PLACES.saturating_sub(samples.len());
    let mut points = String::new();
    for (place, sample) in samples.iter().enumerate() {
        let share = if most > 0.0 { sample / most } else { 0.0 };
        let y = (1.0 - share).mul_add(HEIGHT - 2.0, 1.0);
        let _ = write!(points, "{},{y:.1} ", (begin + place) * 2);
    }
    html! {
        svg.line viewBox="0 0 118 22" preserveAspectRatio="none" aria-hidden="true" {
            @if samples.len() > 1 {
                polygon points={ (begin * 2) "," (HEIGHT) " " (points) "118," (HEIGHT) } {}
                polyline points=(points) {}
            }
        }
    }
}

/// Draws the connections as parts of a bar whose whole width is the cap: in use, connecting, idle and closing.
pub(super) fn bar(census: Census, max: usize) -> Markup {
    let parts = [
        ("active", census.active),
        ("connecting", census.connecting),
        ("idle", census.idle),
        ("closing", census.closing),
    ];
    let width = |count: usize| (count * 1000).div_ceil(max.max(1));
    let mut x = 0;
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            @for (class, count) in parts {
                @if count > 0 {
                    rect class=(class) x=(x) y="0" width=(width(count)) height="10" {}
                }
                @let () = x += width(count);
            }
        }
    }
}
