//! Whether the ledger's rows of a day agree with what processes settled.

use super::{BY, day, output::Output};
use crate::{AnyError, startup::product::Product};
use domain::{Clock, SystemClock};
use serde_json::{Value, json};
use store::{
    Reason,
    ledger_counts::{Compared, Drift, Figures},
};
use time::{Date, OffsetDateTime};

/// Compares a day that is over, yesterday without one. What differs is printed and makes the command fail, so that scripts notice.
///
/// # Errors
/// It is no day, or not over; the database does not answer.
pub async fn execute(product: &Product, of: Option<&str>) -> Result<Output, AnyError> {
    let today = OffsetDateTime::from_unix_timestamp(SystemClock.now().div_euclid(1000))?.date();
    let day = match of {
        Some(text) => day::parse(text)?,
        None => today.saturating_sub(time::Duration::DAY),
    };
    if day >= today {
        return Err(format!("{day} is not over (UTC)").into());
    }
    let tx = product.db.begin_system(BY, Reason::Administration).await?;
    let all = tx.ledger_counts().compare(day).await?;
    tx.commit().await?;
    Ok(told(day, &all))
}

/// All of it, and whatever differs.
fn told(day: Date, all: &[Compared]) -> Output {
    let total = |of: fn(&Compared) -> Figures| all.iter().map(of).fold(Figures::default(), Figures::plus);
    let (counted, ledger, drift) = (total(|one| one.counted), total(|one| one.ledger), Drift::of(all));
    let (running, swept) = (all.iter().map(|one| one.running).sum::<i64>(), all.iter().map(|one| one.swept).sum::<i64>());
    let untold = Compared::untold_processes(all);
    let differing: Vec<&Compared> = all.iter().filter(|one| one.drift() != Figures::default()).collect();
    let mut lines = vec![format!("{day}, settled: {}", line(counted)), format!("{day}, ledger:  {}", line(ledger))];
    if untold > 0 {
        lines.push(format!("{untold} processes did not tell of their last uses, or of any, which only the ledger has."));
    }
    if running + swept > 0 {
        lines.push(format!("Not compared: {running} uses that are open, {swept} that the sweeper settled without figures."));
    }
    lines.extend(differing.iter().map(|one| {
        let node = one.node.map_or_else(|| "none".to_owned(), |node| node.to_string());
        format!("Tenant {}, process {node}: the ledger has {} too many", one.tenant, line(one.drift()))
    }));
    let value = json!({
        "day": day.to_string(), "settled": figures(counted), "ledger": figures(ledger), "running": running, "swept": swept,
        "untold_processes": untold, "drift": { "uses": drift.uses, "tokens": drift.tokens },
        "differing": differing.iter().map(|one| json!({
            "tenant": one.tenant, "process": one.node, "settled": figures(one.counted), "ledger": figures(one.ledger),
            "too_many": figures(one.drift()),
        })).collect::<Vec<_>>(),
    });
    if drift.is_none() {
        let agree = match untold {
            0 if all.is_empty() => "Nothing was used, or the ledger of that day has ended.",
            0 => "They agree.",
            _ => "They agree as far as processes told.",
        };
        lines.push(agree.to_owned());
        return Output::new(lines.join("\n"), value);
    }
    let Drift { uses, tokens } = drift;
    let why = format!("the ledger of {day} and what was settled differ by {uses} uses and {tokens} tokens");
    Output::new(lines.join("\n"), value).failing(why)
}

fn line(Figures { uses, prompt_tokens, cached_tokens, completion_tokens }: Figures) -> String {
    format!("{uses} uses, prompt {prompt_tokens} (cached {cached_tokens}), completion {completion_tokens} tokens")
}

fn figures(Figures { uses, prompt_tokens, cached_tokens, completion_tokens }: Figures) -> Value {
    json!({
        "uses": uses, "prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens, "completion_tokens": completion_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::{Compared, Figures, told};
    use contract::ids::{NodeId, TenantId};
    use time::macros::date;
    use uuid::Uuid;

    fn compared(ledger: Figures, untold: bool) -> Compared {
        let counted = Figures { uses: 2, prompt_tokens: 20, cached_tokens: 8, completion_tokens: 14 };
        Compared { tenant: TenantId(Uuid::nil()), node: Some(NodeId(Uuid::nil())), counted, ledger, running: 0, swept: 0, untold }
    }

    #[test]
    fn what_differs_is_told_with_its_amounts_and_fails() {
        let lost = Figures { uses: 1, prompt_tokens: 10, cached_tokens: 4, completion_tokens: 7 };
        let output = told(date!(2026 - 11 - 29), &[compared(lost, false)]);
        let why = output.failure().expect("If you are here because this failed: scripts do not notice that money is lost.").to_owned();
        assert!(why.contains("1 uses and 21 tokens"), "{why}");
        let text = output.render(false);
        assert!(text.contains("the ledger has -1 uses, prompt -10 (cached -4), completion -7 tokens too many"), "{text}");
    }

    #[test]
    fn what_agrees_and_what_was_not_told_is_no_failure() {
        let same = compared(Figures::default(), false).counted;
        let more = Figures { uses: 3, ..same };
        for (ledger, untold) in [(same, false), (more, true)] {
            let output = told(date!(2026 - 11 - 29), &[compared(ledger, untold)]);
            assert_eq!(output.failure(), None);
            let text = output.render(true);
            assert!(text.contains(r#""drift":{"tokens":0,"uses":0}"#) || text.contains(r#""drift":{"uses":0,"tokens":0}"#), "{text}");
        }
        let text = told(date!(2026 - 11 - 29), &[compared(more, true), compared(more, true)]).render(false);
        assert!(text.contains("1 processes did not tell") && text.contains("as far as processes told"), "one of two organisations: {text}");
        assert!(told(date!(2026 - 11 - 29), &[compared(more, false)]).failure().is_some(), "all was told, and the ledger has more");
    }
}
