// Runs the client of docs/websocket.md: node reconnect.mjs BASE ROOM SEEKER_TOKEN HELPER_TOKEN. Both are in the room, each
// sends about ten messages a second until a line comes on stdin; then all that both have seen is written as JSON.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { webcrypto } from "node:crypto";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
globalThis.crypto ??= webcrypto;

const [base, room, ...tokens] = process.argv.slice(2);
const guide = readFileSync(new URL("../../docs/websocket.md", import.meta.url), "utf8");
const [, source] = guide.match(/```js\n(class HourzSocket [\s\S]*?)```/);
const HourzSocket = new Function(`${source}; return HourzSocket;`)();

const people = tokens.map((token) => {
  const person = { sent: [], acknowledged: [], refused: [], seen: [], opened: 0 };
  const page = async (room_id, after_seq) => {
    const answer = await fetch(`${base}/api/chat/rooms/${room_id}/messages?after_seq=${after_seq}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    if (!answer.ok) throw new Error(`page: ${answer.status}`);
    return answer.json();
  };
  const onEvent = ({ type, data, id }) => {
    if (type === "message") person.seen.push([data.message.seq, data.message.content]);
    else if (type === "message_ack") person.acknowledged.push(id);
    else if (type === "ready") person.opened += 1;
    else if (type === "error" || type === "ended") person.refused.push([type, data.code]);
  };
  person.socket = new HourzSocket(base.replace("http", "ws"), { freshToken: async () => token, page, onEvent });
  person.socket.join(room);
  person.timer = setInterval(() => {
    person.sent.push(person.socket.say(room, `${tokens.indexOf(token)} ${person.sent.length}`));
  }, 100);
  return person;
});

createInterface({ input: process.stdin }).once("line", async () => {
  for (const person of people) clearInterval(person.timer);
  const total = () => people.reduce((sum, person) => sum + person.sent.length, 0);
  const settled = () => people.every((person) => person.socket.unanswered.size === 0 && person.seen.length > total());
  const end = Date.now() + 40_000;
  while (!settled() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  for (const person of people) person.socket.close();
  const told = people.map(({ sent, acknowledged, refused, seen, opened }) => ({ sent, acknowledged, refused, seen, opened }));
  process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
});
