//! What the engine does next: take what has arrived, keep a part of the prefix cache, or sleep.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Where messages arrive.
pub struct Inbox<T> {
    messages: Receiver<T>,
    /// After so long without work the prefix cache is saved.
    quiet: Duration,
    /// It is being saved, and nothing has arrived since that began.
    saving: bool,
}

/// See [`Inbox::next`].
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Take(T),
    /// Nothing has arrived; there is work.
    Work,
    /// Nothing has arrived for a while; a part of the prefix cache can be saved.
    Save,
    /// Nothing will ever arrive again.
    End,
}

impl<T> Inbox<T> {
    pub fn new(messages: Receiver<T>, quiet: Duration) -> Self {
        Self { messages, quiet, saving: false }
    }

    /// Sleeps if there is neither work nor anything `unsaved`. Whatever arrives comes before the next part of a save, which
    /// goes on when it is quiet again.
    pub fn next(&mut self, works: bool, unsaved: bool) -> Next<T> {
        let going_on = std::mem::take(&mut self.saving);
        if works {
            return self.more().map_or(Next::Work, Next::Take);
        }
        if !unsaved {
            return self.messages.recv().map_or(Next::End, Next::Take);
        }
        match self.messages.recv_timeout(if going_on { Duration::ZERO } else { self.quiet }) {
            Ok(message) => Next::Take(message),
            Err(RecvTimeoutError::Timeout) => {
                self.saving = true;
                Next::Save
            }
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// What has arrived besides.
    pub fn more(&mut self) -> Option<T> {
        self.messages.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const A_WHILE: Duration = Duration::from_millis(1);

    #[test]
    fn what_arrives_while_the_cache_is_saved_does_not_wait_for_the_rest_of_it() {
        let (sender, messages) = channel();
        let mut inbox = Inbox::new(messages, A_WHILE);
        let mut left = 10;
        while left > 7 {
            assert_eq!(inbox.next(false, left > 0), Next::Save);
            left -= 1;
        }
        sender.send("a question").unwrap();
        assert_eq!(
            inbox.next(false, left > 0),
            Next::Take("a question"),
            "If you are here because this failed: whoever asks while the prefix cache is saved waits until all of it is."
        );
        assert_eq!(inbox.next(true, left > 0), Next::Work);
        assert!(!inbox.saving, "it goes on when it is quiet again");
        while left > 0 {
            assert_eq!(inbox.next(false, left > 0), Next::Save);
            left -= 1;
        }
        sender.send("another one").unwrap();
        assert_eq!(inbox.next(false, false), Next::Take("another one"));
    }

    #[test]
    fn it_ends_when_nobody_can_send_any_more_and_the_work_is_done() {
        let (sender, messages) = channel();
        let mut inbox = Inbox::new(messages, A_WHILE);
        sender.send(1).unwrap();
        drop(sender);
        assert_eq!(inbox.next(true, true), Next::Take(1));
        assert_eq!(inbox.next(true, true), Next::Work);
        assert_eq!(inbox.next(false, true), Next::End);
        assert_eq!(inbox.next(false, false), Next::End);
    }
}
