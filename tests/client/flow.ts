// The whole of Hourz through the generated client: two people, from registering to reviewing each other. Whatever does
// not fit the documents is an error of tsc; whatever does not do as they say ends this with an AssertionError.
// node flow.js BASE
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { client, good, Refused, type Problem, type Schemas } from "./hourz.js";

const base = process.argv[2] ?? "http://127.0.0.1:8000";
const password = "river crossing at noon";
const here = { latitude: 13.7456, longitude: 100.5341 };
const stamp = randomUUID();

type ErrorCode = Schemas["ErrorCode"];

/** That it is refused so, and what else the problem says. */
async function refused(answered: Promise<unknown>, code: ErrorCode, status: number): Promise<Problem> {
  try {
    await answered;
  } catch (failure) {
    if (!(failure instanceof Refused)) throw failure;
    assert.deepEqual([failure.problem.code, failure.problem.status], [code, status], failure.message);
    assert.equal(failure.problem.type, `/docs/errors#${code}`);
    assert.equal(failure.headers.get("x-request-id"), failure.problem.request_id);
    return failure.problem;
  }
  assert.fail(`not refused with ${code}`);
}

async function join(name: string) {
  const { api, ...rest } = client(base);
  const email = `${name}-${stamp}@example.com`;
  const user = await good(api.POST("/api/auth/register", { body: { email, password, name } }));
  const tokens = await rest.logIn(email, password);
  assert.equal(tokens.token_type, "bearer");
  return { api, ...rest, email, id: user.id };
}

async function accounts() {
  const nobody = client(base);
  assert.equal((await good(nobody.api.GET("/health"))).status, "ok");
  await refused(good(nobody.api.GET("/api/users/me")), "unauthenticated", 401);
  const seeker = await join("seeker");
  const helper = await join("helper");
  await refused(
    good(nobody.api.POST("/api/auth/register", { body: { email: helper.email, password } })), "email_taken", 409);
  await refused(nobody.logIn(helper.email, "not the password"), "invalid_credentials", 401);
  const wrong = await refused(
    good(nobody.api.POST("/api/auth/register", { body: { email: "no address", password: "short" } })),
    "validation_failed", 422);
  assert.deepEqual((wrong.errors ?? []).map((fault) => fault.field).sort(), ["email", "password"]);

  await seeker.refresh();
  const me = await good(seeker.api.GET("/api/users/me"));
  assert.equal(me.email, seeker.email);
  const sessions = await good(seeker.api.GET("/api/auth/sessions"));
  assert.ok(sessions.sessions.length >= 1);
  return { seeker, helper };
}

type Person = Awaited<ReturnType<typeof join>>;

async function profiles(seeker: Person, helper: Person) {
  const changed = await good(helper.api.PUT("/api/users/me", { body: { bio: "Has a ladder", name: "Somchai" } }));
  assert.deepEqual([changed.name, changed.bio], ["Somchai", "Has a ladder"]);
  await good(helper.api.PUT("/api/users/location", { body: { ...here, district: "Pathum Wan", province: "Bangkok" } }));
  const free = await good(helper.api.PUT("/api/users/availability", { body: { is_available: true } }));
  assert.equal(free.is_available, true);
  const near = await good(seeker.api.GET("/api/users/nearby", { params: { query: { ...here, radius_km: 2, limit: 100 } } }));
  assert.ok(near.users.some((user) => user.id === helper.id && user.distance_km !== null));
  const buddy = await good(seeker.api.POST("/api/buddies", { body: { buddy_id: helper.id, notes: "Has a ladder" } }));
  assert.equal(buddy.notes, "Has a ladder");
}

async function posting(seeker: Person, helper: Person) {
  const body: Schemas["CreateGig"] = {
    title: "Hang two lamps", description: "A ladder is here.", duration_hours: 1, budget: 350.5, ...here,
  };
  const once = { params: { header: { "Idempotency-Key": randomUUID() } } };
  const first = await seeker.api.POST("/api/gigs", { body, ...once });
  assert.equal(first.response.status, 201);
  const gig = first.data;
  assert.ok(gig);
  assert.equal(first.response.headers.get("location"), `/api/gigs/${gig.id}`);
  const again = await seeker.api.POST("/api/gigs", { body, ...once });
  assert.equal(again.response.headers.get("idempotency-replayed"), "true");
  assert.equal(again.data?.id, gig.id);
  await refused(good(seeker.api.POST("/api/gigs", { body: { ...body, budget: 1 }, ...once })), "idempotency_key_reused", 422);

  const path = { id: gig.id };
  const read = await seeker.api.GET("/api/gigs/{id}", { params: { path } });
  const etag = read.response.headers.get("etag") ?? "";
  const same = await seeker.api.GET("/api/gigs/{id}", { params: { path, header: { "If-None-Match": etag } } });
  assert.equal(same.response.status, 304);
  const match = { params: { path, header: { "If-Match": etag } } };
  const changed = await good(seeker.api.PUT("/api/gigs/{id}", { ...match, body: { budget: 400 } }));
  assert.equal(changed.budget, 400);
  await refused(good(seeker.api.PUT("/api/gigs/{id}", { ...match, body: { budget: 450 } })), "precondition_failed", 412);

  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const query: { limit: number; cursor: string } | { limit: number; radius_km: number; latitude: number; longitude: number } =
      cursor === null ? { ...here, radius_km: 5, limit: 1 } : { cursor, limit: 1 };
    const page: Schemas["GigList"] = await good(helper.api.GET("/api/gigs", { params: { query } }));
    seen.push(...page.gigs.map((one) => one.id));
    cursor = page.next_cursor;
  } while (cursor !== null && !seen.includes(gig.id) && seen.length < 50);
  assert.ok(seen.includes(gig.id));
  const bounds = { min_latitude: 13.7, max_latitude: 13.8, min_longitude: 100.5, max_longitude: 100.6 };
  const map = await good(helper.api.GET("/api/gigs/map", { params: { query: { ...bounds, zoom: 14 } } }));
  assert.ok(map.gigs.length + map.clusters.length >= 1);
  return changed;
}

async function working(seeker: Person, helper: Person, gig: Schemas["Gig"]) {
  const params = { path: { id: gig.id } };
  await refused(good(seeker.api.POST("/api/gigs/{id}/accept", { params })), "own_gig", 409);
  const taken = await good(helper.api.POST("/api/gigs/{id}/accept", { params }));
  assert.equal(taken.helper?.id, helper.id);
  const rooms = await good(helper.api.GET("/api/chat/rooms"));
  const room = rooms.rooms.find((one) => one.gig_id === gig.id);
  assert.ok(room);
  await talking(seeker, helper, room.id);

  const key = { params: { header: { "Idempotency-Key": randomUUID() } } };
  const held = await good(seeker.api.POST("/api/transactions/escrow", { body: { gig_id: gig.id }, ...key }));
  assert.deepEqual([held.status, held.amount, held.service_fee + held.net_amount], ["HELD", 400, 400]);
  const payment = { params: { path: { id: held.id } } };
  await refused(good(seeker.api.PUT("/api/transactions/{id}/release", payment)), "gig_not_completed", 409);
  for (const status of ["IN_PROGRESS", "COMPLETED"] as const satisfies readonly Schemas["GigStatus"][]) {
    const moved = await good(helper.api.PUT("/api/gigs/{id}/status", { params, body: { status } }));
    assert.equal(moved.status, status);
  }
  const late = await refused(
    good(seeker.api.PUT("/api/gigs/{id}/status", { params, body: { status: "PENDING" } })), "invalid_transition", 409);
  assert.deepEqual([late.current_status, late.allowed], ["COMPLETED", []]);
  assert.equal((await good(seeker.api.GET("/api/gigs/{id}/events", { params }))).events.at(-1)?.action, "COMPLETE");

  const released = await good(seeker.api.PUT("/api/transactions/{id}/release", payment));
  assert.equal(released.status, "RELEASED");
  const wallet = await good(helper.api.GET("/api/wallet"));
  assert.deepEqual([wallet.balance, wallet.currency], [held.net_amount, "THB"]);
}

async function talking(seeker: Person, helper: Person, room_id: string) {
  const socket = await helper.connect();
  await socket.next("ready");
  socket.send({ type: "join_room", id: 1, data: { room_id, after_seq: 0 } });
  const joined = await socket.next("room_joined");
  assert.deepEqual(joined.messages.map((message) => message.type), ["SYSTEM"]);

  const params = { path: { id: room_id } };
  const client_id = randomUUID();
  const draft = { params, body: { content: "Is the lamp heavy?", client_id } };
  const said = await good(seeker.api.POST("/api/chat/rooms/{id}/messages", draft));
  assert.equal((await good(seeker.api.POST("/api/chat/rooms/{id}/messages", draft))).id, said.id);
  assert.equal((await socket.next("receive_message")).message.content, "Is the lamp heavy?");
  socket.send({ type: "send_message", id: "two", data: { room_id, content: "No, 2 kg", client_id: randomUUID() } });
  const acknowledged = await socket.next("message_ack");
  assert.equal(acknowledged.message.seq, said.seq + 1);
  socket.send({ type: "join_room", data: { room_id: randomUUID() } });
  const failure = await socket.next("error");
  assert.equal(failure.code satisfies ErrorCode, "not_found");

  const page = await good(seeker.api.GET("/api/chat/rooms/{id}/messages", { params: { ...params, query: { after_seq: said.seq } } }));
  assert.deepEqual(page.messages.map((message) => message.content), ["No, 2 kg"]);
  await good(seeker.api.PUT("/api/chat/rooms/{id}/read", { params, body: { seq: acknowledged.message.seq } }));
  assert.equal((await good(seeker.api.GET("/api/chat/rooms/{id}", { params }))).unread_count, 0);
  assert.equal(await socket.close(), 1000);
}

async function picturing(seeker: Person) {
  const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const form = (bytes: Uint8Array<ArrayBuffer>) => {
    const data = new FormData();
    data.append("file", new Blob([bytes], { type: "image/png" }), "me.png");
    return { body: { file: "" }, bodySerializer: () => data };
  };
  const picture = await good(seeker.api.POST("/api/upload/profile", form(new Uint8Array(Buffer.from(pixel, "base64")))));
  assert.deepEqual([picture.category satisfies Schemas["UploadCategory"], picture.width], ["PROFILE", 1]);
  assert.equal((await good(seeker.api.GET("/api/users/me"))).photo_url, picture.url);
  await refused(
    good(seeker.api.POST("/api/upload/profile", form(new Uint8Array([1, 2, 3])))), "unsupported_media_type", 415);
}

async function apart(seeker: Person, helper: Person) {
  const path = { id: helper.id };
  const body = { user_id: helper.id, reason: "a test" };
  const report = await good(seeker.api.POST("/api/reports", { body }));
  assert.deepEqual([report.user_id, report.reason], [helper.id, "a test"]);
  await refused(good(seeker.api.POST("/api/reports", { body })), "already_reported", 409);
  await good(seeker.api.POST("/api/users/{id}/block", { params: { path } }));
  await refused(good(seeker.api.GET("/api/users/{id}", { params: { path } })), "not_found", 404);
  await good(seeker.api.DELETE("/api/users/{id}/block", { params: { path } }));
  const all = await good(seeker.api.GET("/api/users/me/export"));
  assert.ok(all.data);
  await refused(good(seeker.api.DELETE("/api/users/me", { body: { password: "not mine" } })), "wrong_password", 403);
  assert.equal((await helper.api.DELETE("/api/users/me", { body: { password } })).response.status, 204);
  await refused(good(seeker.api.GET("/api/users/{id}", { params: { path } })), "not_found", 404);
}

async function reviewing(seeker: Person, helper: Person, gig: Schemas["Gig"]) {
  const may = await good(seeker.api.GET("/api/reviews/can-review/{gig_id}", { params: { path: { gig_id: gig.id } } }));
  assert.equal(may.can_review, true);
  const body = { gig_id: gig.id, rating: 5, comment: "On time" };
  const review = await good(seeker.api.POST("/api/reviews", { body }));
  assert.equal(review.reviewee.id, helper.id);
  await refused(good(seeker.api.POST("/api/reviews", { body })), "already_reviewed", 409);
  const shown = await good(helper.api.GET("/api/users/{id}", { params: { path: { id: helper.id } } }));
  assert.equal(shown.total_reviews, 1);
}

const { seeker, helper } = await accounts();
await profiles(seeker, helper);
const gig = await posting(seeker, helper);
await working(seeker, helper, gig);
await reviewing(seeker, helper, gig);
await picturing(seeker);
await apart(seeker, helper);
assert.equal((await seeker.api.POST("/api/auth/logout")).response.status, 204);
await refused(good(seeker.api.GET("/api/users/me")), "session_ended", 401);
console.log("all as documented");
