-- A message is reported by its id alone. Ids are in order of time, so that a new one goes to the end of the index.
CREATE INDEX chat_messages_by_id ON chat_messages (id);
