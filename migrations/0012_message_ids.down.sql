DROP INDEX chat_messages_by_id;
