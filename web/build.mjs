// Makes what the binary embeds: node web/build.mjs OUT writes the served files, their gzip forms, the list of common
// passwords, and assets.S and assets.cpp, which put them behind src/http/assets.hpp. The same input gives the same
// bytes. Reads web/docs and web/node_modules alone, and needs no network.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const web = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? "");
if (!process.argv[2]) {
  console.error("usage: build.mjs OUT");
  process.exit(2);
}

const own = (name) => readFileSync(join(web, "docs", name));
const swagger = (name) => readFileSync(join(web, "node_modules", "swagger-ui-dist", name));
// A source map is not embedded, so the browser need not ask for it.
const withoutSourceMap = (bytes) =>
  Buffer.from(bytes.toString("utf8").replace(/\n?(\/\/|\/\*)# sourceMappingURL=[^\n]*\n?$/, "\n"));

const html = "text/html; charset=utf-8";
const css = "text/css; charset=utf-8";
const script = "text/javascript; charset=utf-8";
const text = "text/plain; charset=utf-8";

const assets = [
  ["/docs", html, own("index.html")],
  ["/docs/docs.css", css, own("docs.css")],
  ["/docs/docs.js", script, own("docs.js")],
  ["/docs/events", html, own("events.html")],
  ["/docs/events.css", css, own("events.css")],
  ["/docs/events.js", script, own("events.js")],
  ["/docs/favicon.svg", "image/svg+xml", own("favicon.svg")],
  ["/docs/frames.js", script, own("frames.js")],
  ["/docs/licenses.txt", text, Buffer.concat([swagger("NOTICE"), swagger("LICENSE"), swagger("swagger-ui-bundle.js.LICENSE.txt")])],
  ["/docs/swagger-ui-bundle.js", script, withoutSourceMap(swagger("swagger-ui-bundle.js"))],
  ["/docs/swagger-ui.css", css, withoutSourceMap(swagger("swagger-ui.css"))],
].sort(([a], [b]) => (a < b ? -1 : 1));

const lists = createRequire(import.meta.url)("zxcvbn/lib/frequency_lists.js");
const passwords = [...new Set(lists.passwords.map((word) => word.toLowerCase()))]
  .filter((word) => [...word].length >= 8 && !/\s/.test(word))
  .sort();
if (passwords.length < 1000) throw new Error(`only ${passwords.length} common passwords: has the list moved?`);

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "files"), { recursive: true });

const sections = [];
const table = [];
function embed(symbol, name, bytes) {
  const file = join(out, "files", name);
  writeFileSync(file, bytes);
  const hash = createHash("sha256").update(bytes).digest("hex");
  // The hash stands in the text so that a changed file changes the text, which is all that build and cache look at.
  sections.push(`# ${hash}
  .globl ${symbol}
  .hidden ${symbol}
  .balign 16
${symbol}:
  .incbin "${file}"
  .size ${symbol}, . - ${symbol}
  .type ${symbol}, @object
`);
  return `bytes_of(${symbol}, ${bytes.length})`;
}

assets.forEach(([path, type, bytes], index) => {
  const name = path.slice(1).replaceAll("/", "_");
  const etag = createHash("sha256").update(bytes).digest("base64url").slice(0, 22);
  const packed = gzipSync(bytes, { level: 9 });
  // Byte 9 of the header names the system that packed it: the same everywhere, then.
  packed[9] = 255;
  const plain = embed(`hourz_asset_${index}`, name, bytes);
  const gzip = packed.length < bytes.length * 0.9 ? embed(`hourz_asset_${index}_gzip`, `${name}.gz`, packed) : "{}";
  table.push(`      {"${path}", "${type}", "\\"${etag}\\"", ${plain}, ${gzip}},`);
});
const common = embed("hourz_common_passwords", "common_passwords.txt", Buffer.from(passwords.join("\n") + "\n"));

writeFileSync(join(out, "assets.S"), `  .section .rodata.hourz_assets, "a", @progbits\n${sections.join("")}  .section .note.GNU-stack, "", @progbits\n`);
const symbols = sections.map((section) => section.match(/\.globl (\S+)/)[1]);
writeFileSync(
  join(out, "assets.cpp"),
  `// Made by web/build.mjs.
#include "http/assets.hpp"

#include <array>
#include <cstddef>

${symbols.map((symbol) => `extern "C" const char ${symbol}[];`).join("\n")}

namespace hourz::http {
namespace {

std::string_view bytes_of(const char* first, std::size_t size) { return {first, size}; }

}  // namespace

std::span<const Asset> assets() {
  static const std::array<Asset, ${table.length}> table{{
${table.join("\n")}
  }};
  return table;
}

const Asset* find_asset(std::string_view path) {
  for (const Asset& asset : assets()) {
    if (asset.path == path) return &asset;
  }
  return nullptr;
}

std::string_view common_passwords() { return ${common}; }

}  // namespace hourz::http
`,
);
