-- fragment: row
  t.id, t.gig_id, t.payer_id, t.payee_id, t.amount, t.service_fee, t.net_amount, t.currency, t.status, t.payment_method,
  t.reference, t.request_key, t.dispute_reason, t.disputed_by, t.disputed_at, t.payee_amount, t.payee_fee, t.created_at,
  t.released_at, t.refunded_at, t.fee_bps, t.version

-- fragment: nobody
  '00000000-0000-0000-0000-000000000000'::uuid

-- fragment: shown
  -- What is not settled with the provider is no payment yet; a charge that failed is the payer's own affair.
  t.status <> 'PENDING' AND (t.payer_id = :viewer OR (t.payee_id = :viewer AND t.status <> 'FAILED'))

-- fragment: of_the_same_request
  t.request_key = :request_key AND t.payee_id = :payee_id AND t.status <> 'FAILED'
  AND t.created_at > statement_timestamp() - interval '24 hours'

-- name: payments.gig_terms
-- Who would pay whom how much. The gig stands still until the intent is written: a cancellation that came between would
-- not know of it.
SELECT seeker_id, helper_id, status, budget FROM gigs WHERE id = :gig_id FOR SHARE

-- name: payments.open
-- The intent, before the provider is asked. No row when the gig has a live payment already, or had one of the same key to
-- the same helper: a key stands for one charge whatever became of it, for as long as keys are kept. Should we die, the
-- job takes it up after half a minute, which is longer than a provider takes to answer.
INSERT INTO transactions AS t (id, gig_id, payer_id, payee_id, amount, fee_bps, service_fee, net_amount, payment_method,
                               reference, request_key, settle_at)
SELECT :id, :gig_id, :payer_id, :payee_id, :amount, :fee_bps, :service_fee, :net_amount, :payment_method, :reference,
       :request_key, statement_timestamp() + interval '30 s'
WHERE NOT EXISTS (SELECT 1 FROM transactions t
                  WHERE gig_id = :gig_id AND payer_id = :payer_id AND @of_the_same_request@)
ON CONFLICT (gig_id) WHERE status IN ('PENDING', 'HELD', 'DISPUTED') DO NOTHING
RETURNING @row@

-- name: payments.live
-- The payment of the same key, or else the one that is in a new one's way.
SELECT @row@ FROM transactions t
WHERE t.gig_id = :gig_id AND (t.status IN ('PENDING', 'HELD', 'DISPUTED') OR
  (t.payer_id = :payer_id AND @of_the_same_request@))
ORDER BY t.payer_id = :payer_id AND t.request_key = :request_key DESC LIMIT 1

-- name: payments.lock
-- Whoever wants to end a payment takes turns here.
SELECT @row@, g.status AS gig_status FROM transactions t JOIN gigs g ON g.id = t.gig_id WHERE t.id = :id FOR UPDATE OF t

-- name: payments.lock_live
-- The same for whoever moves the gig.
SELECT @row@ FROM transactions t WHERE t.gig_id = :gig_id AND t.status IN ('PENDING', 'HELD', 'DISPUTED') FOR UPDATE

-- name: payments.hold
-- The charge is made: the money is in escrow. When the work was completed meanwhile, the clock that releases it starts
-- here.
WITH t AS (
  UPDATE transactions SET status = 'HELD', settle_at = NULL, version = version + 1
  WHERE id = :id AND status = 'PENDING' RETURNING *),
posted AS (
  SELECT ledger_post(t.id, 'HOLD', ARRAY['BANK', 'ESCROW'], ARRAY[@nobody@, t.payer_id], ARRAY[-t.amount, t.amount])
  FROM t),
timer AS (
  INSERT INTO timers (kind, subject_id, due_at)
  SELECT 'payment.release', t.id, statement_timestamp() + make_interval(hours => :hours)
  FROM t JOIN gigs g ON g.id = t.gig_id WHERE g.status = 'COMPLETED'
  ON CONFLICT (kind, subject_id) DO NOTHING)
SELECT @row@ FROM t CROSS JOIN posted

-- name: payments.fail
-- The provider declined: nothing was charged, and of an intent that was given up meanwhile nothing is to be given back.
UPDATE transactions SET status = 'FAILED', pay_back = 0, settle_at = NULL, version = version + 1
WHERE id = :id AND (status = 'PENDING' OR (status = 'FAILED' AND pay_back > 0))

-- name: payments.unknown
-- The provider did not answer: the job asks again soon.
UPDATE transactions SET settle_at = statement_timestamp() WHERE id = :id AND status = 'PENDING'

-- name: payments.abandon
-- The gig moved on before the charge was settled: whatever comes of it is given back.
UPDATE transactions SET status = 'FAILED', pay_back = amount, settle_at = statement_timestamp(), version = version + 1
WHERE id = :id AND status = 'PENDING'

-- name: payments.release
-- To the payee, less the fee. The row is locked.
WITH t AS (
  UPDATE transactions SET status = 'RELEASED', released_at = statement_timestamp(), version = version + 1
  WHERE id = :id AND status = 'HELD' RETURNING *),
posted AS (
  SELECT ledger_post(t.id, 'RELEASE', ARRAY['ESCROW', 'WALLET', 'FEES'], ARRAY[t.payer_id, t.payee_id, @nobody@],
                     ARRAY[-t.amount, t.net_amount, t.service_fee])
  FROM t)
SELECT @row@ FROM t CROSS JOIN posted

-- name: payments.refund
-- Back to where it came from: out of escrow now, and by the provider as soon as it answers. What an administrator
-- does stands in the audit log.
WITH t AS (
  UPDATE transactions SET status = 'REFUNDED', refunded_at = statement_timestamp(), version = version + 1,
    pay_back = amount, settle_at = statement_timestamp(), attempts = 0
  WHERE id = :id AND status IN ('HELD', 'DISPUTED') RETURNING *),
posted AS (
  SELECT ledger_post(t.id, 'REFUND', ARRAY['ESCROW', 'BANK'], ARRAY[t.payer_id, @nobody@], ARRAY[-t.amount, t.amount])
  FROM t),
audit AS (
  INSERT INTO audit_log (id, admin_id, action, subject_id, details)
  SELECT :audit_id, :admin_id, 'payment.refund', t.id, jsonb_build_object('amount', t.amount)
  FROM t WHERE :admin_id::uuid IS NOT NULL)
SELECT @row@ FROM t CROSS JOIN posted

-- name: payments.dispute
-- Nothing moves any more until an administrator has decided.
UPDATE transactions t SET status = 'DISPUTED', dispute_reason = :reason, disputed_by = :by,
  disputed_at = statement_timestamp(), version = version + 1
WHERE t.id = :id AND t.status = 'HELD' RETURNING @row@

-- name: payments.split
-- An administrator's decision: the payee's part less its fee, the rest back to the payer.
WITH t AS (
  UPDATE transactions SET status = CASE WHEN :payee_amount = 0 THEN 'REFUNDED' ELSE 'RELEASED' END,
    payee_amount = :payee_amount, payee_fee = :payee_fee,
    released_at = CASE WHEN :payee_amount > 0 THEN statement_timestamp() END,
    refunded_at = CASE WHEN :payee_amount < amount THEN statement_timestamp() END,
    pay_back = amount - :payee_amount, attempts = 0,
    settle_at = CASE WHEN :payee_amount < amount THEN statement_timestamp() END, version = version + 1
  WHERE id = :id AND status = 'DISPUTED' RETURNING *),
posted AS (
  SELECT ledger_post(t.id, 'SPLIT', ARRAY['ESCROW', 'WALLET', 'FEES', 'BANK'],
                     ARRAY[t.payer_id, t.payee_id, @nobody@, @nobody@],
                     ARRAY[-t.amount, t.payee_amount - t.payee_fee, t.payee_fee, t.amount - t.payee_amount])
  FROM t),
audit AS (
  INSERT INTO audit_log (id, admin_id, action, subject_id, details)
  SELECT :audit_id, :admin_id, 'payment.split', t.id,
         jsonb_build_object('amount', t.amount, 'payee_amount', t.payee_amount) FROM t)
SELECT @row@ FROM t CROSS JOIN posted

-- name: payments.arm
-- The clock starts with the completion of the work.
INSERT INTO timers (kind, subject_id, due_at)
VALUES ('payment.release', :id, statement_timestamp() + make_interval(hours => :hours))
ON CONFLICT (kind, subject_id) DO NOTHING

-- name: payments.due
-- What is open with the provider. Whoever takes a row puts its next time off, ever further: of several servers one asks,
-- and one that dies is followed by another.
UPDATE transactions t SET attempts = attempts + 1,
  settle_at = statement_timestamp() + make_interval(secs => least(3600, 30 + 2 ^ least(attempts, 11)))
WHERE t.id IN (SELECT id FROM transactions WHERE settle_at <= statement_timestamp() ORDER BY settle_at LIMIT 50
               FOR UPDATE SKIP LOCKED)
RETURNING t.id, t.status, t.payment_method, t.amount, t.pay_back

-- name: payments.paid_back
-- The provider has given back what it had to.
UPDATE transactions SET pay_back = 0, settle_at = NULL, version = version + 1 WHERE id = :id AND pay_back > 0

-- name: payments.unsettled
-- For the metrics, along the short index of what is open with the provider: charges that it has not answered for, and
-- what it has still to give back.
SELECT count(*) FILTER (WHERE status = 'PENDING') AS charges, count(*) FILTER (WHERE status <> 'PENDING') AS repayments,
  coalesce(greatest(0, extract(epoch FROM statement_timestamp() - min(created_at) FILTER (WHERE status = 'PENDING'))
                       * 1000000)::bigint, 0) AS charge_age_us,
  coalesce(greatest(0, extract(epoch FROM statement_timestamp() - min(coalesce(refunded_at, created_at))
                       FILTER (WHERE status <> 'PENDING')) * 1000000)::bigint, 0) AS repayment_age_us
FROM transactions WHERE settle_at IS NOT NULL

-- name: payments.in_escrow
-- For the metrics, along the index of live payments. A held payment whose gig has ended waits for its timer alone: where
-- that is gone, fails or is late, nobody else will release it.
SELECT count(*) FILTER (WHERE status = 'HELD') AS held, count(*) FILTER (WHERE status = 'DISPUTED') AS disputed,
  coalesce(greatest(0, extract(epoch FROM statement_timestamp() - min(disputed_at) FILTER (WHERE status = 'DISPUTED'))
                       * 1000000)::bigint, 0) AS dispute_age_us,
  count(*) FILTER (WHERE is_left) AS overdue,
  coalesce(greatest(0, extract(epoch FROM statement_timestamp() - min(release_at) FILTER (WHERE is_left))
                       * 1000000)::bigint, 0) AS late_us
FROM (SELECT t.status, t.disputed_at,
        t.status = 'HELD' AND g.status NOT IN ('ACCEPTED', 'IN_PROGRESS') AND
          (m.due_at IS NULL OR m.attempts > 0 OR m.due_at < statement_timestamp() - interval '1 min') AS is_left,
        CASE g.status WHEN 'COMPLETED' THEN greatest(g.completed_at, t.created_at) + make_interval(hours => :hours)
                      ELSE g.updated_at END AS release_at
      FROM transactions t JOIN gigs g ON g.id = t.gig_id
      LEFT JOIN timers m ON m.kind = 'payment.release' AND m.subject_id = t.id
      WHERE t.status IN ('HELD', 'DISPUTED')) live

-- name: payments.by_id
-- For its two sides, and for administrators.
SELECT @row@ FROM transactions t WHERE t.id = :id AND (@shown@ OR (:is_admin AND t.status <> 'PENDING'))

-- name: payments.of_gig
-- The newest of a gig's payments that came to something, else the newest that failed.
SELECT @row@ FROM transactions t WHERE t.gig_id = :id AND (@shown@ OR (:is_admin AND t.status <> 'PENDING'))
ORDER BY t.status = 'FAILED', t.created_at DESC, t.id DESC LIMIT 1

-- name: payments.history
-- The newest first; each side on its own index.
SELECT @row@ FROM (
  (SELECT * FROM transactions t
   WHERE :as_payer AND t.payer_id = :viewer AND t.status <> 'PENDING' AND (:status::text IS NULL OR t.status = :status)
     AND (t.created_at, t.id) < (:before, :before_id)
   ORDER BY t.created_at DESC, t.id DESC LIMIT :page)
  UNION ALL
  (SELECT * FROM transactions t
   WHERE :as_payee AND t.payee_id = :viewer AND t.status NOT IN ('PENDING', 'FAILED')
     AND (:status::text IS NULL OR t.status = :status) AND (t.created_at, t.id) < (:before, :before_id)
   ORDER BY t.created_at DESC, t.id DESC LIMIT :page)) t
ORDER BY t.created_at DESC, t.id DESC LIMIT :page

-- name: payments.summary
-- All of somebody's payments in a few sums.
SELECT
  coalesce(sum(coalesce(payee_amount, amount)) FILTER (WHERE payer AND status = 'RELEASED'), 0)::bigint AS paid,
  coalesce(sum(amount) FILTER (WHERE payer AND status IN ('HELD', 'DISPUTED')), 0)::bigint AS held,
  coalesce(sum(amount - coalesce(payee_amount, 0)) FILTER (WHERE payer AND refunded_at IS NOT NULL), 0)::bigint
    AS refunded,
  coalesce(sum(coalesce(payee_amount - payee_fee, net_amount)) FILTER (WHERE NOT payer AND status = 'RELEASED'), 0)::bigint
    AS earned,
  coalesce(sum(net_amount) FILTER (WHERE NOT payer AND status IN ('HELD', 'DISPUTED')), 0)::bigint AS awaited,
  coalesce(sum(coalesce(payee_fee, service_fee)) FILTER (WHERE NOT payer AND status = 'RELEASED'), 0)::bigint AS fees,
  count(*) FILTER (WHERE status <> 'FAILED') AS transactions
FROM (SELECT true AS payer, * FROM transactions WHERE payer_id = :viewer AND status <> 'PENDING'
      UNION ALL
      SELECT false, * FROM transactions WHERE payee_id = :viewer AND status NOT IN ('PENDING', 'FAILED')) t

-- name: payments.wallet
-- Two rows at most, along the unique index.
SELECT coalesce(sum(balance) FILTER (WHERE kind = 'WALLET'), 0)::bigint AS balance,
       coalesce(sum(balance) FILTER (WHERE kind = 'ESCROW'), 0)::bigint AS held
FROM ledger_accounts WHERE owner = :owner

-- name: payments.audit_accounts
-- Accounts, the ends of the chains and what escrow should hold, in one statement and so of one moment: whatever is posted
-- later lies behind the ends.
SELECT 'CHAIN' AS kind, chain::bigint AS id, encode(hash, 'hex') AS owner, journals AS balance FROM ledger_chains
UNION ALL SELECT kind, id, owner, balance FROM ledger_accounts
UNION ALL SELECT 'DUE', 0, payer_id::text, sum(amount)::bigint FROM transactions
          WHERE status IN ('HELD', 'DISPUTED') GROUP BY payer_id

-- name: payments.audit_journals
-- A stretch of a chain.
SELECT number, kind, transaction_id, at, hash FROM ledger_journals
WHERE chain = :chain AND number > :after AND number <= :last ORDER BY number LIMIT :page

-- name: payments.audit_entries
-- The entries of that stretch, in the order of the chain and of its index.
SELECT number, line::bigint AS line, account_id, amount, hash FROM ledger_entries
WHERE chain = :chain AND number > :after AND number <= :last ORDER BY number, line

-- name: payments.export_transactions
-- Somebody's payments, on whichever side.
SELECT id::text AS key, json_build_object(
  'id', id, 'gig_id', gig_id, 'role', CASE WHEN payer_id = :user THEN 'payer' ELSE 'payee' END, 'payer_id', payer_id,
  'payee_id', payee_id, 'amount', trim_scale(amount / 100.0), 'service_fee', trim_scale(service_fee / 100.0),
  'net_amount', trim_scale(net_amount / 100.0), 'currency', currency, 'status', status, 'payment_method', payment_method,
  'reference', reference, 'dispute_reason', dispute_reason, 'disputed_by_me', disputed_by = :user,
  'disputed_at', wire_time(disputed_at), 'payee_amount', trim_scale(payee_amount / 100.0),
  'created_at', wire_time(created_at), 'released_at', wire_time(released_at),
  'refunded_at', wire_time(refunded_at))::text AS item
FROM transactions
WHERE (payer_id = :user OR (payee_id = :user AND status NOT IN ('PENDING', 'FAILED')))
  AND (:after = '' OR id > nullif(:after, '')::uuid)
ORDER BY id LIMIT :page

-- name: payments.export_entries
-- What the ledger has on somebody's accounts, entry by entry.
SELECT e.chain || ' ' || e.number || ' ' || e.line AS key, json_build_object(
  'account', a.kind, 'journal', j.kind, 'transaction_id', j.transaction_id, 'amount', trim_scale(e.amount / 100.0),
  'at', wire_time(j.at))::text AS item
FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
JOIN ledger_journals j ON j.chain = e.chain AND j.number = e.number
WHERE a.owner = :user::uuid::text
  AND (:after = '' OR (e.chain, e.number, e.line) > (nullif(split_part(:after, ' ', 1), '')::smallint,
                                                     nullif(split_part(:after, ' ', 2), '')::bigint,
                                                     nullif(split_part(:after, ' ', 3), '')::smallint))
ORDER BY e.chain, e.number, e.line LIMIT :page

-- name: payments.is_open
-- Whether money of somebody's is in escrow, disputed or not, or on its way to them.
SELECT EXISTS (
  SELECT 1 FROM transactions WHERE payer_id = :user_id AND (status IN ('PENDING', 'HELD', 'DISPUTED') OR pay_back > 0)
  UNION ALL
  SELECT 1 FROM transactions WHERE payee_id = :user_id AND status IN ('PENDING', 'HELD', 'DISPUTED')) AS open
