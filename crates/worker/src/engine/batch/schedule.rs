//! Who gets how many tokens of a step: every running answer its one, the prompts equal shares of the rest.

/// What a sequence could use in this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Its next token.
    Decode,
    /// This many tokens of its prompt are still to be computed.
    Prefill(usize),
}

/// Tokens for each sequence, in the order of `needs`. `turn` rotates who gets what an equal division leaves
/// over, so that nobody is always first.
pub fn share(needs: &[Need], budget: usize, turn: usize) -> Vec<usize> {
    let mut shares: Vec<usize> = needs.iter().map(|need| usize::from(*need == Need::Decode)).collect();
    let mut left = budget.saturating_sub(shares.iter().sum());
    let mut hungry: Vec<(usize, usize)> = needs
        .iter()
        .enumerate()
        .filter_map(|(at, need)| match need {
            Need::Prefill(tokens) if *tokens > 0 => Some((at, *tokens)),
            _ => None,
        })
        .collect();
    if !hungry.is_empty() {
        let first = turn % hungry.len();
        hungry.rotate_left(first);
    }
    // Short prompts leave the unused part of their share to the others.
    while left > 0 && !hungry.is_empty() {
        let each = (left / hungry.len()).max(1);
        hungry.retain_mut(|(at, missing)| {
            let given = each.min(*missing).min(left);
            if let Some(share) = shares.get_mut(*at) {
                *share += given;
            }
            *missing -= given;
            left -= given;
            *missing > 0
        });
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::Need::{Decode, Prefill};
    use super::*;

    #[test]
    fn every_answer_gets_its_token_even_without_budget() {
        assert_eq!(share(&[Decode, Decode, Prefill(9)], 2, 0), [1, 1, 0]);
    }

    #[test]
    fn prompts_share_what_the_answers_leave() {
        assert_eq!(share(&[Decode, Prefill(1000), Prefill(1000)], 101, 0), [1, 50, 50]);
    }

    #[test]
    fn a_short_prompt_passes_its_rest_on() {
        assert_eq!(share(&[Prefill(10), Prefill(1000)], 100, 0), [10, 90]);
        assert_eq!(share(&[Prefill(10), Prefill(20)], 100, 0), [10, 20]);
    }

    #[test]
    fn nobody_is_always_first() {
        let firsts: Vec<Vec<usize>> = (0..3).map(|turn| share(&[Prefill(9), Prefill(9), Prefill(9)], 1, turn)).collect();
        assert_eq!(firsts, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]);
    }

    #[test]
    fn the_budget_is_never_exceeded() {
        for budget in 3..200 {
            let shares = share(&[Decode, Prefill(37), Prefill(5), Decode, Prefill(90)], budget, budget);
            assert!(shares.iter().sum::<usize>() <= budget, "{budget}: {shares:?}");
            assert!(shares.iter().sum::<usize>() == budget.min(2 + 37 + 5 + 90), "{budget}: {shares:?}");
        }
    }

    #[test]
    fn nothing_to_do_is_fine() {
        assert!(share(&[], 10, 5).is_empty());
    }
}
