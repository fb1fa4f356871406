-- Programs are in the ledger as well as people, and far more often: what names nobody needs no place in the index of people.
-- Until now it also seemed cheaper than the key to whoever settled the uses of a program.
-- Nobody writes the ledger while the index is made: journals keep what comes. The old one goes only then, since who drops an
-- index locks out readers, too. Those of the partitions have names of Postgres's own choice, which nobody uses.
CREATE INDEX usage_event_person ON usage_event (tenant_id, user_id, created_at) WHERE user_id IS NOT NULL;
DROP INDEX usage_event_user;
ALTER INDEX usage_event_person RENAME TO usage_event_user;
