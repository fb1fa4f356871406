//! `kontor admin …`: tenants and people, from the machine itself. Whoever may run this may read the database
//! anyway; every use leaves an audit row.

mod audit;
mod cache;
mod day;
mod guardrails;
mod keys;
mod money;
mod output;
mod password;
mod reconcile;
mod syslog;
#[cfg(test)]
mod tests;
mod upstreams;

use crate::{
    AnyError,
    cli::AdminCommand,
    config::Config,
    log,
    startup::{database, models, product::Product},
};
use contract::{ids::RequestId, usage::UsageRange};
use identity::NewPerson;
use inference::Pool;
use output::Output;
use serde_json::json;
use store::tenants::Tenant;
use uuid::Uuid;

/// Who acts, in the audit trail.
const BY: &str = "kontor admin";

/// Runs one command and prints its result.
///
/// # Errors
/// The database does not answer or is not migrated, or the command is refused.
pub async fn run(config: &Config, command: AdminCommand, json: bool) -> Result<(), AnyError> {
    log::install(&config.log)?;
    let server = database::Server::start(config).await?;
    let outcome = async {
        let pending = server.pending().await?;
        if !pending.is_empty() {
            return Err("the database is not up to date; run `kontor migrate` first".into());
        }
        let db = server.connect(config).await?;
        // No worker is started: these commands infer nothing.
        let product = Product::new(config, db.clone(), models::catalogue(config)?, Pool::default());
        let output = execute(config, &product, command).await;
        db.close().await?;
        output
    }
    .await;
    server.stop().await?;
    let output = outcome?;
    let failure = output.failure().map(str::to_owned);
    let text = output.render(json);
    // What was printed line by line has nothing more to say.
    if !text.is_empty() {
        super::print(&text);
    }
    failure.map_or(Ok(()), |why| Err(why.into()))
}

async fn execute(config: &Config, product: &Product, command: AdminCommand) -> Result<Output, AnyError> {
    let identity = &product.identity;
    match command {
        AdminCommand::CreateTenant { slug, name } => {
            let id = identity.create_tenant(BY, &slug, &name).await?;
            Ok(Output::new(format!("Created the tenant {slug}."), json!({ "id": id, "slug": slug, "name": name })))
        }
        AdminCommand::ListTenants => list_tenants(product).await,
        AdminCommand::SetWeight { tenant, weight } => {
            let id = identity.tenant_by_slug(BY, &tenant).await?;
            identity.set_weight(BY, id, weight).await?;
            Ok(Output::new(format!("The weight of {tenant} is {weight}."), json!({ "id": id, "slug": tenant, "weight": weight })))
        }
        AdminCommand::SetClass { tenant, account, class, inherit: _ } => {
            let id = identity.tenant_by_slug(BY, &tenant).await?;
            match (account, class) {
                (Some(account), class) => keys::set_class(identity, id, &account, class).await,
                (None, Some(class)) => {
                    identity.set_class(BY, id, class).await?;
                    let name = class.name();
                    Ok(Output::new(format!("The data of {tenant} is {name}."), json!({ "id": id, "slug": tenant, "class": name })))
                }
                (None, None) => Err("give a class".into()),
            }
        }
        AdminCommand::CreateUser { tenant, email, name, roles, password_stdin } => {
            let (password, made_up) = password::choose(password_stdin).await?;
            let name = if name.is_empty() { email.clone() } else { name };
            let tenant_id = identity.tenant_by_slug(BY, &tenant).await?;
            let roles = roles.into_iter().map(Into::into).collect();
            let person = NewPerson { tenant: tenant_id, email: email.clone(), name, roles, password };
            let id = identity.create_user(BY, person).await?;
            let text = password::tell(format!("Created {email} in {tenant}."), made_up.as_deref());
            Ok(Output::new(text, json!({ "id": id, "email": email, "tenant": tenant, "password": made_up })))
        }
        AdminCommand::ListUsers { tenant } => list_users(product, tenant).await,
        AdminCommand::SetPassword { email, password_stdin } => {
            let (password, made_up) = password::choose(password_stdin).await?;
            let ended = identity.set_password(BY, &email, password).await?;
            let text = password::tell(format!("Changed the password of {email}; {ended} session(s) ended."), made_up.as_deref());
            Ok(Output::new(text, json!({ "email": email, "sessions_ended": ended, "password": made_up })))
        }
        AdminCommand::SeedLongChat { email, messages, bytes } => {
            let actor = identity.act_as(BY, &email, RequestId(Uuid::now_v7())).await?;
            let id = product.services.transfer.seed_long_chat(&actor, messages, bytes).await?;
            Ok(Output::new(format!("Created the chat /c/{id} for {email}."), json!({ "conversation": id, "email": email })))
        }
        AdminCommand::Ledger { email } => {
            let sums = identity.ledger(BY, &email).await?;
            let value = json!({
                "email": email,
                "open": sums.open,
                "settled": sums.settled,
                "prompt_tokens": sums.prompt_tokens,
                "cached_tokens": sums.cached_tokens,
                "completion_tokens": sums.completion_tokens,
            });
            let text = format!(
                "{email}: {} settled, {} open; prompt {} (cached {}), completion {} tokens",
                sums.settled, sums.open, sums.prompt_tokens, sums.cached_tokens, sums.completion_tokens
            );
            Ok(Output::new(text, value))
        }
        AdminCommand::Reconcile { day } => reconcile::execute(product, day.as_deref()).await,
        AdminCommand::VerifyAudit { expect } => audit::verify(&product.services, expect.as_deref()).await,
        AdminCommand::ExportAudit(args) => audit::export(&product.services, &args).await,
        AdminCommand::ExportCharges { tenant, from, to, focus } => {
            let id = identity.tenant_by_slug(BY, &tenant).await?;
            Ok(Output::verbatim(product.services.charges.csv(BY, id, &tenant, &UsageRange { from, to }, focus).await?))
        }
        AdminCommand::Guardrails(command) => guardrails::execute(product, command).await,
        AdminCommand::Cache(command) => cache::execute(product, command).await,
        AdminCommand::Upstreams(command) => upstreams::execute(config, product, command).await,
        AdminCommand::Money(command) => money::execute(product, command).await,
        command => keys::execute(identity, command).await,
    }
}

async fn list_tenants(product: &Product) -> Result<Output, AnyError> {
    let tenants = product.identity.tenants(BY).await?;
    let line = |tenant: &Tenant| format!("{:<16} weight {:<3} {:<12} {}", tenant.slug, tenant.weight, tenant.class.name(), tenant.name);
    let lines = tenants.iter().map(line);
    let text = lines.collect::<Vec<_>>().join("\n");
    let value = tenants
        .iter()
        .map(|tenant| json!({ "id": tenant.id, "slug": tenant.slug, "name": tenant.name, "weight": tenant.weight, "class": tenant.class }));
    Ok(Output::new(text, value.collect()))
}

async fn list_users(product: &Product, tenant: Option<String>) -> Result<Output, AnyError> {
    let tenant = match tenant {
        Some(slug) => Some(product.identity.tenant_by_slug(BY, &slug).await?),
        None => None,
    };
    let people = product.identity.people(BY, tenant).await?;
    let lines = people.iter().map(|person| {
        let roles: Vec<String> = person.roles.iter().map(|role| format!("{role:?}")).collect();
        let disabled = if person.disabled { "  (disabled)" } else { "" };
        format!("{:<16} {:<32} {}{disabled}", person.tenant_slug, person.email, roles.join(", "))
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let value = people.iter().map(|person| {
        json!({
            "id": person.user,
            "tenant": person.tenant_slug,
            "email": person.email,
            "name": person.name,
            "roles": person.roles,
            "disabled": person.disabled,
        })
    });
    Ok(Output::new(text, value.collect()))
}
