//! Which of two sources leads once the watch was in sync: the watch, until it has been away for long and the mounted
//! copy has changed since (design, section 9 "Sources").
//!
//! The copy lags behind by a minute and more. One that is as it was when contact was lost may be older than what is in
//! force, however long ago that was: it never leads.

use std::time::{Duration, Instant};

/// How long the watch must have been away.
const PATIENCE: Duration = Duration::from_mins(3);

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) enum Lead {
    /// The watch has contact.
    #[default]
    Watch,
    /// It has lost it, and this was the copy then.
    Lost(Option<String>),
    /// The copy has changed since.
    CopyChanged,
}

impl Lead {
    /// The copy's text, if that is to lead now; it is read only while the watch is away.
    pub(super) fn copy(
        &mut self,
        away_since: Option<Instant>,
        now: Instant,
        read: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        let Some(since) = away_since else {
            *self = Self::Watch;
            return None;
        };
        let copy = read();
        match self {
            Self::Watch => *self = Self::Lost(copy.clone()),
            Self::Lost(before) if copy.is_some() && *before != copy => *self = Self::CopyChanged,
            Self::Lost(_) | Self::CopyChanged => {}
        }
        let long = now.saturating_duration_since(since) >= PATIENCE;
        copy.filter(|_| long && matches!(self, Self::CopyChanged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(lead: &mut Lead, away: Option<Instant>, now: Instant, text: &str) -> Option<String> {
        lead.copy(away, now, || Some(text.into()))
    }

    #[test]
    fn the_copy_leads_once_the_watch_is_long_away_and_the_copy_has_changed_since() {
        let (mut lead, lost) = (Lead::default(), Instant::now());
        assert_eq!(copy(&mut lead, Some(lost), lost, "old"), None);
        assert_eq!(copy(&mut lead, Some(lost), lost + PATIENCE / 2, "new"), None, "not yet");
        assert_eq!(copy(&mut lead, Some(lost), lost + PATIENCE, "new"), Some("new".into()));
        let later = lost + 2 * PATIENCE;
        assert_eq!(copy(&mut lead, Some(lost), later, "old"), Some("old".into()), "taken back");
        assert_eq!(copy(&mut lead, None, later, "old"), None, "the watch leads again");
        assert_eq!(copy(&mut lead, Some(later), later + PATIENCE, "old"), None);
    }

    #[test]
    fn a_copy_that_lagged_behind_when_contact_was_lost_never_takes_what_is_in_force_back() {
        let (mut lead, lost) = (Lead::default(), Instant::now());
        for minutes in 0..600 {
            let now = lost + Duration::from_mins(minutes);
            assert_eq!(copy(&mut lead, Some(lost), now, "older"), None, "after {minutes} minutes");
        }
    }

    #[test]
    fn without_a_copy_the_watch_leads_for_ever() {
        let (mut lead, lost) = (Lead::default(), Instant::now());
        assert_eq!(lead.copy(Some(lost), lost, || Some("there".into())), None);
        assert_eq!(lead.copy(Some(lost), lost + PATIENCE, || None), None);
        let back = lead.copy(Some(lost), lost + PATIENCE, || Some("there".into()));
        assert_eq!(back, None, "a copy that was gone for a moment has not changed");
    }
}
