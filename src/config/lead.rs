//! The choice between a watched `ConfigMap` and its mounted copy once the watch has answered. The watch leads until
//! contact has been lost for three minutes and the copy has changed since the loss ("Configuration" in docs/design.md).
//!
//! The copy lags behind the watch by a minute and more. If it is the same as when contact was lost, it may be older
//! than what is in force, however long ago that was, and therefore never leads.

use std::time::{Duration, Instant};

/// The time without contact after which a changed copy leads.
const PATIENCE: Duration = Duration::from_mins(3);

/// The state of the choice between the watch and the copy.
#[derive(Debug, Clone, Default)]
pub(super) enum Lead {
    /// The watch has contact, and leads.
    #[default]
    Watch,
    /// The watch has lost contact; the text is that of the copy at the first look after the loss (`None`: it could not
    /// be read).
    Lost(Option<String>),
    /// The watch has lost contact, and the copy has changed since.
    CopyChanged,
}

impl Lead {
    /// Returns the copy's text if the copy leads now, else `None`. `away_since` is the time at which contact was lost
    /// (`None`: contact); `read` reads the copy, and is called only without contact.
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
