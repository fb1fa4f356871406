//! Work that waits for its turn, each told its place and about how long it will take.

pub mod flows;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use worker_protocol::{Event, FailCode, Usage};

use super::Job;
use super::sequence::Sequence;
use crate::bound::DISPLACED;
use flows::{Flow, Flows};

/// A completion is reckoned with this many tokens when places are foretold.
const USUAL_COMPLETION: usize = 256;
/// How long places stand that only what was computed meanwhile has changed.
const STANDS: Duration = Duration::from_secs(1);
/// Weight of the newest interval between two turns.
const NEWEST: f64 = 0.2;

/// Something that waits.
pub enum Work {
    /// Has not begun.
    New(Box<Job>),
    /// Made room for somebody else and goes on later.
    Paused(Box<Sequence>),
}

impl Work {
    pub fn flow(&self) -> &Flow {
        match self {
            Self::New(job) => &job.flow,
            Self::Paused(sequence) => &sequence.flow,
        }
    }

    pub fn weight(&self) -> u16 {
        match self {
            Self::New(job) => job.weight,
            Self::Paused(sequence) => sequence.weight,
        }
    }

    /// Nobody waits for it any more.
    pub fn cancelled(&self) -> bool {
        match self {
            Self::New(job) => job.link.is_cancelled(),
            Self::Paused(sequence) => sequence.cancelled(),
        }
    }

    /// It leaves the queue to run. False if its place was taken by somebody else.
    pub fn begin(&self) -> bool {
        match self {
            Self::New(job) => job.admission.begin(),
            Self::Paused(_) => true,
        }
    }

    fn displaced(&self) -> bool {
        match self {
            Self::New(job) => job.admission.is_displaced(),
            Self::Paused(_) => false,
        }
    }

    /// It ends because its place was taken by somebody else, with all completions of its prompt.
    pub fn turn_away(self) {
        self.tell(Event::Failed { code: FailCode::Overloaded, message: DISPLACED.into(), usage: Usage::default() });
    }

    fn tell(&self, event: Event) {
        // One that has begun never hears of places again; its reader sees a pause, not a queue.
        // Nor do the further completions of a prompt, whose reader hears of the first one.
        if let Self::New(job) = self
            && job.number.unwrap_or(0) == 0
        {
            job.link.send(event);
        }
    }

    /// It ends without having been let in, or let in again.
    fn cancel(self) {
        match self {
            Self::New(job) => job.link.send(Event::Failed { code: FailCode::Cancelled, message: String::new(), usage: Usage::default() }),
            Self::Paused(sequence) => sequence.fail(FailCode::Cancelled, String::new()),
        }
    }

    /// Tokens of its prompt.
    fn prompt(&self) -> usize {
        match self {
            Self::New(job) => job.prompt.len(),
            Self::Paused(_) => 0,
        }
    }
}

struct Waiting {
    work: Work,
    /// The place that it was told last.
    told: Option<u32>,
}

/// The queue. Its bound is kept where requests enter, see [`crate::shared::Admission`].
#[derive(Default)]
pub struct Queue {
    /// In order of arrival; what was paused comes before all that is new.
    waiting: Vec<Waiting>,
    pace: Pace,
    /// Somebody came or went since places were told.
    changed: bool,
    /// When that was.
    told: Option<Instant>,
}

impl Queue {
    pub fn push(&mut self, work: Work) {
        let at = match work {
            Work::New(_) => self.waiting.len(),
            Work::Paused(_) => 0,
        };
        self.waiting.insert(at, Waiting { work, told: None });
        self.changed = true;
    }

    /// Whose turn it is: the first that `ready` admits of the flow that was served least.
    pub fn next(&self, flows: &Flows, ready: impl Fn(&Work) -> bool) -> Option<(usize, &Work)> {
        let candidates = self.waiting.iter().enumerate().filter(|(_, waiting)| ready(&waiting.work));
        // The first of equal ones, which came first.
        candidates
            .min_by(|(_, a), (_, b)| flows.served(a.work.flow()).total_cmp(&flows.served(b.work.flow())))
            .map(|(at, waiting)| (at, &waiting.work))
    }

    /// Takes that one out.
    pub fn take(&mut self, at: usize) -> Work {
        let work = self.waiting.remove(at).work;
        self.changed = true;
        self.pace.turn(self.waiting.is_empty());
        work
    }

    pub fn iter(&self) -> impl Iterator<Item = &Work> + Clone {
        self.waiting.iter().map(|waiting| &waiting.work)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops what nobody waits for any more.
    pub fn forget_cancelled(&mut self) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.work.cancelled()) {
            self.changed = true;
            waiting.work.cancel();
        }
    }

    /// Drops what made room for somebody else.
    pub fn forget_displaced(&mut self) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.work.displaced()) {
            self.changed = true;
            waiting.work.turn_away();
        }
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = Work> + '_ {
        self.changed = true;
        self.waiting.drain(..).map(|waiting| waiting.work)
    }

    /// Tells everybody whose place changed. It is looked at when somebody came or went, otherwise once in a while.
    pub fn announce(&mut self, flows: &Flows, now: Instant) {
        let stands = self.told.is_some_and(|told| now.saturating_duration_since(told) < STANDS);
        if !self.changed && stands {
            return;
        }
        (self.changed, self.told) = (false, Some(now));
        for (place, at) in (0..).zip(self.order(flows)) {
            let wait_ms = self.pace.wait(place);
            let waiting = &mut self.waiting[at];
            if waiting.told != Some(place) {
                waiting.told = Some(place);
                waiting.work.tell(Event::Queued { place, wait_ms });
            }
        }
    }

    /// The order in which they would be taken if each cost what is usual.
    fn order(&self, flows: &Flows) -> Vec<usize> {
        let mut next: HashMap<&Flow, f64> = HashMap::new();
        let turns = self.waiting.iter().enumerate().map(|(at, waiting)| {
            let flow = waiting.work.flow();
            let served = next.entry(flow).or_insert_with(|| flows.served(flow));
            let turn = *served;
            *served += flows.price(flow, waiting.work.prompt(), USUAL_COMPLETION);
            (turn, at)
        });
        // Those of each flow are in order already.
        let mut turns: Vec<(f64, usize)> = turns.collect();
        turns.sort_by(|(a, came), (b, other)| a.total_cmp(b).then(came.cmp(other)));
        turns.into_iter().map(|(_, at)| at).collect()
    }
}

/// How quickly the queue moves.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    interval: Option<Duration>,
}

impl Pace {
    /// Somebody got a turn; was it the last who waited?
    fn turn(&mut self, last: bool) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let latest = now - last;
            self.interval = Some(self.interval.map_or(latest, |known| known.mul_f64(1.0 - NEWEST) + latest.mul_f64(NEWEST)));
        }
        // What passes while nobody waits says nothing.
        if last {
            self.last = None;
        }
    }

    /// Until the turn of that place; `None` until two turns have been seen.
    fn wait(&self, place: u32) -> Option<u32> {
        self.interval.map(|interval| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX).saturating_mul(place + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::model::Sampling;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio_util::sync::CancellationToken;
    use worker_protocol::Priority;

    use super::*;
    use crate::engine::Link;
    use crate::sampling::{Defaults, Params};
    use crate::shared::{Admission, Shared};

    fn job(tenant: &str) -> (Work, UnboundedReceiver<Event>) {
        within(1, &Arc::new(Shared::default()), tenant).expect("let in")
    }

    fn within(limit: u32, shared: &Arc<Shared>, tenant: &str) -> Option<(Work, UnboundedReceiver<Event>)> {
        let (events, receiver) = unbounded_channel();
        let flow = Flow { tenant: tenant.into(), priority: Priority::Interactive };
        let admission = Admission::acquire(shared, &flow, 1, limit)?.remove(0);
        let job = Job {
            id: uuid::Uuid::nil(),
            partition: "p".into(),
            flow,
            weight: 1,
            prompt: Vec::new(),
            pinned: 0,
            pin_known_only: false,
            params: Params::resolve(&Sampling::default(), &Defaults::default(), 0).unwrap(),
            choice: crate::engine::Choice::default(),
            exact: false,
            number: None,
            stop: Vec::new(),
            link: Link { events, cancelled: CancellationToken::new() },
            arrived: Instant::now(),
            admission,
        };
        Some((Work::New(Box::new(job)), receiver))
    }

    fn told(receiver: &mut UnboundedReceiver<Event>) -> Vec<u32> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|event| match event {
                Event::Queued { place, .. } => place,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn flows(queue: &Queue) -> Flows {
        let mut flows = Flows::default();
        flows.present(queue.iter().map(|work| (work.flow(), work.weight())));
        flows
    }

    #[test]
    fn everybody_hears_of_a_new_place_once() {
        let mut queue = Queue::default();
        let (first, mut hears_first) = job("a");
        let (second, mut hears_second) = job("a");
        queue.push(first);
        queue.push(second);
        let flows = flows(&queue);
        queue.announce(&flows, Instant::now());
        queue.announce(&flows, Instant::now());
        assert_eq!((told(&mut hears_first), told(&mut hears_second)), (vec![0], vec![1]));
        drop(hears_first);
        queue.forget_cancelled();
        queue.announce(&flows, Instant::now());
        assert_eq!(told(&mut hears_second), [0]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn places_that_only_time_changes_are_looked_at_once_in_a_while() {
        let mut queue = Queue::default();
        let (first, mut hears_first) = job("a");
        let (second, mut hears_second) = job("b");
        queue.push(first);
        queue.push(second);
        let (mut flows, began) = (flows(&queue), Instant::now());
        queue.announce(&flows, began);
        assert_eq!((told(&mut hears_first), told(&mut hears_second)), (vec![0], vec![1]));
        flows.charge(&Flow { tenant: "a".into(), priority: Priority::Interactive }, 1000, 0);
        queue.announce(&flows, began + STANDS / 2);
        assert!(told(&mut hears_first).is_empty() && told(&mut hears_second).is_empty());
        queue.announce(&flows, began + STANDS);
        assert_eq!((told(&mut hears_first), told(&mut hears_second)), (vec![1], vec![0]));
    }

    #[test]
    fn places_are_those_of_taking_the_least_served_again_and_again() {
        let mut queue = Queue::default();
        let tenants = ["a", "a", "b", "a", "c", "b", "a", "c", "c", "b"];
        let _hears: Vec<_> = tenants
            .map(|tenant| {
                let (work, hears) = job(tenant);
                queue.push(work);
                hears
            })
            .into();
        let mut flows = flows(&queue);
        flows.charge(queue.waiting[0].work.flow(), 100, 0);
        let order = queue.order(&flows);
        for at in order {
            let left: Vec<usize> = (0..tenants.len()).filter(|at| queue.waiting[*at].told.is_none()).collect();
            let served = |at: &usize| flows.served(queue.waiting[*at].work.flow());
            let next = left.into_iter().min_by(|a, b| served(a).total_cmp(&served(b))).unwrap();
            assert_eq!(at, next);
            queue.waiting[at].told = Some(0);
            flows.charge(queue.waiting[at].work.flow(), 0, USUAL_COMPLETION);
        }
    }

    #[test]
    fn a_flood_does_not_push_others_back() {
        let mut queue = Queue::default();
        let mut flood: Vec<_> = (0..5)
            .map(|_| {
                let (work, hears) = job("flood");
                queue.push(work);
                hears
            })
            .collect();
        let (work, mut hears) = job("quiet");
        queue.push(work);
        let flows = flows(&queue);
        queue.announce(&flows, Instant::now());
        assert_eq!(told(&mut hears), [1], "behind one of the flood, not behind all");
        assert_eq!(told(&mut flood[1]), [2]);
        let (_, first) = queue.next(&flows, |_| true).unwrap();
        assert_eq!(first.flow().tenant, "flood", "who came first of equals");
    }

    #[test]
    fn a_flood_that_fills_the_queue_makes_room_and_hears_of_it() {
        let shared = Arc::new(Shared::default());
        let mut queue = Queue::default();
        let mut flood = Vec::new();
        for (work, hears) in (0..200).filter_map(|_| within(68, &shared, "flood")) {
            queue.push(work);
            flood.push(hears);
        }
        assert_eq!(queue.len(), 68);
        let (work, mut hears) = within(68, &shared, "quiet").expect("let in");
        queue.push(work);
        queue.forget_displaced();
        queue.forget_displaced();
        assert_eq!(queue.len(), 68, "one came and one went");
        let refused = |(at, hears): (usize, &mut UnboundedReceiver<Event>)| match hears.try_recv() {
            Ok(Event::Failed { code: FailCode::Overloaded, .. }) => Some(at),
            _ => None,
        };
        let refused: Vec<usize> = flood.iter_mut().enumerate().filter_map(refused).collect();
        assert_eq!(refused, [67], "the latest, told once");
        assert!(hears.try_recv().is_err() && flood[67].try_recv().is_err());
        while !queue.is_empty() {
            assert!(queue.take(0).begin());
        }
        assert!(shared.is_idle(), "every place came back");
    }

    #[test]
    fn what_is_not_ready_is_passed_over() {
        let mut queue = Queue::default();
        let (first, _hears_first) = job("a");
        let (second, _hears_second) = job("b");
        queue.push(first);
        queue.push(second);
        let flows = flows(&queue);
        let ready = |work: &Work| work.flow().tenant == "b";
        let (at, _) = queue.next(&flows, ready).unwrap();
        assert!(ready(&queue.take(at)));
        assert!(queue.next(&flows, ready).is_none());
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn waits_are_foretold_from_the_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(0), None);
        pace.interval = Some(Duration::from_millis(500));
        assert_eq!(pace.wait(3), Some(2000));
    }
}
