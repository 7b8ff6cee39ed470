// Writes the page of events from this server's own document. All text goes in as text, never as markup, and nothing
// here talks to any other host.
import { frame, resolve, withoutNull } from "/docs/frames.js";

const at = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/// Text in which `words` between backticks are code.
function prose(text) {
  return String(text ?? "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function code(value) {
  // A few lines each: objects of plain values, and lists without objects, stand in one line as long as that is short.
  const print = (part, indent) => {
    const short = JSON.stringify(part);
    if (part === null || typeof part !== "object" || (short.length < 64 && indent)) return short.replaceAll('":', '": ').replaceAll(',"', ', "');
    const inner = `${indent}  `;
    const items = Array.isArray(part) ? part.map((item) => print(item, inner)) : Object.entries(part).map(([key, item]) => `${JSON.stringify(key)}: ${print(item, inner)}`);
    const [open, close] = Array.isArray(part) ? "[]" : "{}";
    return items.length ? `${open}\n${items.map((item) => inner + item).join(",\n")}\n${indent}${close}` : open + close;
  };
  return make("pre", { tabindex: "0" }, make("code", {}, print(value, "")));
}

/// A table that scrolls by itself where the screen is narrow.
function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, ...[cell].flat()))));
  return make("div", { class: "table", tabindex: "0" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

function nameOf(schema) {
  return schema?.$ref ? schema.$ref.split("/").pop() : "";
}

/// What a value is, in words: "string, uuid", "list of Message", "number 0 to 5".
function kind(schema, root) {
  const bare = (schema.anyOf ?? schema.oneOf ?? []).find((choice) => choice.type !== "null") ?? schema;
  const { schema: said, nullable } = withoutNull(schema, root);
  const or = nullable ? " or null" : "";
  if ("const" in said) return JSON.stringify(said.const) + or;
  if (said.enum) return said.enum.map((value) => String(value ?? "null")).join(" | ") + (said.enum.includes(null) ? "" : or);
  if (said.type === "array") return `list of ${kind(said.items ?? {}, root)}${said.maxItems ? `, at most ${said.maxItems}` : ""}${or}`;
  if (said.type === "object") return (nameOf(bare) || "object") + or;
  let words = [said.type].flat().join(" or ");
  if (said.format) words += `, ${said.format}`;
  const least = said.minimum ?? said.minLength;
  // What every JSON number holds exactly is no bound worth telling.
  const most = said.maximum === Number.MAX_SAFE_INTEGER ? undefined : (said.maximum ?? said.maxLength);
  const unit = said.minLength !== undefined || said.maxLength !== undefined ? " characters" : "";
  if (least !== undefined && most !== undefined) words += `, ${least} to ${most}${unit}`;
  else if (least !== undefined) words += `, from ${least}${unit}`;
  else if (most !== undefined) words += `, at most ${most}${unit}`;
  if (said.multipleOf) words += `, in steps of ${said.multipleOf}`;
  return words + or;
}

/// Rows of a struct's members; members of an inner struct follow as `outer.inner`, once a struct and not for ever.
function rows(schema, root, prefix = "", seen = []) {
  const { schema: whole } = withoutNull(schema, root);
  const out = [];
  for (const [name, member] of Object.entries(whole.properties ?? {})) {
    const { schema: said } = withoutNull(member, root);
    const notes = prose(resolve(member, root).description ?? said.description);
    if (said.default !== undefined) notes.push(`${notes.length && notes[0] ? "; " : ""}default ${JSON.stringify(said.default)}`);
    const optional = whole.required?.includes(name) ? [] : [" ", make("span", { class: "optional" }, "optional")];
    out.push([[make("code", {}, prefix + name), ...optional], kind(member, root), notes]);
    const inner = said.type === "array" ? withoutNull(said.items ?? {}, root).schema : said;
    const mark = JSON.stringify(Object.keys(inner.properties ?? {}));
    if (inner.type === "object" && inner.properties && !seen.includes(mark)) {
      out.push(...rows(inner, root, `${prefix}${name}${said.type === "array" ? "[]" : ""}.`, [...seen, mark]));
    }
  }
  return out;
}

function dataTable(message, root) {
  const members = rows(resolve(message.payload, root).properties.data, root);
  if (!members.length) return make("p", { class: "aside" }, "No data: ", make("code", {}, '"data": {}'), ".");
  const made = table(["data", "is", "notes"], members);
  if (members.length <= 8) return made;
  return make("details", {}, make("summary", {}, `data: ${members.length} members`), made);
}

const keyOf = (reference) => reference.$ref.split("/").pop();

function eventCard(side, message, root, id, ...more) {
  return make("article", { id: `${side}-${message.name}` },
    make("h3", {}, make("a", { href: `#${side}-${message.name}` }, make("code", {}, message.name))),
    make("p", {}, ...prose(`${message.summary}.`)), dataTable(message, root), ...more,
    make("h4", {}, "Example"), code(frame(message, root, id)));
}

function link(side, message) {
  return make("a", { href: `#${side}-${message.name}` }, make("code", {}, message.name));
}

function connect(root) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  for (const channel of Object.values(root.channels)) {
    at("connect").append(make("h3", {}, make("code", {}, channel.address)), make("p", {}, ...prose(channel.description)));
  }
  const lines = [
    `const socket = new WebSocket("${scheme}://${location.host}${root.channels.socket.address}", ["hourz.v1", "bearer." + accessToken]);`,
    "socket.onmessage = ({ data }) => console.log(JSON.parse(data));",
    "socket.onclose = ({ code }) => console.log(\"closed\", code);",
  ];
  at("connect").append(make("h4", {}, "In a browser"), make("pre", { tabindex: "0" }, make("code", {}, lines.join("\n"))));
}

function write(root) {
  at("about").append(...prose(root.info.description));
  at("version").append(root.asyncapi);
  connect(root);
  const messages = root.components.messages;
  const operations = Object.values(root.operations);
  const answers = new Map();
  for (const operation of operations.filter(({ action }) => action === "receive")) {
    const message = messages[keyOf(operation.messages[0])];
    const replies = (operation.reply?.messages ?? []).map((reference) => messages[keyOf(reference)]);
    const own = replies.filter(({ name }) => name !== "error");
    for (const { name } of own) answers.set(name, [...(answers.get(name) ?? []), message]);
    const more = [make("p", {}, make("strong", {}, "Answer: "), ...(own.length ? own.map((reply) => link("server", reply)) : ["none, or ", link("server", messages.error)]))];
    const errors = operation["x-errors"] ?? [];
    if (errors.length) {
      more.push(make("h4", {}, "Errors"), table(["code", "says"], errors.map((error) => [make("code", {}, error.code), error.title])));
    }
    at("client").append(eventCard("client", message, root, "7", ...more));
    at("client-names").append(make("li", {}, link("client", message)));
  }
  for (const operation of operations.filter(({ action }) => action === "send")) {
    const message = messages[keyOf(operation.messages[0])];
    const asked = answers.get(message.name) ?? [];
    const more = asked.length ? [make("p", {}, make("strong", {}, "Answers: "), ...asked.flatMap((ask, index) => (index ? [", ", link("client", ask)] : [link("client", ask)])))] : [];
    at("server").append(eventCard("server", message, root, asked.length || message.name === "error" ? "7" : undefined, ...more));
    at("server-names").append(make("li", {}, link("server", message)));
  }
  const socket = root.channels.socket;
  at("errors").append(table(["code", "says"], (socket["x-errors"] ?? []).map((error) => [make("code", {}, error.code), error.title])));
  at("closes").append(table(["code", "why", "then"], (socket["x-close-codes"] ?? []).map((close) => [make("code", {}, String(close.code)), prose(close.meaning), close.next])));
  // The browser looked for the place before it was there.
  if (location.hash) at(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView({ behavior: "instant" });
}

try {
  const answer = await fetch("/asyncapi.json");
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  write(await answer.json());
} catch (error) {
  at("trouble").append(`/asyncapi.json could not be read: ${error.message}`);
  at("trouble").hidden = false;
}
