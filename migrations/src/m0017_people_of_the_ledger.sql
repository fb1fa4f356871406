-- Programs are in the ledger as well as people, and far more often: what names nobody needs no place in the index of people.
-- Until now it also seemed cheaper than the key to whoever settled the uses of a program.
-- Nobody writes the ledger while the index is made: journals keep what comes.
DROP INDEX usage_event_user;
CREATE INDEX usage_event_user ON usage_event (tenant_id, user_id, created_at) WHERE user_id IS NOT NULL;
