//! Conversations by time. Days are the reader's own: the offset of their time zone is added to the
//! instant; the server, which does not know it, takes UTC.

use contract::Millis;

const DAY_MS: i64 = 86_400_000;

/// The headings of the list, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    Pinned,
    Today,
    Yesterday,
    Week,
    Month,
    Older,
}

impl Group {
    /// The group of a conversation that was last active `at`; `offset` is local time minus UTC.
    #[must_use]
    pub fn of(pinned: bool, at: Millis, now: Millis, offset: Millis) -> Self {
        if pinned {
            return Self::Pinned;
        }
        let days = (now + offset).div_euclid(DAY_MS) - (at + offset).div_euclid(DAY_MS);
        match days {
            // Clocks differ: what lies ahead is from today.
            ..=0 => Self::Today,
            1 => Self::Yesterday,
            2..=7 => Self::Week,
            8..=30 => Self::Month,
            _ => Self::Older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Group};

    #[test]
    fn chat_groups_follow_calendar_days() {
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        let group = |at| Group::of(false, at, noon, 0);
        assert_eq!(group(noon), Group::Today);
        assert_eq!(group(noon + 5_000), Group::Today);
        assert_eq!(group(noon - DAY_MS / 2), Group::Today);
        assert_eq!(group(noon - DAY_MS / 2 - 1), Group::Yesterday);
        assert_eq!(group(noon - 7 * DAY_MS), Group::Week);
        assert_eq!(group(noon - 8 * DAY_MS), Group::Month);
        assert_eq!(group(noon - 31 * DAY_MS), Group::Older);
        assert_eq!(Group::of(true, 0, noon, 0), Group::Pinned);
    }

    #[test]
    fn chat_groups_use_the_readers_midnight() {
        let (late, early) = (20_000 * DAY_MS - 1_800_000, 20_000 * DAY_MS + 1_800_000);
        assert_eq!(Group::of(false, late, early, 0), Group::Yesterday);
        assert_eq!(Group::of(false, late, early, 2 * 3_600_000), Group::Today);
    }
}
