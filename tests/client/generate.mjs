// What a client of Hourz generates from the documents: node generate.mjs OUT writes api.ts (REST) and events.ts (the
// WebSocket) for TypeScript, and hourz.dart, the models for Dart.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";
import { InputData, JSONSchemaInput, FetchingJSONSchemaStore, quicktype } from "quicktype-core";

const [out] = process.argv.slice(2);
const documents = fileURLToPath(new URL("../../docs/", import.meta.url));
const openapi = JSON.parse(readFileSync(join(documents, "openapi.json"), "utf8"));
const asyncapi = JSON.parse(readFileSync(join(documents, "asyncapi.json"), "utf8"));

const typescript = async (document, name) => writeFileSync(join(out, name), astToString(await openapiTS(document)));
await typescript(openapi, "api.ts");

// Frames are told apart by `type`; the schemas behind them are named as in OpenAPI, so the same generator reads both.
const sent = [];
const received = [];
const frames = {};
for (const operation of Object.values(asyncapi.operations)) {
  for (const { $ref } of operation.messages) {
    const name = $ref.split("/").pop();
    frames[`frame_${name}`] = asyncapi.components.messages[name].payload;
    (operation.action === "receive" ? sent : received).push({ $ref: `#/components/schemas/frame_${name}` });
  }
}
const schemas = { ...asyncapi.components.schemas, ...frames, FrameSent: { oneOf: sent }, FrameReceived: { oneOf: received } };
await typescript({ openapi: "3.1.0", info: asyncapi.info, paths: {}, components: { schemas } }, "events.ts");

const definitions = JSON.parse(JSON.stringify(openapi.components.schemas).replaceAll("#/components/schemas/", "#/definitions/"));
const properties = Object.fromEntries(Object.keys(definitions).map((name) => [name, { $ref: `#/definitions/${name}` }]));
const input = new JSONSchemaInput(new FetchingJSONSchemaStore());
await input.addSource({ name: "Models", schema: JSON.stringify({ type: "object", properties, definitions }) });
const data = new InputData();
data.addInput(input);
const { lines } = await quicktype({ inputData: data, lang: "dart" });
writeFileSync(join(out, "hourz.dart"), `${lines.join("\n")}\n`);
