//! Requests waiting for a slot, first come first served, each told its place.

use std::collections::VecDeque;

use worker_protocol::Event;

use super::Job;

/// The queue. Its bound is kept where requests enter, see [`crate::shared::Admission`].
#[derive(Default)]
pub struct Queue(VecDeque<Waiting>);

struct Waiting {
    job: Box<Job>,
    /// The place that the request was told last.
    told: Option<u32>,
}

impl Queue {
    pub fn push(&mut self, job: Box<Job>) {
        self.0.push_back(Waiting { job, told: None });
    }

    pub fn pop(&mut self) -> Option<Box<Job>> {
        self.0.pop_front().map(|waiting| waiting.job)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops the requests whose caller went away.
    pub fn forget_cancelled(&mut self) {
        self.0.retain(|waiting| !waiting.job.events.is_closed());
    }

    /// Tells everybody whose place changed.
    pub fn announce(&mut self) {
        for (place, waiting) in (0..).zip(&mut self.0) {
            if waiting.told != Some(place) {
                waiting.told = Some(place);
                // A closed channel is a cancellation, seen before the next step.
                drop(waiting.job.events.send(Event::Queued { place }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use contract::model::Sampling;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::sampling::{Defaults, Params};
    use crate::shared::{Admission, Shared};

    fn job() -> (Box<Job>, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let job = Job {
            id: uuid::Uuid::nil(),
            partition: "p".into(),
            prompt: Vec::new(),
            params: Params::resolve(&Sampling::default(), &Defaults::default(), 0).unwrap(),
            stop: Vec::new(),
            events,
            arrived: Instant::now(),
            admission: Admission::acquire(&Arc::new(Shared::default()), 1).unwrap(),
        };
        (Box::new(job), receiver)
    }

    fn told(receiver: &mut UnboundedReceiver<Event>) -> Vec<Event> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn everybody_hears_of_a_new_place_once() {
        let mut queue = Queue::default();
        let (first, mut hears_first) = job();
        let (second, mut hears_second) = job();
        queue.push(first);
        queue.push(second);
        queue.announce();
        queue.announce();
        assert_eq!(told(&mut hears_first), [Event::Queued { place: 0 }]);
        assert_eq!(told(&mut hears_second), [Event::Queued { place: 1 }]);
        drop(hears_first);
        queue.forget_cancelled();
        queue.announce();
        assert_eq!(told(&mut hears_second), [Event::Queued { place: 0 }]);
        assert_eq!(queue.len(), 1);
    }
}
