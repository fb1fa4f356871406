//! What waits to be written: uses in the order in which they came, the end of each with its beginning where both wait.

use crate::meter::journal::Place;
use contract::ids::UsageId;
use std::collections::{HashMap, VecDeque};
use store::ledger::{Entry, Settling, WriteError};
use tokio::sync::oneshot;

/// An entry, and who is told of it.
pub(super) struct Waiting {
    pub entry: Entry,
    pub whose: Whose,
}

pub(super) enum Whose {
    /// Somebody waits to hear what became of it; of an opened use it is always done.
    Caller(oneshot::Sender<Result<Settling, WriteError>>),
    Journal(Place),
}

/// See the module. Opening and settling a use by one statement costs half of doing it by two, so a part of what waits is taken
/// by uses: by entries, most ends would be left behind.
#[derive(Default)]
pub(super) struct Gathered {
    uses: VecDeque<Use>,
    /// Uses that were taken so far: the number of the first one that waits.
    taken: usize,
    /// Numbers of the uses that wait and have a beginning, but no end.
    begun: HashMap<UsageId, usize>,
    entries: usize,
}

struct Use {
    first: Waiting,
    /// Where `first` opens it.
    end: Option<Waiting>,
}

impl Gathered {
    pub(super) fn push(&mut self, one: Waiting) {
        self.entries += 1;
        let id = one.entry.id();
        if one.entry.opens() {
            self.begun.insert(id, self.taken + self.uses.len());
        } else if let Some(number) = self.begun.remove(&id)
            && let Some(begun) = self.uses.get_mut(number - self.taken)
        {
            begun.end = Some(one);
            return;
        }
        self.uses.push_back(Use { first: one, end: None });
    }

    /// Entries of at most so many uses, the oldest ones, each beginning before its end.
    pub(super) fn take(&mut self, most: usize) -> Vec<Waiting> {
        let most = most.min(self.uses.len());
        let mut entries = Vec::with_capacity(2 * most);
        for Use { first, end } in self.uses.drain(..most) {
            if end.is_none() {
                self.begun.remove(&first.entry.id());
            }
            entries.push(first);
            entries.extend(end);
        }
        self.taken += most;
        self.entries -= entries.len();
        entries
    }

    /// Gives back room for more than `uses`, unless they wait.
    pub(super) fn shrink_to(&mut self, uses: usize) {
        self.uses.shrink_to(uses);
        self.begun.shrink_to(uses);
    }

    /// Uses that wait. One whose beginning was taken before its end came is counted anew.
    pub(super) fn uses(&self) -> usize {
        self.uses.len()
    }

    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Gathered, Waiting, Whose};
    use crate::meter::samples;
    use contract::ids::UsageId;
    use store::ledger::Entry;
    use tokio::sync::oneshot;
    use uuid::Uuid;

    fn waiting(entry: Entry) -> Waiting {
        Waiting { entry, whose: Whose::Caller(oneshot::channel().0) }
    }

    fn beginning(id: UsageId) -> Waiting {
        waiting(samples::beginning(id))
    }

    fn end(id: UsageId) -> Waiting {
        waiting(samples::end(id))
    }

    fn ids<const N: usize>() -> [UsageId; N] {
        std::array::from_fn(|_| UsageId(Uuid::now_v7()))
    }

    /// Of each entry its use, and whether it opens it.
    fn taken(gathered: &mut Gathered, most: usize) -> Vec<(UsageId, bool)> {
        gathered.take(most).iter().map(|one| (one.entry.id(), one.entry.opens())).collect()
    }

    #[test]
    fn an_end_goes_with_its_beginning_whatever_came_in_between() {
        let ([a, b, c], mut gathered) = (ids(), Gathered::default());
        [beginning(a), beginning(b), end(a), beginning(c), end(c)].into_iter().for_each(|one| gathered.push(one));
        assert_eq!((gathered.uses(), gathered.entries()), (3, 5));
        assert_eq!(taken(&mut gathered, 1), [(a, true), (a, false)]);
        assert_eq!((gathered.uses(), gathered.entries()), (2, 3));
        // What was taken before does not mislead what comes after.
        gathered.push(end(b));
        assert_eq!(taken(&mut gathered, 9), [(b, true), (b, false), (c, true), (c, false)]);
        assert_eq!((gathered.uses(), gathered.entries()), (0, 0));
        assert!(taken(&mut gathered, 9).is_empty());
    }

    #[test]
    fn an_end_whose_beginning_was_taken_and_one_too_many_wait_for_their_turn() {
        let ([a, b], mut gathered) = (ids(), Gathered::default());
        gathered.push(beginning(a));
        assert_eq!(taken(&mut gathered, 1), [(a, true)]);
        [beginning(b), end(a), end(b), end(b)].into_iter().for_each(|one| gathered.push(one));
        assert_eq!(gathered.uses(), 3);
        assert_eq!(taken(&mut gathered, 9), [(b, true), (b, false), (a, false), (b, false)]);
    }

    #[test]
    fn what_is_put_back_is_together_again() {
        let ([a], mut gathered) = (ids(), Gathered::default());
        gathered.push(beginning(a));
        let failed = gathered.take(1);
        gathered.push(end(a));
        let rest = gathered.take(usize::MAX);
        failed.into_iter().chain(rest).for_each(|one| gathered.push(one));
        assert_eq!((gathered.uses(), gathered.entries()), (1, 2));
        assert_eq!(taken(&mut gathered, 1), [(a, true), (a, false)]);
    }
}
