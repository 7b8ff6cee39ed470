DROP TABLE socket_tickets;
DROP TABLE outbox;
