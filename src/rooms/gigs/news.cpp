// A gig's news: what the alerts room tells of it, read in one statement for many.
#include "gigs_sql.hpp"
#include "rooms/gigs/rows.hpp"

namespace hourz::gigs {
namespace {

struct NewsRow : CardRow {
  double true_latitude, true_longitude;
  std::optional<std::string> true_address_text, true_cancel_reason;
  std::vector<std::string> terms;
  bool expired;
};
BOOST_DESCRIBE_STRUCT(NewsRow, (CardRow),
                      (true_latitude, true_longitude, true_address_text, true_cancel_reason, terms, expired))

struct Wanted {
  Uuid viewer;
  std::vector<Uuid> ids;
};
BOOST_DESCRIBE_STRUCT(Wanted, (), (viewer, ids))

const db::Query<NewsRow, Wanted> select_news{sql::news};

}  // namespace

Awaitable<std::vector<News>> read_news(db::Executor& db, std::vector<Uuid> ids) {
  std::vector<News> all;
  for (NewsRow& row : co_await db::all(db, select_news, Wanted{Uuid{}, std::move(ids)})) {
    News news;
    news.terms = std::move(row.terms);
    news.expired = row.expired;
    news.open_view = to_gig(CardRow(row));
    news.own_view = news.open_view;
    news.own_view.latitude = row.true_latitude;
    news.own_view.longitude = row.true_longitude;
    news.own_view.address_text = std::move(row.true_address_text);
    news.own_view.cancel_reason = std::move(row.true_cancel_reason);
    all.push_back(std::move(news));
  }
  co_return all;
}

}  // namespace hourz::gigs
