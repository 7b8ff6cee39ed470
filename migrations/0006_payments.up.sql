-- Money: a double-entry ledger that nobody can talk into anything, and the payments that are held in escrow until a gig
-- is done. All amounts are whole satang.

-- --- the ledger -------------------------------------------------------------------------------------------------------
--
-- A posting is a journal of two entries or more that sum to zero. It is made by ledger_post() alone, which runs with the
-- owner's rights: the application may read the ledger's tables and call the function, nothing else. Journals and entries
-- are never changed or deleted, by anybody. Balances are kept by a trigger on the entries.
--
-- Every entry holds a hash over itself and the entry before it, and every journal over itself and the last entry of the
-- journal before it in its chain. There are several chains, so that a posting waits only for those of its own chain; a
-- transaction's postings are all in one. Fees and bank have an account a chain for the same reason.

CREATE TABLE ledger_accounts (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind     text NOT NULL CHECK (kind IN ('WALLET', 'ESCROW', 'FEES', 'BANK')),
  owner    text NOT NULL,
  balance  bigint NOT NULL DEFAULT 0,
  UNIQUE (owner, kind),
  CONSTRAINT ledger_accounts_not_negative CHECK (kind = 'BANK' OR balance >= 0)
) WITH (fillfactor = 70);
COMMENT ON TABLE ledger_accounts IS 'read-only: written by ledger_post and the trigger on entries';
COMMENT ON COLUMN ledger_accounts.kind IS 'BANK is the world outside: what it paid in makes it negative';
COMMENT ON COLUMN ledger_accounts.owner IS 'the user of a WALLET or an ESCROW; the chain of FEES and BANK';

CREATE TABLE ledger_chains (
  chain    smallint PRIMARY KEY,
  journals bigint NOT NULL DEFAULT 0,
  hash     bytea NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE ledger_chains IS 'read-only: the end of each chain, written by ledger_post';

CREATE TABLE ledger_journals (
  chain           smallint NOT NULL REFERENCES ledger_chains,
  number          bigint NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('HOLD', 'RELEASE', 'REFUND', 'SPLIT')),
  transaction_id  uuid NOT NULL,
  at              timestamptz NOT NULL,
  hash            bytea NOT NULL,
  PRIMARY KEY (chain, number)
);
COMMENT ON TABLE ledger_journals IS 'read-only: written by ledger_post, never changed';
-- The last word on "exactly once": money is held once, and leaves escrow once.
CREATE UNIQUE INDEX ledger_journals_one_hold ON ledger_journals (transaction_id) WHERE kind = 'HOLD';
CREATE UNIQUE INDEX ledger_journals_one_end ON ledger_journals (transaction_id) WHERE kind <> 'HOLD';

CREATE TABLE ledger_entries (
  chain       smallint NOT NULL,
  number      bigint NOT NULL,
  line        smallint NOT NULL CHECK (line >= 1),
  account_id  bigint NOT NULL REFERENCES ledger_accounts,
  amount      bigint NOT NULL CHECK (amount <> 0),
  hash        bytea NOT NULL,
  PRIMARY KEY (chain, number, line),
  FOREIGN KEY (chain, number) REFERENCES ledger_journals
);
COMMENT ON TABLE ledger_entries IS 'read-only: written by ledger_post, never changed';
CREATE INDEX ledger_entries_of_account ON ledger_entries (account_id, chain, number);

INSERT INTO ledger_chains (chain, hash) SELECT n, sha256(('hourz ledger chain ' || n)::bytea) FROM generate_series(0, 7) n;
INSERT INTO ledger_accounts (kind, owner)
SELECT kind, n::text FROM (VALUES ('BANK'), ('FEES')) k (kind), generate_series(0, 7) n;

CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% of % is not allowed: the ledger is only added to', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'ledger_append_only';
END $$;
CREATE TRIGGER ledger_journals_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_journals
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER ledger_entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER ledger_accounts_stay BEFORE DELETE OR TRUNCATE ON ledger_accounts
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

-- An account opens empty, and its balance follows its entries: nothing else moves it.
CREATE FUNCTION ledger_guard_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.balance := 0;
  ELSIF pg_trigger_depth() < 2 OR (NEW.id, NEW.kind, NEW.owner) IS DISTINCT FROM (OLD.id, OLD.kind, OLD.owner) THEN
    RAISE EXCEPTION 'ledger account % is moved by entries alone', OLD.id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'ledger_append_only';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER ledger_accounts_guard BEFORE INSERT OR UPDATE ON ledger_accounts
  FOR EACH ROW EXECUTE FUNCTION ledger_guard_account();

CREATE FUNCTION ledger_keep_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE ledger_accounts a SET balance = a.balance + e.amount
  FROM (SELECT account_id, sum(amount)::bigint AS amount FROM added GROUP BY account_id) e WHERE a.id = e.account_id;
  RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_keep_balances AFTER INSERT ON ledger_entries
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_keep_balances();

-- Looked at when the transaction commits, whoever wrote the journal or added an entry to it.
CREATE FUNCTION ledger_check_journal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  total numeric;
  lines bigint;
BEGIN
  SELECT coalesce(sum(amount), 0), count(*) INTO total, lines
  FROM ledger_entries WHERE chain = NEW.chain AND number = NEW.number;
  IF total <> 0 OR lines < 2 THEN
    RAISE EXCEPTION 'journal %/% has % entries that sum to %', NEW.chain, NEW.number, lines, total
      USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_journal_balanced';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_journals_balanced AFTER INSERT ON ledger_journals
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_check_journal();
-- Two entries at least, so the last of a posting speaks for all; one added to an old journal is always a last one.
CREATE CONSTRAINT TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.line >= 2) EXECUTE FUNCTION ledger_check_journal();

-- What is hashed. src/rooms/payments/ledger.cpp says it again, and the audit holds the two together.
CREATE FUNCTION ledger_journal_text(chain smallint, number bigint, kind text, transaction_id uuid, at timestamptz)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT 'journal ' || chain || '/' || number || ' ' || kind || ' ' || transaction_id || ' '
         || (extract(epoch FROM at) * 1000000)::bigint $$;
CREATE FUNCTION ledger_entry_text(line smallint, kind text, owner text, amount bigint)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT 'entry ' || line || ' ' || kind || ' ' || owner || ' ' || amount $$;

-- Posts a journal of a transaction: line n moves `amounts[n]` into the account of `kinds[n]` and `owners[n]` (the nil
-- uuid: the chain's own). Lines of zero are left out. Accounts are locked in one order, those of everybody last, and the
-- end of the chain after them, so that postings that cross wait for each other and never for ever. Gives the journal's
-- number in its chain.
CREATE FUNCTION ledger_post(transaction uuid, kind text, kinds text[], owners uuid[], amounts bigint[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
  own_chain CONSTANT smallint := get_byte(uuid_send(transaction), 15) % 8;
  posted_kind CONSTANT text := kind;
  names text[];
  ids bigint[];
  place bigint;
  link bytea;
  posted_at timestamptz;
  hashes bytea[] := '{}';
  head bytea;
  line smallint := 0;
BEGIN
  IF cardinality(kinds) <> cardinality(owners) OR cardinality(kinds) <> cardinality(amounts) THEN
    RAISE EXCEPTION 'a posting whose lists differ in length' USING ERRCODE = 'check_violation';
  END IF;
  SELECT array_agg(w.kind ORDER BY w.nth), array_agg(w.owner ORDER BY w.nth), array_agg(w.amount ORDER BY w.nth)
  INTO kinds, names, amounts
  FROM (SELECT u.kind, CASE WHEN u.owner = nobody THEN own_chain::text ELSE u.owner::text END AS owner, u.amount, u.nth
        FROM unnest(kinds, owners, amounts) WITH ORDINALITY u (kind, owner, amount, nth) WHERE u.amount <> 0) w;
  INSERT INTO ledger_accounts (kind, owner)
  SELECT w.kind, w.owner FROM unnest(kinds, names) w (kind, owner)
  WHERE NOT EXISTS (SELECT 1 FROM ledger_accounts a WHERE a.owner = w.owner AND a.kind = w.kind)
  ORDER BY w.owner, w.kind
  ON CONFLICT (owner, kind) DO NOTHING;
  PERFORM 1 FROM ledger_accounts a JOIN unnest(kinds, names) w (kind, owner) ON a.owner = w.owner AND a.kind = w.kind
  ORDER BY a.kind IN ('FEES', 'BANK'), a.id FOR NO KEY UPDATE OF a;
  SELECT array_agg(a.id ORDER BY w.nth) INTO ids
  FROM unnest(kinds, names) WITH ORDINALITY w (kind, owner, nth)
  JOIN ledger_accounts a ON a.owner = w.owner AND a.kind = w.kind;
  SELECT c.journals + 1, c.hash INTO place, link FROM ledger_chains c WHERE c.chain = own_chain FOR NO KEY UPDATE;
  posted_at := clock_timestamp();
  head := sha256(link || ledger_journal_text(own_chain, place, posted_kind, transaction, posted_at)::bytea);
  link := head;
  FOR i IN 1 .. coalesce(cardinality(ids), 0) LOOP
    link := sha256(link || ledger_entry_text(i::smallint, kinds[i], names[i], amounts[i])::bytea);
    hashes := hashes || link;
  END LOOP;
  INSERT INTO ledger_journals (chain, number, kind, transaction_id, at, hash)
  VALUES (own_chain, place, posted_kind, transaction, posted_at, head);
  INSERT INTO ledger_entries (chain, number, line, account_id, amount, hash)
  SELECT own_chain, place, w.nth, w.id, w.amount, w.hash
  FROM unnest(ids, amounts, hashes) WITH ORDINALITY w (id, amount, hash, nth);
  UPDATE ledger_chains c SET journals = place, hash = link WHERE c.chain = own_chain;
  RETURN place;
END $$;
COMMENT ON FUNCTION ledger_post IS 'the only way to move money';

-- --- payments ---------------------------------------------------------------------------------------------------------

CREATE TABLE transactions (
  id              uuid PRIMARY KEY,
  gig_id          uuid NOT NULL REFERENCES gigs,
  payer_id        uuid NOT NULL REFERENCES users,
  payee_id        uuid NOT NULL REFERENCES users,
  amount          bigint NOT NULL CHECK (amount > 0),
  fee_bps         integer NOT NULL CHECK (fee_bps BETWEEN 0 AND 10000),
  service_fee     bigint NOT NULL CHECK (service_fee >= 0),
  net_amount      bigint NOT NULL CHECK (net_amount >= 0),
  currency        text NOT NULL DEFAULT 'THB' CHECK (currency = 'THB'),
  status          text NOT NULL DEFAULT 'PENDING'
                  CHECK (status IN ('PENDING', 'HELD', 'RELEASED', 'REFUNDED', 'DISPUTED', 'FAILED')),
  payment_method  text NOT NULL,
  reference       text NOT NULL,
  request_key     text NOT NULL,
  dispute_reason  text,
  disputed_by     uuid REFERENCES users,
  disputed_at     timestamptz,
  payee_amount    bigint CHECK (payee_amount BETWEEN 0 AND amount),
  payee_fee       bigint CHECK (payee_fee BETWEEN 0 AND payee_amount),
  created_at      timestamptz NOT NULL DEFAULT statement_timestamp(),
  released_at     timestamptz,
  refunded_at     timestamptz,
  version         bigint NOT NULL DEFAULT 1,
  pay_back        bigint NOT NULL DEFAULT 0 CHECK (pay_back BETWEEN 0 AND amount),
  settle_at       timestamptz,
  attempts        integer NOT NULL DEFAULT 0,
  CONSTRAINT transactions_fee_whole CHECK (service_fee + net_amount = amount),
  CONSTRAINT transactions_sides CHECK (payer_id <> payee_id),
  CONSTRAINT transactions_settles CHECK ((status = 'PENDING' OR pay_back > 0) = (settle_at IS NOT NULL))
) WITH (fillfactor = 80);
COMMENT ON COLUMN transactions.status IS 'PENDING: written before the provider is asked, and shown to nobody';
COMMENT ON COLUMN transactions.request_key IS 'the Idempotency-Key, or else the request, that asked for it: to know a retry by';
COMMENT ON COLUMN transactions.payee_amount IS 'of a split: what the payee got, fee included; the payer got the rest';
COMMENT ON COLUMN transactions.pay_back IS 'what the provider still has to give back to the payer';
COMMENT ON COLUMN transactions.settle_at IS 'when the provider is asked (again); null when nothing is open with it';
CREATE UNIQUE INDEX transactions_one_live ON transactions (gig_id) WHERE status IN ('PENDING', 'HELD', 'DISPUTED');
CREATE INDEX transactions_of_gig ON transactions (gig_id, created_at);
CREATE INDEX transactions_of_payer ON transactions (payer_id, created_at, id);
CREATE INDEX transactions_of_payee ON transactions (payee_id, created_at, id);
CREATE INDEX transactions_to_settle ON transactions (settle_at) WHERE settle_at IS NOT NULL;

-- What a payment can become, and that what was agreed stays as it was agreed.
CREATE FUNCTION transactions_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
       ('PENDING', 'HELD'), ('PENDING', 'FAILED'), ('HELD', 'RELEASED'), ('HELD', 'REFUNDED'), ('HELD', 'DISPUTED'),
       ('DISPUTED', 'RELEASED'), ('DISPUTED', 'REFUNDED')) THEN
    RAISE EXCEPTION 'transaction % cannot go from % to %', OLD.id, OLD.status, NEW.status
      USING ERRCODE = 'check_violation', CONSTRAINT = 'transactions_transition';
  END IF;
  IF (NEW.id, NEW.gig_id, NEW.payer_id, NEW.payee_id, NEW.amount, NEW.service_fee, NEW.net_amount, NEW.currency,
      NEW.payment_method, NEW.reference, NEW.created_at)
     IS DISTINCT FROM (OLD.id, OLD.gig_id, OLD.payer_id, OLD.payee_id, OLD.amount, OLD.service_fee, OLD.net_amount,
      OLD.currency, OLD.payment_method, OLD.reference, OLD.created_at) THEN
    RAISE EXCEPTION 'transaction % is agreed', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'transactions_agreed';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER transactions_guard BEFORE UPDATE ON transactions FOR EACH ROW EXECUTE FUNCTION transactions_guard();
-- Both sides hear of it, whichever statement it was.
CREATE FUNCTION transactions_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox (kind, topic, note)
  SELECT 'person.told', person, 'payment_' || lower(NEW.status) || ' ' || NEW.gig_id
  FROM unnest(ARRAY[NEW.payer_id, NEW.payee_id]) AS person;
  RETURN NULL;
END $$;
CREATE TRIGGER transactions_tell AFTER UPDATE OF status ON transactions FOR EACH ROW
  WHEN (OLD.status <> NEW.status AND NEW.status IN ('HELD', 'RELEASED', 'REFUNDED', 'DISPUTED'))
  EXECUTE FUNCTION transactions_tell();
CREATE TRIGGER transactions_stay BEFORE DELETE OR TRUNCATE ON transactions
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
