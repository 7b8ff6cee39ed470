// Example frames made from the schemas of the AsyncAPI document: what they say is made up, their shape is the schema's.
// Without a page, so that ./dev lint can hold every example against its schema.

/// The schema that `schema` stands for: references followed, what stands beside a reference kept.
export function resolve(schema, root) {
  let found = schema;
  for (let hops = 0; found && found.$ref && hops < 16; ++hops) {
    const { $ref, ...beside } = found;
    const target = $ref.slice(2).split("/").reduce((at, step) => at?.[step.replaceAll("~1", "/").replaceAll("~0", "~")], root);
    found = { ...target, ...beside };
  }
  return found ?? {};
}

/// The branch of a schema that says something when the others only allow null, and whether null is allowed.
export function withoutNull(schema, root) {
  const whole = resolve(schema, root);
  const choices = whole.anyOf ?? whole.oneOf;
  if (choices) {
    const branches = choices.map((choice) => resolve(choice, root));
    const said = branches.find((branch) => branch.type !== "null") ?? {};
    const description = whole.description ?? said.description;
    return { schema: description ? { ...said, description } : said, nullable: branches.some((branch) => branch.type === "null") };
  }
  if (Array.isArray(whole.type) && whole.type.includes("null")) {
    const types = whole.type.filter((type) => type !== "null");
    return { schema: { ...whole, type: types.length === 1 ? types[0] : types }, nullable: true };
  }
  return { schema: whole, nullable: false };
}

const words = {
  access_token: "eyJhbGciOiJIUzI1NiJ9…",
  address_text: "Lumphini Park, gate 3",
  category: "errand",
  code: "not_found",
  content: "I am at the gate.",
  currency: "THB",
  description: "Stand in the queue for me, please.",
  field: "data.room_id",
  image_url: "/files/0197d3f0-5c1e-7a52-9c04-6f1d2b8e4a10",
  gig_title: "Hold my place in the queue",
  message: "There is no such thing.",
  name: "Mali",
  reason: "Plans changed",
  title: "Hold my place in the queue",
};
const numbers = {
  budget: 450, duration_hours: 1.5, latitude: 13.7305, longitude: 100.5418, last_read_seq: 41, last_seq: 42,
  radius_km: 2, reputation_score: 4.8, resume_after_ms: 1500, seq: 42, total_reviews: 17,
};
const texts = {
  date: "2026-11-23",
  "date-time": "2026-11-23T09:30:00Z",
  email: "mali@example.com",
  uri: "https://example.com/picture.webp",
  uuid: "0197d3f0-5c1e-7a52-9c04-6f1d2b8e4a10",
};

function text(name, schema) {
  if (schema.format in texts) return texts[schema.format];
  let value = words[name] ?? (/(_url|_urls)$/.test(name) ? texts.uri : /(^|_)id$/.test(name) ? texts.uuid : "text");
  if (schema.pattern && !new RegExp(schema.pattern, "u").test(value)) value = "text";
  while (value.length < (schema.minLength ?? 0)) value += ` ${value}`;
  return value.slice(0, schema.maxLength ?? value.length);
}

function number(name, schema) {
  const least = schema.minimum ?? schema.exclusiveMinimum ?? 0;
  const wanted = numbers[name];
  if (wanted !== undefined && wanted >= least && wanted <= (schema.maximum ?? wanted)) return wanted;
  return Math.min(Math.max(1, least), schema.maximum ?? Infinity);
}

/// A value that the schema allows. `room` is how deep the example may still go before optional parts are left out.
export function example(schema, root, name = "", room = 8) {
  const whole = resolve(schema, root);
  if ("const" in whole) return whole.const;
  if (whole.examples?.length) return whole.examples[0];
  const { schema: said, nullable } = withoutNull(whole, root);
  if (said !== whole && nullable && room <= 0) return null;
  if ("const" in said) return said.const;
  if (said.enum) return said.enum[0];
  const type = Array.isArray(said.type) ? said.type[0] : said.type;
  switch (type) {
    case "object": {
      const made = {};
      for (const [key, member] of Object.entries(said.properties ?? {})) {
        if (room <= 0 && !said.required?.includes(key)) continue;
        made[key] = example(member, root, key, room - 1);
      }
      return made;
    }
    case "array":
      return room <= 0 && !said.minItems ? [] : [example(said.items ?? {}, root, name, room - 1)];
    case "boolean":
      return true;
    case "integer":
    case "number":
      return number(name, said);
    case "null":
      return null;
    default:
      return text(name, said);
  }
}

/// A whole frame of this message; `id` undefined leaves it out.
export function frame(message, root, id) {
  const payload = resolve(message.payload, root);
  const made = { type: resolve(payload.properties.type, root).const };
  if (id !== undefined) made.id = id;
  made.data = example(payload.properties.data, root, "data");
  return made;
}
