DELETE FROM timers WHERE kind = 'payment.release';
DROP TABLE transactions;
DROP FUNCTION transactions_tell();
DROP FUNCTION transactions_guard, ledger_post, ledger_entry_text, ledger_journal_text;
DROP TABLE ledger_entries, ledger_journals, ledger_chains, ledger_accounts;
DROP FUNCTION ledger_check_journal, ledger_keep_balances, ledger_guard_account, ledger_refuse;
