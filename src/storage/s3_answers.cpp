#include "storage/s3_answers.hpp"

#include <expat.h>

#include <charconv>
#include <limits>
#include <memory>

#include "core/time.hpp"

namespace hourz::storage {
namespace {

/// Walks a document and tells the path and text of each element that ends, as `ListBucketResult/Contents/Key`.
class Reader {
 public:
  virtual ~Reader() = default;
  Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  bool read(std::string_view xml) {
    if (xml.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) return false;
    const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser(XML_ParserCreate("UTF-8"),
                                                                              &XML_ParserFree);
    if (!parser) return false;
    parser_ = parser.get();
    XML_SetUserData(parser_, this);
    XML_SetElementHandler(parser_, &Reader::on_start, &Reader::on_end);
    XML_SetCharacterDataHandler(parser_, &Reader::on_text);
    XML_SetStartDoctypeDeclHandler(parser_, &Reader::on_doctype);
    return XML_Parse(parser_, xml.data(), static_cast<int>(xml.size()), 1) == XML_STATUS_OK && sound_;
  }

 protected:
  virtual bool element(std::string_view path, std::string_view text) = 0;

 private:
  void stop() {
    sound_ = false;
    XML_StopParser(parser_, XML_FALSE);
  }
  static void on_start(void* self, const char* name, const char**) {
    auto& reader = *static_cast<Reader*>(self);
    reader.path_ += (reader.path_.empty() ? "" : "/") + std::string(name);
    reader.text_.clear();
    if (++reader.depth_ > 8) reader.stop();
  }
  static void on_text(void* self, const char* text, int length) {
    static_cast<Reader*>(self)->text_.append(text, static_cast<std::size_t>(length));
  }
  static void on_end(void* self, const char* name) {
    auto& reader = *static_cast<Reader*>(self);
    if (!reader.element(reader.path_, reader.text_)) reader.stop();
    reader.text_.clear();
    reader.path_.resize(reader.path_.size() - std::string_view(name).size());
    if (reader.path_.ends_with('/')) reader.path_.pop_back();
    --reader.depth_;
  }
  static void on_doctype(void* self, const char*, const char*, const char*, int) { static_cast<Reader*>(self)->stop(); }

  XML_Parser parser_ = nullptr;
  std::string path_;
  std::string text_;
  int depth_ = 0;
  bool sound_ = true;
};

class ListReader final : public Reader {
 public:
  ListPage page;
  bool whole = false;

 private:
  bool element(std::string_view path, std::string_view text) override {
    constexpr std::string_view root = "ListBucketResult";
    if (path == root) return whole = true;
    if (!path.starts_with(root) || path.size() <= root.size()) return false;
    const std::string_view name = path.substr(root.size() + 1);
    if (name == "NextContinuationToken") page.next = text;
    if (name == "Contents/Key") object_.key = text;
    if (name == "Contents/Size") {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), object_.size);
      if (error != std::errc{} || end != text.data() + text.size()) return false;
    }
    if (name == "Contents/LastModified") {
      const auto time = parse_timestamp(text);
      if (!time) return false;
      object_.changed_at = std::chrono::system_clock::time_point(std::chrono::microseconds(time->microseconds));
    }
    if (name == "Contents") {
      if (object_.key.empty()) return false;
      page.objects.push_back(std::move(object_));
      object_ = {};
    }
    return true;
  }
  ObjectInfo object_;
};

class ErrorReader final : public Reader {
 public:
  std::string code;

 private:
  bool element(std::string_view path, std::string_view text) override {
    if (path == "Error/Code" &&
        text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") ==
            std::string_view::npos) {
      code = text.substr(0, 64);
    }
    return true;
  }
};

}  // namespace

std::optional<ListPage> read_list_page(std::string_view xml) {
  ListReader reader;
  if (!reader.read(xml) || !reader.whole) return std::nullopt;
  return std::move(reader.page);
}

std::string read_error_code(std::string_view xml) {
  ErrorReader reader;
  return reader.read(xml) ? reader.code : std::string();
}

}  // namespace hourz::storage
