"""Values from JSON schemas, seeded: some that fit, and some that break the schema in exactly one place."""

import copy
import uuid

TEXTS = ["a", "Carry a sofa", "ช่วยยกโซฟา", "O'Brien; DROP TABLE gigs;--", "100 %_\\", "😀😀😀", "x\ty\nz", "<script>alert(1)</script>",
         "{{7*7}}", "' OR '1'='1", "e\u0301", "%s%n%x", "../../etc/passwd", "${jndi:ldap://x}", "\u00a0", "NULL", "-1", "true"]
BROKEN_TEXTS = ["a\0b", "\ud800", "\x1b[31m", "\u202etxt.exe", "\u0007"]
NUMBERS = [0, 1, -1, 0.5, 1e-9, 180, -180, 90, 89.9999, 1e7, 350.5, 2**31, 2**53 + 1, 2**63, 1e300, -0.0]
TYPES = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list, "object": dict, "null": type(None)}
ODD_VALUES = ["text", 1, -1.5, True, None, [], {}, ["x"], {"x": 1}, "1", "true", ""]


class Generator:
    def __init__(self, document, random):
        self.document, self.random = document, random

    def resolve(self, schema):
        while "$ref" in schema:
            found = self.document
            for step in schema["$ref"][2:].split("/"):
                found = found[step]
            schema = found
        return schema

    def kinds(self, schema):
        kind = schema.get("type", "object" if "properties" in schema else "string")
        return [kind] if isinstance(kind, str) else list(kind)

    def fitting(self, schema):
        schema = self.resolve(schema)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self.fitting(self.random.choice(schema[choice]))
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kind = self.random.choice(self.kinds(schema))
        return getattr(self, "fitting_" + kind)(schema)

    def fitting_null(self, _):
        return None

    def fitting_boolean(self, _):
        return self.random.random() < 0.5

    def fitting_number(self, schema):
        low, high = schema.get("minimum", -1e6), schema.get("maximum", 1e6)
        value = self.random.choice([low, high, self.random.uniform(low, high), self.random.uniform(low, min(high, low + 100))])
        step = schema.get("multipleOf")
        if step:
            return min(high, max(low, round(value / step) * step))
        return round(value, 2)

    def fitting_integer(self, schema):
        low, high = schema.get("minimum", -1000), schema.get("maximum", 1000)
        return self.random.choice([low, high, self.random.randint(low, high)])

    def fitting_string(self, schema):
        form = schema.get("format")
        if form == "uuid":
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        if form == "date-time":
            return self.random.choice(["2099-01-01T00:00:00Z", "2031-12-31T23:59:59.999999Z", "2030-02-28T12:00:00+07:00"])
        if form == "email":
            return f"f{self.random.getrandbits(64):x}@example.com"
        low, high = schema.get("minLength", 0), min(schema.get("maxLength", 40), 4000)
        wanted = self.random.choice([low, high, min(high, max(low, 12))])
        text = self.random.choice(TEXTS)
        while len(text) < wanted:
            text += self.random.choice(TEXTS)
        text = text[:wanted]
        if "pattern" in schema:  # one line
            text = text.replace("\t", " ").replace("\n", " ")
        # Ends that trimming would take away, and a half of what belongs together, would change the length.
        return text if text == text.strip() and "\u0301" not in text else "w" * wanted

    def fitting_array(self, schema):
        count = self.random.randint(schema.get("minItems", 0), min(schema.get("maxItems", 3), 3))
        return [self.fitting(schema["items"]) for _ in range(count)]

    def fitting_object(self, schema):
        required = schema.get("required", [])
        return {name: self.fitting(each) for name, each in schema.get("properties", {}).items()
                if name in required or self.random.random() < 0.5}

    # ---- one fault ---------------------------------------------------------------------------------------------

    def breaking(self, schema, fits):
        """A value that `fits` (a predicate) refuses, made from one that fits by a small change."""
        for _ in range(50):
            value = self.changed(self.resolve(schema), copy.deepcopy(self.fitting(schema)))
            if not fits(value):
                return value
        return None

    def changed(self, schema, value):
        if isinstance(value, dict) and self.random.random() < 0.8:
            properties = schema.get("properties", {})
            action = self.random.randrange(4)
            if action == 0 and schema.get("required"):
                value.pop(self.random.choice(schema["required"]), None)
            elif action == 1:
                value[self.random.choice(["id", "owner_id", "role", "balance", "is_admin", "__proto__", "titel", "created_at", ""])] = 1
            elif properties:
                name = self.random.choice(list(properties))
                value[name] = self.changed(self.resolve(properties[name]), self.fitting(properties[name]))
            return value
        if isinstance(value, str) and self.random.random() < 0.6:
            return self.random.choice(BROKEN_TEXTS + [value * 200 + "x" * 5000, "", value + "\0"])
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.random.random() < 0.6:
            return self.random.choice(NUMBERS)
        return self.random.choice(ODD_VALUES)
