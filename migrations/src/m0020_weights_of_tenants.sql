-- What a tenant's work counts beside that of others where a worker has not enough for all. Nodes hold it in memory with prices,
-- budgets and limits. Whoever is of an earlier version lets all weigh the same.
ALTER TABLE tenant ADD COLUMN weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100);
CREATE TRIGGER weighed AFTER UPDATE OF weight ON tenant FOR EACH STATEMENT EXECUTE FUNCTION count_version('quotas');
