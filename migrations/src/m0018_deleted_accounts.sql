-- A service account can be removed, with its keys and all that it owns. What it used stays in the ledger, and what it did in the
-- audit trail: both name it without a foreign key.
GRANT DELETE ON service_account TO kontor_system;
