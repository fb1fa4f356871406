//! Every act of an administrator is in the audit trail: once, with its action and with who did it.

use super::{BY, Output, execute};
use crate::{
    AnyError,
    cli::{AdminCommand, Cli, Command, upstreams::UpstreamsCommand},
    config::{Config, Sources},
    startup::product::Product,
};
use clap::{CommandFactory, Parser};
use domain::secret::Secret;
use inference::{Catalogue, Pool};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};
use testkit::{TestDb, fake_worker::fake_model};

/// Commands in their order, and the action that each leaves in the audit trail. `{id}` is the last one that was told.
const ACTS: &[(&str, &str)] = &[
    ("create-tenant --slug acme --name Acme", "tenant.created"),
    ("set-weight --tenant acme --weight 4", "tenant.weight_set"),
    ("set-class --tenant acme --class confidential", "tenant.class_set"),
    ("create-user --tenant acme --email kim@acme.example", "user.created"),
    ("set-password --email kim@acme.example", "password.set"),
    ("seed-long-chat --email kim@acme.example --messages 2 --bytes 100", "person.acted_for"),
    ("create-service-account --tenant acme --name Reports --purpose Tests", "service_account.created"),
    ("set-class --tenant acme --account Reports --class public", "service_account.class_set"),
    ("disable-service-account --tenant acme --name Reports", "service_account.disabled"),
    ("disable-service-account --tenant acme --name Reports --undo", "service_account.enabled"),
    ("create-key --tenant acme --account Reports", "key.created"),
    ("disable-key --id {id}", "key.disabled"),
    ("disable-key --id {id} --undo", "key.enabled"),
    ("rotate-key --id {id}", "key.rotated"),
    ("set-price --model fake-model --currency EUR --input 1", "price.set"),
    ("add-budget --tenant acme --level team --amount 1 --currency EUR", "budget.created"),
    ("remove-budget --tenant acme --id {id}", "budget.removed"),
    ("add-limit --tenant acme --level key --requests 1", "limit.created"),
    ("remove-limit --tenant acme --id {id}", "limit.removed"),
    ("set-guardrails --tenant acme --file {rules}", "guardrails.set"),
    ("remove-guardrails --tenant acme", "guardrails.removed"),
    ("set-response-cache --tenant acme", "response_cache.set"),
    ("remove-response-cache --tenant acme", "response_cache.removed"),
    ("set-upstream-key somewhere", "upstream_key.set"),
    ("rotate-master-key", "master_key.rotated"),
    ("remove-upstream-key somewhere", "upstream_key.removed"),
    ("delete-service-account --tenant acme --account Reports --yes", "service_account.deleted"),
];

/// Commands that change nothing: of them the trail has only that somebody looked.
const LOOKS: [&str; 15] = [
    "export-audit",
    "export-charges",
    "ledger",
    "list-budgets",
    "list-limits",
    "list-prices",
    "list-service-accounts",
    "list-tenants",
    "list-upstream-keys",
    "list-users",
    "reconcile",
    "show-guardrails",
    "show-response-cache",
    "try-guardrails",
    "verify-audit",
];

/// Functions that begin a transaction of an administrator and change nothing in the database, by file.
const READERS: [&str; 16] = [
    "administration::ledger",
    "administration::people",
    "administration::tenants",
    "charges::csv",
    "guardrails::get",
    "people::tenant_by_slug",
    "quotas::budgets",
    "quotas::rate_limits",
    "response_caches::get",
    "service_accounts::keys",
    "service_accounts::service_account",
    "service_accounts::service_accounts",
    "service_accounts::tenant_of_key",
    "upstream_credentials::begin",
    "upstream_credentials::forget_old_keys",
    "upstream_credentials::list",
];

async fn run(config: &Config, product: &Product, line: &str) -> Result<Output, AnyError> {
    let parsed = Cli::try_parse_from(["kontor", "admin"].into_iter().chain(line.split(' ')))?;
    match parsed.command {
        // It reads the key from standard input, which the test does not have for itself.
        Some(Command::Admin { command: AdminCommand::Upstreams(UpstreamsCommand::SetUpstreamKey { name }), .. }) => {
            let master_key = product.upstream_credentials.set(BY, &name, &Secret::new("sk-kept")).await?;
            Ok(Output::new(String::new(), json!({ "master_key": master_key })))
        }
        Some(Command::Admin { command, .. }) => execute(config, product, command).await,
        other => Err(format!("no command of an administrator: {other:?}").into()),
    }
}

/// Acts in the trail: all of them, and those with this action that the command did to something.
async fn acts(db: &TestDb, action: &str) -> (i64, i64) {
    let all = "SELECT count(*) AS value FROM audit_event WHERE action NOT LIKE 'system.%'";
    let these = format!("{all} AND action = '{action}' AND actor = '{BY}' AND target <> ''");
    (db.count_as_owner(all).await, db.count_as_owner(&these).await)
}

#[tokio::test]
async fn each_act_leaves_one_event_with_its_action_and_who_did_it() {
    let (db, folder) = (TestDb::new().await, tempfile::tempdir().expect("a folder"));
    let mut config = Config::load(&Sources::default()).expect("the defaults");
    config.data_dir = folder.path().into();
    let rules = folder.path().join("rules.json");
    let check = json!({ "kind": "words", "words": ["x"] });
    let policy = json!({ "rules": [{ "name": "letter", "check": check, "on": ["input"], "action": "block" }] });
    fs::write(&rules, policy.to_string()).expect("a file");
    let catalogue = Catalogue::new(vec![fake_model()]).expect("a catalogue");
    let product = Product::new(&config, db.db.clone(), catalogue, Pool::default());
    let mut id = String::new();
    for (line, action) in ACTS {
        let line = line.replace("{id}", &id).replace("{rules}", &rules.display().to_string());
        let before = acts(&db, action).await;
        let output = run(&config, &product, &line).await.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(
            acts(&db, action).await,
            (before.0 + 1, before.1 + 1),
            "`{line}`: all events, and those that are `{action}` by {BY}. If you are here because this failed: somebody changed \
             something, and nobody can find out who."
        );
        let told: Value = serde_json::from_str(&output.render(true)).expect("JSON");
        if let Some(told) = told["id"].as_str() {
            told.clone_into(&mut id);
        }
    }
}

#[test]
fn every_command_is_tried_or_only_looks() {
    let there: BTreeSet<String> = Cli::command()
        .find_subcommand("admin")
        .expect("kontor admin")
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let tried = ACTS.iter().filter_map(|(line, _)| line.split(' ').next());
    let listed: BTreeSet<String> = tried.chain(LOOKS).map(str::to_owned).collect();
    assert_eq!(
        there, listed,
        "If you are here because this failed: put the new command into ACTS, with what it leaves in the audit trail, or into LOOKS \
         if it changes nothing."
    );
}

#[test]
fn every_action_is_one_of_a_command_that_is_tried() {
    const EVENT: &str = "AuditEvent::new(by, ";
    let mut there = BTreeSet::new();
    for (file, text) in sources() {
        for (at, _) in text.match_indices(EVENT) {
            let behind = &text[at + EVENT.len()..];
            // Named at once, or one of several that was chosen before.
            let named = if behind.starts_with('"') {
                behind
            } else {
                &text[text[..at].rfind("let action = ").unwrap_or_else(|| panic!("{file}: an event without an action"))..]
            };
            let end = named.find([')', ';']).unwrap_or(named.len());
            there.extend(named[..end].split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let tried: BTreeSet<String> = ACTS.iter().map(|(_, action)| (*action).to_owned()).collect();
    assert_eq!(there, tried, "If you are here because this failed: ACTS lacks a command for an action, or has one that nothing writes.");
}

#[test]
fn whoever_begins_an_act_writes_it_down_or_only_reads() {
    let mut silent = BTreeSet::new();
    for (file, text) in sources() {
        for function in text.split("async fn ").skip(1) {
            let begins = function.contains("Reason::Administration") || function.contains("self.begin(by)");
            if begins && !function.contains(".audit(&") {
                silent.insert(format!("{file}::{}", function.split(['(', '<']).next().unwrap_or_default()));
            }
        }
    }
    let readers: BTreeSet<String> = READERS.into_iter().map(str::to_owned).collect();
    assert_eq!(
        silent, readers,
        "If you are here because this failed: write an audit event into the transaction, or put the function into READERS if it \
         changes nothing."
    );
}

/// Where administrators' acts are written, without the tests: the name of each file, and its text.
fn sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut folders = ["identity/src", "services/src"].map(|folder| crates.join(folder)).to_vec();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a source file");
            found.push((name, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()));
        }
    }
    found
}
