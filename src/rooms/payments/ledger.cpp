#include "rooms/payments/ledger.hpp"

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
constexpr std::size_t hash_bytes = std::tuple_size_v<Mac>;

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

struct JournalRow {
  std::int64_t number;
  std::string kind;
  Uuid transaction_id;
  Timestamp at;
  db::Bytes hash;
  std::vector<std::int64_t> lines, accounts, amounts;
  db::Bytes hashes;
};
BOOST_DESCRIBE_STRUCT(JournalRow, (), (number, kind, transaction_id, at, hash, lines, accounts, amounts, hashes))

const db::Query<AccountRow> select_accounts{sql::audit_accounts};
const db::Query<JournalRow, Stretch> select_page{sql::audit_page};

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

  void take(const JournalRow& row) {
    const std::string name = "journal " + std::to_string(chain_->number) + "/" + std::to_string(row.number);
    while (++number_ < row.number) {
      fault("journal " + std::to_string(chain_->number) + "/" + std::to_string(number_) + " is missing");
    }
    ++report.journals;
    follow(ledger::link_of(link_, ledger::Journal{chain_->number, row.number, row.kind, row.transaction_id, row.at}),
           row.hash.value, [&] { return name + " (" + row.kind + " of " + to_string(row.transaction_id) + ")"; });
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < row.lines.size(); ++i) {
      ++report.entries;
      sum += row.amounts[i];
      const auto account = accounts_.find(row.accounts[i]);
      const std::string entry = name + " entry " + std::to_string(row.lines[i]);
      if (account == accounts_.end()) {
        fault(entry + " is of no account");
        continue;
      }
      Account& one = account->second;
      one.added += row.amounts[i];
      if (row.lines[i] != static_cast<std::int64_t>(i) + 1) fault(entry + " stands where another is missing");
      follow(ledger::link_of(link_, ledger::Line{row.lines[i], one.kind, one.owner, row.amounts[i]}),
             std::string_view(row.hashes.value).substr(std::min(i * hash_bytes, row.hashes.value.size()), hash_bytes),
             [&] {
               return entry + " (" + to_string(Money{row.amounts[i]}) + " baht for " + one.kind + " of " + one.owner +
                      ")";
             });
    }
    if (sum != 0 || row.lines.size() < 2) {
      fault(name + " has " + std::to_string(row.lines.size()) + " entries that sum to " + to_string(Money{sum}) +
            " baht");
    }
  }

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

}  // namespace

Awaitable<LedgerAudit> audit_ledger(db::Executor& db) {
  Audit audit;
  for (AccountRow& row : co_await db::all(db, select_accounts)) audit.take(std::move(row));
  for (const Chain& chain : audit.chains) {
    audit.begin(chain);
    Stretch stretch{static_cast<std::int16_t>(chain.number), 0, chain.journals, journals_a_page};
    std::size_t read = 0;
    do {
      const auto rows = co_await db::all(db, select_page, stretch);
      for (const JournalRow& row : rows) audit.take(row);
      if (!rows.empty()) stretch.after = rows.back().number;
      read = rows.size();
    } while (read == static_cast<std::size_t>(journals_a_page));
    audit.end();
  }
  audit.add_up();
  co_return std::move(audit.report);
}

}  // namespace hourz::payments
