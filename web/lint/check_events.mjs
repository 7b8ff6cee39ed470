// What ./dev lint holds docs/asyncapi.json against, beside Spectral: AsyncAPI's own parser without a single remark, and
// every example that the page /docs/events makes fits its schema, read as draft-07 (AsyncAPI's default) and as 2020-12
// (the OpenAPI document's). Usage: node web/lint/check_events.mjs docs/asyncapi.json
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import Ajv2020 from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { readFileSync } from "node:fs";

const source = readFileSync(process.argv[2], "utf8");
const root = JSON.parse(source);
const remarks = [];

// Settled as in .spectral-events.yaml: the version is 3.0.
const settled = "asyncapi-latest-version";
const { document, diagnostics } = await new Parser().parse(source);
for (const { code, path, message } of diagnostics) {
  if (code !== settled) remarks.push(`${path.join("/")}: ${message} (${code})`);
}
if (!document) remarks.push("AsyncAPI's parser makes nothing of it");

const { frame } = await import(new URL("../docs/frames.js", import.meta.url));
const messages = Object.entries(root.components.messages);
for (const [dialect, Maker] of remarks.length ? [] : [["draft-07", Ajv], ["2020-12", Ajv2020]]) {
  const checker = new Maker({ strict: false, allErrors: true });
  formats(checker);
  checker.addSchema({ $id: "asyncapi", components: root.components });
  for (const [key, message] of messages) {
    const made = frame(message, root, "7");
    if (!checker.validate({ $ref: `asyncapi#/components/messages/${key}/payload` }, made)) {
      remarks.push(`${key}: its example does not fit it (${dialect}): ${checker.errorsText()}\n  ${JSON.stringify(made)}`);
    }
  }
}

if (remarks.length) {
  console.error(remarks.join("\n"));
  process.exit(1);
}
console.log(`${messages.length} messages are valid, each with an example that fits`);
