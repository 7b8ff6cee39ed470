#include "rooms/payments/ledger.hpp"

#include <span>
#include <unordered_map>

#include "payments_sql.hpp"

namespace hourz::payments {
namespace ledger {

Mac link_of(std::string_view previous, const Journal& journal) {
  std::string text(previous);
  text += "journal " + std::to_string(journal.chain) + "/" + std::to_string(journal.number) + " " + journal.kind + " " +
          to_string(journal.transaction_id) + " " + std::to_string(journal.at.microseconds);
  return sha256(text);
}

Mac link_of(std::string_view previous, const Line& line) {
  std::string text(previous);
  text += "entry " + std::to_string(line.line) + " ";
  text += line.account_kind;
  text += ' ';
  text += line.account_owner;
  text += ' ' + std::to_string(line.amount);
  return sha256(text);
}

}  // namespace ledger

namespace {

constexpr std::int64_t journals_a_page = 20'000;
constexpr std::size_t faults_told = 20;

struct AccountRow {
  std::string kind;
  std::int64_t id;
  std::string owner;
  std::int64_t balance;
};
BOOST_DESCRIBE_STRUCT(AccountRow, (), (kind, id, owner, balance))

struct Stretch {
  std::int16_t chain;
  std::int64_t after, last, page;
};
BOOST_DESCRIBE_STRUCT(Stretch, (), (chain, after, last, page))

struct EntriesOf {
  std::int16_t chain;
  std::int64_t after, last;
};
BOOST_DESCRIBE_STRUCT(EntriesOf, (), (chain, after, last))

struct JournalRow {
  std::int64_t number;
  std::string kind;
  Uuid transaction_id;
  Timestamp at;
  db::Bytes hash;
};
BOOST_DESCRIBE_STRUCT(JournalRow, (), (number, kind, transaction_id, at, hash))

struct EntryRow {
  std::int64_t number, line, account_id, amount;
  db::Bytes hash;
};
BOOST_DESCRIBE_STRUCT(EntryRow, (), (number, line, account_id, amount, hash))

const db::Query<AccountRow> select_accounts{sql::audit_accounts};
const db::Query<JournalRow, Stretch> select_journals{sql::audit_journals};
const db::Query<EntryRow, EntriesOf> select_entries{sql::audit_entries};

struct Account {
  std::string kind, owner;
  std::int64_t balance, added = 0;
};

struct Chain {
  std::int64_t number, journals;
  std::string hash;  ///< in hex
};

class Audit {
 public:
  LedgerAudit report;

  void take(AccountRow&& row) {
    if (row.kind == "CHAIN") {
      chains.push_back({row.id, row.balance, std::move(row.owner)});
    } else if (row.kind == "DUE") {
      due_[row.owner] = row.balance;
    } else {
      accounts_.emplace(row.id, Account{std::move(row.kind), std::move(row.owner), row.balance});
    }
  }

  void begin(const Chain& chain) {
    chain_ = &chain;
    number_ = 0;
    link_ = std::string(as_text(sha256("hourz ledger chain " + std::to_string(chain.number))));
  }

  /// Its entries are those of its number.
  void take(const JournalRow& row, std::span<const EntryRow> entries) {
    while (++number_ < row.number) fault(name_of(number_) + " is missing");
    ++report.journals;
    follow(ledger::link_of(link_, ledger::Journal{chain_->number, row.number, row.kind, row.transaction_id, row.at}),
           row.hash.value,
           [&] { return name_of(row.number) + " (" + row.kind + " of " + to_string(row.transaction_id) + ")"; });
    std::int64_t sum = 0, place = 0;
    for (const EntryRow& entry : entries) {
      ++report.entries;
      ++place;
      sum += entry.amount;
      const auto name = [&] { return name_of(row.number) + " entry " + std::to_string(entry.line); };
      const auto account = accounts_.find(entry.account_id);
      if (account == accounts_.end()) {
        fault(name() + " is of no account");
        continue;
      }
      Account& one = account->second;
      one.added += entry.amount;
      if (entry.line != place) fault(name() + " stands where another is missing");
      follow(
          ledger::link_of(link_, ledger::Line{entry.line, one.kind, one.owner, entry.amount}), entry.hash.value, [&] {
            return name() + " (" + to_string(Money{entry.amount}) + " baht for " + one.kind + " of " + one.owner + ")";
          });
    }
    if (sum != 0 || entries.size() < 2) {
      fault(name_of(row.number) + " has " + std::to_string(entries.size()) + " entries that sum to " +
            to_string(Money{sum}) + " baht");
    }
  }

  void take_stray(const EntryRow& entry) { fault("an entry of " + name_of(entry.number) + ", which is not there"); }

  void end() {
    if (number_ != chain_->journals) {
      fault("chain " + std::to_string(chain_->number) + " has " + std::to_string(chain_->journals) +
            " journals by its end, and " + std::to_string(number_) + " in fact");
    } else if (to_hex(link_) != chain_->hash) {
      fault("chain " + std::to_string(chain_->number) + " does not end as its last entry does");
    }
  }

  void add_up() {
    std::int64_t total = 0;
    for (const auto& [id, account] : accounts_) {
      ++report.accounts;
      total += account.balance;
      if (account.balance != account.added) {
        fault("account " + std::to_string(id) + " (" + account.kind + " of " + account.owner + ") has " +
              to_string(Money{account.balance}) + " baht, and entries of " + to_string(Money{account.added}));
      }
      if (account.balance < 0 && account.kind != "BANK") fault("account " + std::to_string(id) + " is below zero");
      if (account.kind == "ESCROW") {
        const auto found = due_.find(account.owner);
        const std::int64_t due = found == due_.end() ? 0 : found->second;
        if (found != due_.end()) due_.erase(found);
        if (due != account.balance) {
          fault("escrow of " + account.owner + " holds " + to_string(Money{account.balance}) +
                " baht for transactions of " + to_string(Money{due}));
        }
      }
    }
    for (const auto& [owner, amount] : due_) {
      fault("escrow of " + owner + " is not there, for transactions of " + to_string(Money{amount}) + " baht");
    }
    if (total != 0) fault("all balances sum to " + to_string(Money{total}) + " baht");
  }

  std::vector<Chain> chains;

 private:
  std::string name_of(std::int64_t number) const {
    return "journal " + std::to_string(chain_->number) + "/" + std::to_string(number);
  }

  /// Goes on from what is written rather than from what should be, so that one fault is told once.
  template <class Name>
  void follow(const Mac& computed, std::string_view written, Name name) {
    if (as_text(computed) != written) fault(name() + " is not what was posted");
    link_.assign(written);
  }

  void fault(std::string text) {
    if (report.faults.size() < faults_told) report.faults.push_back(std::move(text));
  }

  std::unordered_map<std::int64_t, Account> accounts_;
  std::map<std::string, std::int64_t> due_;
  const Chain* chain_ = nullptr;
  std::int64_t number_ = 0;
  std::string link_;
};

/// Both in the order of the chain.
void take_stretch(Audit& audit, const std::vector<JournalRow>& journals, const std::vector<EntryRow>& entries) {
  std::size_t at = 0;
  for (const JournalRow& journal : journals) {
    const std::size_t stray = at;
    while (at < entries.size() && entries[at].number < journal.number) ++at;
    const std::size_t first = at;
    while (at < entries.size() && entries[at].number == journal.number) ++at;
    audit.take(journal, std::span(entries).subspan(first, at - first));
    for (std::size_t i = stray; i < first; ++i) audit.take_stray(entries[i]);
  }
}

}  // namespace

Awaitable<LedgerAudit> audit_ledger(db::Executor& db) {
  Audit audit;
  for (AccountRow& row : co_await db::all(db, select_accounts)) audit.take(std::move(row));
  for (const Chain& chain : audit.chains) {
    audit.begin(chain);
    Stretch stretch{static_cast<std::int16_t>(chain.number), 0, chain.journals, journals_a_page};
    while (true) {
      const auto journals = co_await db::all(db, select_journals, stretch);
      if (journals.empty()) break;
      const EntriesOf wanted{stretch.chain, stretch.after, journals.back().number};
      take_stretch(audit, journals, co_await db::all(db, select_entries, wanted));
      stretch.after = journals.back().number;
    }
    audit.end();
  }
  audit.add_up();
  co_return std::move(audit.report);
}

}  // namespace hourz::payments
