//! The rules that every table must follow, read from Postgres' own catalogue.

use crate::statement;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, QueryResult};
use testkit::{TestDb, ledger::execute_as_owner};

async fn owner(test: &TestDb) -> DatabaseConnection {
    let mut options = ConnectOptions::new(&test.owner_url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

async fn rows(test: &TestDb, sql: &str) -> Vec<QueryResult> {
    owner(test).await.query_all_raw(statement(sql, [])).await.unwrap()
}

fn text(row: &QueryResult, column: &str) -> String {
    row.try_get("", column).unwrap()
}

/// Tables that hold a tenant's rows: those with `tenant_id`, and `tenant` itself. Not partitions, which answer to nobody.
const TENANT_TABLES: &str = "
    SELECT c.oid, c.relname::text AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND (c.relname = 'tenant' OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped))";

#[tokio::test]
async fn every_tenant_table_forces_rls() {
    let test = TestDb::new().await;
    let wrong = unguarded_tables(&test).await;
    assert!(
        wrong.is_empty(),
        "{}\nIf you are here because this failed: CALL enforce_tenancy('your_table') in the migration that creates it.",
        wrong.join("\n")
    );
}

#[tokio::test]
async fn the_index_of_the_ledger_s_people_names_people_alone_in_each_partition() {
    let test = TestDb::new().await;
    let indexes = |which: &str| {
        format!("SELECT count(*) AS value FROM pg_indexes WHERE schemaname = 'public' AND tablename LIKE 'usage_event%' AND {which}")
    };
    let of_people = "indexdef LIKE '%(tenant_id, user_id, created_at)%'";
    let named = indexes("indexname = 'usage_event_user' AND indexdef LIKE '%WHERE (user_id IS NOT NULL)'");
    assert_eq!(test.count_as_owner(&named).await, 1);
    assert!(test.count_as_owner(&indexes(of_people)).await > 1, "none of the partitions has it: the query is wrong");
    let of_all = indexes(&format!("{of_people} AND indexdef NOT LIKE '%WHERE (user_id IS NOT NULL)'"));
    assert_eq!(test.count_as_owner(&of_all).await, 0);
    assert_eq!(test.count_as_owner(&indexes("indexname = 'usage_event_person'")).await, 0, "what it is called while it is made");
}

#[tokio::test]
async fn partitions_answer_to_nobody_but_their_owner() {
    let test = TestDb::new().await;
    let partitions = rows(
        &test,
        "SELECT c.relname::text AS name,
                c.relrowsecurity AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
                  AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)
                  AND NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL) AS closed
         FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND c.relkind IN ('r', 'p')",
    )
    .await;
    assert!(partitions.len() >= 9, "only {} partitions found: the query is wrong", partitions.len());
    let open: Vec<String> =
        partitions.iter().filter(|row| !row.try_get::<bool>("", "closed").unwrap()).map(|row| text(row, "name")).collect();
    assert!(
        open.is_empty(),
        "{open:?}. If you are here because this failed: the policies of a table do not count for whoever asks its partition. No grants, \
         no policies, and row-level security enabled on every partition."
    );
}

/// What the tenant tables lack.
async fn unguarded_tables(test: &TestDb) -> Vec<String> {
    let tables = rows(test, TENANT_TABLES).await;
    assert!(tables.len() >= 12, "only {} tables found: the query is wrong", tables.len());
    let mut wrong = Vec::new();
    for table in &tables {
        let name = text(table, "name");
        let guarded = table.try_get::<bool>("", "enabled").unwrap() && table.try_get::<bool>("", "forced").unwrap();
        if !guarded {
            wrong.push(format!("{name}: row-level security is not enabled and forced"));
        }
        wrong.extend(policy_faults(test, &name).await);
    }
    wrong
}

/// What a table's policies lack. The tenant's must bind reading and writing to `app_tenant()`, and no policy
/// may be for everybody.
async fn policy_faults(test: &TestDb, table: &str) -> Vec<String> {
    let policies = rows(
        test,
        &format!(
            "SELECT policyname::text AS name, roles::text[]::text AS roles, permissive, cmd, coalesce(qual, '') AS using, coalesce(with_check, '') AS check
             FROM pg_policies WHERE schemaname = 'public' AND tablename = '{table}'"
        ),
    )
    .await;
    let key = if table == "tenant" { "id" } else { "tenant_id" };
    let bound = format!("({key} = app_tenant())");
    let mut seen: Vec<(String, String, String, String)> =
        policies.iter().map(|policy| (text(policy, "roles"), text(policy, "cmd"), text(policy, "using"), text(policy, "check"))).collect();
    seen.sort();
    let mut wanted = vec![
        ("{kontor_system}".to_owned(), "ALL".to_owned(), "true".to_owned(), "true".to_owned()),
        ("{kontor_tenant}".to_owned(), "ALL".to_owned(), bound.clone(), bound),
    ];
    wanted.sort();
    if seen == wanted { Vec::new() } else { vec![format!("{table}: policies are {seen:?}")] }
}

#[tokio::test]
async fn the_logins_own_nothing_and_bypass_nothing() {
    let test = TestDb::new().await;
    let strong = rows(
        &test,
        "SELECT rolname::text AS name FROM pg_roles r
         WHERE rolname IN ('kontor_tenant', 'kontor_system')
           AND (rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole
                OR EXISTS (SELECT 1 FROM pg_class c WHERE c.relowner = r.oid)
                OR EXISTS (SELECT 1 FROM pg_auth_members m WHERE m.member = r.oid))",
    )
    .await;
    let strong: Vec<String> = strong.iter().map(|row| text(row, "name")).collect();
    assert!(
        strong.is_empty(),
        "{strong:?}. If you are here because this failed: the web's logins must not be able to switch the policies off."
    );
}

#[tokio::test]
async fn every_view_runs_with_the_readers_rights() {
    let test = TestDb::new().await;
    let views = rows(
        &test,
        "SELECT relname::text AS name FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')
           AND NOT (relkind = 'v' AND coalesce(reloptions, '{}') @> ARRAY['security_invoker=true'])",
    )
    .await;
    let views: Vec<String> = views.iter().map(|row| text(row, "name")).collect();
    assert!(views.is_empty(), "{views:?}. If you are here because this failed: WITH (security_invoker = true); no materialised views.");
}

#[tokio::test]
async fn foreign_keys_between_tenant_tables_include_the_tenant() {
    let test = TestDb::new().await;
    let loose = loose_keys(&test).await;
    assert!(
        loose.is_empty(),
        "{loose:?}. If you are here because this failed: a row could point into another tenant. FOREIGN KEY (tenant_id, …) REFERENCES … (tenant_id, …)."
    );
}

async fn loose_keys(test: &TestDb) -> Vec<String> {
    let keys = rows(
        test,
        &format!(
            "WITH tenant_table AS ({TENANT_TABLES})
             SELECT con.conname::text AS name, con.conrelid::regclass::text AS child,
                    EXISTS (
                      SELECT 1 FROM unnest(con.conkey, con.confkey) AS k(child, parent)
                      JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.child
                      JOIN pg_attribute b ON b.attrelid = con.confrelid AND b.attnum = k.parent
                      WHERE a.attname = 'tenant_id' AND b.attname IN ('tenant_id', 'id')
                        AND (b.attname = 'tenant_id' OR con.confrelid = 'tenant'::regclass)
                    ) AS bound
             FROM pg_constraint con
             WHERE con.contype = 'f' AND con.conrelid IN (SELECT oid FROM tenant_table) AND con.confrelid IN (SELECT oid FROM tenant_table)"
        ),
    )
    .await;
    assert!(keys.len() >= 12, "only {} keys found: the query is wrong", keys.len());
    let loose = keys.iter().filter(|key| !key.try_get::<bool>("", "bound").unwrap());
    loose.map(|key| format!("{} of {}", text(key, "name"), text(key, "child"))).collect()
}

#[tokio::test]
async fn every_foreign_key_has_an_index() {
    let test = TestDb::new().await;
    let bare = bare_keys(&test).await;
    assert!(
        bare.is_empty(),
        "{bare:?}. If you are here because this failed: deleting a parent row would read the whole child table. CREATE INDEX on the key's columns."
    );
}

async fn bare_keys(test: &TestDb) -> Vec<String> {
    // Good enough: an index that begins with all the key's columns, or a unique one made of some of them. It may leave rows out
    // that have NULL in the key: they point nowhere.
    let bare = rows(
        test,
        "SELECT con.conname::text AS name, con.conrelid::regclass::text AS child
         FROM pg_constraint con
         WHERE con.contype = 'f' AND con.connamespace = 'public'::regnamespace
           AND NOT EXISTS (
             SELECT 1 FROM pg_index i,
               LATERAL (SELECT array_agg(column_number ORDER BY place) AS columns
                        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS x(column_number, place)) AS c
             WHERE i.indrelid = con.conrelid
               AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) IN (
                 SELECT format('(%I IS NOT NULL)', a.attname) FROM pg_attribute a
                 WHERE a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey)))
               AND (c.columns[1:cardinality(con.conkey)] @> con.conkey OR (i.indisunique AND con.conkey @> c.columns)))",
    )
    .await;
    bare.iter().map(|key| format!("{} of {}", text(key, "name"), text(key, "child"))).collect()
}

#[tokio::test]
async fn the_rules_catch_a_table_that_breaks_them() {
    let test = TestDb::new().await;
    execute_as_owner(
        &test,
        "CREATE TABLE open_table (tenant_id uuid NOT NULL, id uuid PRIMARY KEY, conversation_id uuid NOT NULL);
         ALTER TABLE conversation ADD CONSTRAINT loose_target UNIQUE (id);
         ALTER TABLE open_table ADD CONSTRAINT loose FOREIGN KEY (conversation_id) REFERENCES conversation (id);
         CREATE INDEX partly ON open_table (conversation_id) WHERE id IS NOT NULL;
         CREATE TABLE half_open (tenant_id uuid NOT NULL);
         CALL enforce_tenancy('half_open');
         CREATE POLICY generous ON half_open FOR SELECT USING (true);",
    )
    .await;
    let unguarded = unguarded_tables(&test).await.join("\n");
    assert!(unguarded.contains("open_table: row-level security is not enabled and forced"), "{unguarded}");
    assert!(unguarded.contains("open_table: policies are []"), "{unguarded}");
    assert!(unguarded.contains("half_open: policies are"), "{unguarded}");
    assert_eq!(loose_keys(&test).await, ["loose of open_table"]);
    assert_eq!(bare_keys(&test).await, ["loose of open_table"]);
}

#[tokio::test]
async fn both_logins_see_that_the_schema_is_up_to_date() {
    let test = TestDb::new().await;
    for role in ["kontor_tenant", "kontor_system"] {
        let connection = test.login(role).await;
        let applied = connection.query_all_raw(statement("SELECT version FROM seaql_migrations", [])).await.unwrap();
        assert!(!applied.is_empty());
    }
    assert_eq!(migrations::pending(&test.owner_url).await.unwrap(), Vec::<String>::new());
    migrations::migrate(&test.owner_url).await.unwrap();
}

#[tokio::test]
async fn the_embedded_postgres_brings_vectors() {
    let test = TestDb::new().await;
    let found = test.count_as_owner("SELECT count(*) AS value FROM pg_available_extensions WHERE name = 'vector'").await;
    assert_eq!(found, 1, "If you are here because this failed: knowledge bases need pgvector; install it into this Postgres.");
}
