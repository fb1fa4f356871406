//! The sequences of the context: who uses them, and which computed prefixes they still hold.
//!
//! A prefix is reused only within its partition (tenant and data class): how fast an answer starts must
//! not tell one tenant what another one asked.

use llama_cpp_2::token::LlamaToken;

/// Where a new sequence runs, and what it need not compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The slot it takes.
    pub slot: usize,
    /// The slot whose first `reused` cells it takes over; may be its own.
    pub from: usize,
    /// Tokens of the prompt whose computation is taken over.
    pub reused: usize,
}

#[derive(Default)]
struct Slot {
    partition: String,
    /// Tokens whose cells are in the context, in order from position 0.
    computed: Vec<LlamaToken>,
    busy: bool,
    /// Value of the table's counter when it was last used.
    used: u64,
}

/// All slots of the context.
pub struct Slots {
    slots: Vec<Slot>,
    uses: u64,
    /// Recurrent models keep no cells per token; their state cannot be cut.
    reuse: bool,
}

impl Slots {
    pub fn new(count: usize, reuse: bool) -> Self {
        Self { slots: (0..count).map(|_| Slot::default()).collect(), uses: 0, reuse }
    }

    pub fn any_free(&self) -> bool {
        self.slots.iter().any(|slot| !slot.busy)
    }

    /// Tokens computed in a slot; its next position.
    pub fn computed(&self, slot: usize) -> usize {
        self.slots.get(slot).map_or(0, |slot| slot.computed.len())
    }

    /// The best place for a prompt; `None` if every slot is busy.
    pub fn place(&self, partition: &str, prompt: &[LlamaToken]) -> Option<Placement> {
        let common: Vec<usize> = self.slots.iter().map(|slot| self.common(slot, partition, prompt)).collect();
        let donor = longest(&common, |_| true)?;
        let own = longest(&common, |at| !self.slots[at].busy)?;
        // Goes on in the conversation that the slot holds: nothing of value is lost by taking it. Where only
        // a beginning is shared (the same system prompt), that beginning is copied and the conversation kept.
        let slot = if common[own] > 0 && common[own] * 2 >= self.slots[own].computed.len() { own } else { self.least_useful()? };
        let from = if common[donor] > common[slot] { donor } else { slot };
        Some(Placement { slot, from, reused: common[from] })
    }

    /// Records a placement that the context has carried out.
    pub fn take(&mut self, placement: Placement, partition: &str, prompt: &[LlamaToken]) {
        self.uses += 1;
        if let Some(slot) = self.slots.get_mut(placement.slot) {
            slot.busy = true;
            slot.used = self.uses;
            partition.clone_into(&mut slot.partition);
            slot.computed.clear();
            slot.computed.extend_from_slice(prompt.get(..placement.reused).unwrap_or_default());
        }
    }

    /// Tokens whose cells a step has added.
    pub fn extend(&mut self, slot: usize, tokens: &[LlamaToken]) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.computed.extend_from_slice(tokens);
        }
    }

    /// Its sequence ended; the cells stay for reuse.
    pub fn release(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.busy = false;
        }
    }

    /// The context was cleared.
    pub fn forget_all(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = Slot::default());
    }

    /// How much of `prompt` this slot has computed. The last token is always computed again, because its
    /// scores are needed.
    fn common(&self, slot: &Slot, partition: &str, prompt: &[LlamaToken]) -> usize {
        if !self.reuse || slot.partition != partition {
            return 0;
        }
        let limit = prompt.len().saturating_sub(1);
        slot.computed.iter().zip(prompt).take(limit).take_while(|(a, b)| a == b).count()
    }

    /// The free slot with nothing in it, else the one unused for longest.
    fn least_useful(&self) -> Option<usize> {
        let free = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy);
        free.min_by_key(|(_, slot)| (!slot.computed.is_empty(), slot.used)).map(|(at, _)| at)
    }
}

/// The first slot with the largest value among those that `among` admits.
fn longest(common: &[usize], among: impl Fn(usize) -> bool) -> Option<usize> {
    common.iter().enumerate().filter(|(at, _)| among(*at)).rev().max_by_key(|(_, length)| **length).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<LlamaToken> {
        text.bytes().map(|byte| LlamaToken(byte.into())).collect()
    }

    /// Runs a prompt to its end and frees the slot.
    fn run(slots: &mut Slots, partition: &str, text: &str) -> Placement {
        let placement = start(slots, partition, text);
        slots.release(placement.slot);
        placement
    }

    fn start(slots: &mut Slots, partition: &str, text: &str) -> Placement {
        let prompt = tokens(text);
        let placement = slots.place(partition, &prompt).unwrap();
        slots.take(placement, partition, &prompt);
        slots.extend(placement.slot, &prompt[placement.reused..]);
        placement
    }

    #[test]
    fn a_conversation_goes_on_where_it_was() {
        let mut slots = Slots::new(3, true);
        run(&mut slots, "a", "system hello");
        run(&mut slots, "a", "entirely else");
        assert_eq!(run(&mut slots, "a", "system hello, and then"), Placement { slot: 0, from: 0, reused: 12 });
    }

    #[test]
    fn another_partition_shares_nothing() {
        let mut slots = Slots::new(2, true);
        run(&mut slots, "a", "the same prompt");
        let other = run(&mut slots, "b", "the same prompt");
        assert_eq!(
            other.reused, 0,
            "If you are here because this failed: the time to the first token would tell a tenant what others asked; \
             a prefix may be reused only within its partition."
        );
        assert_eq!(other.slot, 1, "an empty slot is taken before somebody's cache is thrown away");
    }

    #[test]
    fn a_shared_beginning_is_copied_and_the_long_conversation_kept() {
        let mut slots = Slots::new(2, true);
        run(&mut slots, "a", "system: a very long conversation that goes on and on");
        let second = run(&mut slots, "a", "system: hi");
        assert_eq!(second, Placement { slot: 1, from: 0, reused: 8 });
        assert_eq!(slots.computed(0), 52);
    }

    #[test]
    fn a_busy_slot_lends_its_beginning() {
        let mut slots = Slots::new(2, true);
        start(&mut slots, "a", "system: one");
        assert_eq!(start(&mut slots, "a", "system: two"), Placement { slot: 1, from: 0, reused: 8 });
        assert!(!slots.any_free());
        assert_eq!(slots.place("a", &tokens("system: three")), None);
    }

    #[test]
    fn the_last_token_is_always_computed() {
        let mut slots = Slots::new(1, true);
        run(&mut slots, "a", "same");
        assert_eq!(run(&mut slots, "a", "same").reused, 3);
    }

    #[test]
    fn the_slot_unused_for_longest_is_given_up() {
        let mut slots = Slots::new(2, true);
        run(&mut slots, "a", "first");
        run(&mut slots, "b", "second");
        run(&mut slots, "a", "first!");
        assert_eq!(run(&mut slots, "c", "third").slot, 1);
    }

    #[test]
    fn recurrent_models_reuse_nothing() {
        let mut slots = Slots::new(1, false);
        run(&mut slots, "a", "same");
        assert_eq!(run(&mut slots, "a", "same").reused, 0);
    }

    #[test]
    fn nothing_is_left_after_forgetting() {
        let mut slots = Slots::new(1, true);
        run(&mut slots, "a", "same");
        slots.forget_all();
        assert_eq!(run(&mut slots, "a", "same").reused, 0);
    }
}
