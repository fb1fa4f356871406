//! Who gets how many tokens of a step: every running answer its one, the prompts what is left.
//!
//! Cutting prompts into the room that running answers leave is Sarathi-Serve's stall-free batching (Agrawal et
//! al., OSDI 2024), and deciding anew in each step who takes part is Orca's iteration-level scheduling (Yu et
//! al., OSDI 2022).

/// What a sequence could use in this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Its next token.
    Decode,
    /// This many tokens are still to be computed before one can be chosen.
    Prefill(usize),
}

/// Tokens for each sequence, in the order of `needs`. `order` names the sequences by who is first; prompts are
/// served in that order, except that in every second step (`turn`) those go first that can be finished in it, so
/// that a short question does not wait for a long document and the document is not pushed back for ever.
pub fn share(needs: &[Need], budget: usize, order: &[usize], turn: usize) -> Vec<usize> {
    let mut shares: Vec<usize> = needs.iter().map(|need| usize::from(*need == Need::Decode)).collect();
    let mut left = budget.saturating_sub(shares.iter().sum());
    let missing = |at: usize| match needs.get(at) {
        Some(Need::Prefill(tokens)) => *tokens,
        _ => 0,
    };
    let mut hungry: Vec<usize> = order.iter().copied().filter(|at| missing(*at) > 0).collect();
    if turn % 2 == 1 {
        // Stable: the order stays within both groups.
        hungry.sort_by_key(|at| missing(*at) > left);
    }
    for at in hungry {
        let given = missing(at).min(left);
        if let Some(share) = shares.get_mut(at) {
            *share = given;
        }
        left -= given;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::Need::{Decode, Prefill};
    use super::*;

    #[test]
    fn every_answer_gets_its_token_even_without_budget() {
        assert_eq!(share(&[Decode, Decode, Prefill(9)], 2, &[0, 1, 2], 0), [1, 1, 0]);
    }

    #[test]
    fn who_is_first_is_served_first() {
        assert_eq!(share(&[Decode, Prefill(1000), Prefill(1000)], 101, &[2, 1, 0], 0), [1, 0, 100]);
        assert_eq!(share(&[Decode, Prefill(30), Prefill(1000)], 101, &[1, 2, 0], 0), [1, 30, 70]);
    }

    #[test]
    fn a_short_prompt_does_not_wait_for_a_long_one() {
        let needs = [Prefill(1000), Prefill(10)];
        assert_eq!(share(&needs, 100, &[0, 1], 0), [100, 0]);
        assert_eq!(share(&needs, 100, &[0, 1], 1), [90, 10]);
    }

    #[test]
    fn the_budget_is_never_exceeded() {
        for budget in 3..200 {
            let shares = share(&[Decode, Prefill(37), Prefill(5), Decode, Prefill(90)], budget, &[4, 1, 0, 2, 3], budget);
            assert!(shares.iter().sum::<usize>() <= budget, "{budget}: {shares:?}");
            assert!(shares.iter().sum::<usize>() == budget.min(2 + 37 + 5 + 90), "{budget}: {shares:?}");
        }
    }

    #[test]
    fn nothing_to_do_is_fine() {
        assert!(share(&[], 10, &[], 5).is_empty());
    }
}
