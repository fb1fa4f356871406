-- How closely data is kept: that of a tenant, and of a service account where it is another one. Nodes hold it in memory with keys.
-- Whoever is of an earlier version sends everything everywhere, as before.
ALTER TABLE tenant ADD COLUMN data_class text NOT NULL DEFAULT 'internal'
  CHECK (data_class IN ('public', 'internal', 'confidential', 'restricted'));
ALTER TABLE service_account ADD COLUMN data_class text
  CHECK (data_class IN ('public', 'internal', 'confidential', 'restricted'));
CREATE TRIGGER classified AFTER UPDATE OF data_class ON tenant FOR EACH STATEMENT EXECUTE FUNCTION count_version('keys');

-- What a call said of its data stays with what goes on from it later: a batch's lines, and responses that another one follows.
-- Nothing said is the least.
ALTER TABLE batch ADD COLUMN data_class text NOT NULL DEFAULT 'public'
  CHECK (data_class IN ('public', 'internal', 'confidential', 'restricted'));
ALTER TABLE response ADD COLUMN data_class text NOT NULL DEFAULT 'public'
  CHECK (data_class IN ('public', 'internal', 'confidential', 'restricted'));
