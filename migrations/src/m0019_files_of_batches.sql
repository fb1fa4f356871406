-- What a batch writes is known as its own from the first piece on: what is left of the room that was set aside for it follows
-- from that, and comes back with an upload that is removed because its node died. Whoever is of an earlier version names no
-- batch, and takes the room by itself.
ALTER TABLE file
  -- No foreign key: files stay when their batch goes.
  ADD COLUMN batch_id uuid;
CREATE INDEX file_batch ON file (tenant_id, batch_id) WHERE batch_id IS NOT NULL;
