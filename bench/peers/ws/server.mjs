// The real-time peer of ./dev bench: what a careful team would write with ws and pg. The same events in the same
// envelope over the same tables, the same check of the same access token; a message is stored before it is
// acknowledged, a room's messages one after another, and is made into bytes once for all who get it. One process: two
// workers could not share a room without a bus between them. It leaves out what costs it most and is not compared:
// rate limits, the session lookup, events for other servers, presence, read markers, bounded queues and slow readers.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

import { createVerifier } from 'fast-jwt';
import pg from 'pg';
import { WebSocketServer } from 'ws';

pg.types.setTypeParser(20, Number);
const pool = new pg.Pool({ max: 8, options: '-c TimeZone=UTC' });
const verify = createVerifier({
  key: process.env.TOKEN_KEY,
  algorithms: ['HS256'],
  allowedIss: 'hourz',
  allowedAud: 'hourz-api',
  cache: 10_000,
});

const statements = {
  send: `
    WITH room AS (
      UPDATE chat_rooms SET last_seq = last_seq + 1, updated_at = clock_timestamp()
      WHERE id = $1 AND is_active AND $2 IN (seeker_id, helper_id) RETURNING id, last_seq, updated_at)
    INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, client_id, created_at)
    SELECT id, last_seq, $3, $2, 'TEXT', $4, $5, updated_at FROM room RETURNING seq, created_at`,
  room: 'SELECT id, gig_id, gig_title, is_active, last_seq, created_at, updated_at FROM chat_rooms WHERE id = $1 ' +
    'AND $2 IN (seeker_id, helper_id)',
  missed: 'SELECT * FROM (SELECT id, room_id, seq, sender_id, type, content, image_url, client_id, ' +
    'created_at AS timestamp FROM chat_messages WHERE room_id = $1 AND seq > $2 ORDER BY seq DESC LIMIT 1000) page ' +
    'ORDER BY seq',
};
const query = (name, values) => pool.query({ name, text: statements[name], values });

/** By id: who has joined, and the end of the line of messages to be stored. */
const rooms = new Map();
const roomOf = (id) => {
  let room = rooms.get(id);
  if (!room) rooms.set(id, (room = { joined: new Set(), line: Promise.resolve() }));
  return room;
};

const say = (socket, type, id, data) => socket.send(JSON.stringify({ type, id, data }));

async function store(socket, id, { room_id, content, client_id }) {
  const message_id = uuidv7();
  const { rows } = await query('send', [room_id, socket.caller, message_id, content, client_id ?? null]);
  if (rows.length === 0) return say(socket, 'error', id, { code: 'not_found', message: 'no such room' });
  const message = {
    id: message_id, room_id, seq: rows[0].seq, sender_id: socket.caller, type: 'TEXT', content, image_url: null,
    client_id, timestamp: rows[0].created_at,
  };
  say(socket, 'message_ack', id, { message });
  const frame = Buffer.from(JSON.stringify({ type: 'receive_message', data: { message } }));
  for (const other of roomOf(room_id).joined) other.send(frame, { binary: false });
}

const handlers = {
  async join_room(socket, id, { room_id, after_seq }) {
    const found = await query('room', [room_id, socket.caller]);
    if (found.rows.length === 0) return say(socket, 'error', id, { code: 'not_found', message: 'no such room' });
    const { rows } = await query('missed', [room_id, after_seq ?? Math.max(0, found.rows[0].last_seq - 50)]);
    roomOf(room_id).joined.add(socket);
    socket.rooms.add(room_id);
    say(socket, 'room_joined', id, { room: found.rows[0], messages: rows, complete: rows.length < 1000 || after_seq + 1 === rows[0].seq });
  },
  leave_room(socket, id, { room_id }) {
    roomOf(room_id).joined.delete(socket);
    socket.rooms.delete(room_id);
    say(socket, 'room_left', id, { room_id });
  },
  send_message(socket, id, data) {
    const room = roomOf(data.room_id);
    room.line = room.line.then(() => store(socket, id, data)).catch((error) => console.error(error.message));
    return room.line;
  },
};

const http = createServer((request, response) => {
  response.writeHead(request.url === '/health/live' ? 200 : 404, { 'content-type': 'application/json' });
  response.end('{}');
});
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 65536 });

http.on('upgrade', (request, connection, head) => {
  let caller;
  try {
    caller = verify((request.headers.authorization ?? '').slice('Bearer '.length)).sub;
  } catch {
    return connection.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n');
  }
  sockets.handleUpgrade(request, connection, head, (socket) => {
    socket.caller = caller;
    socket.rooms = new Set();
    socket.on('message', async (bytes, binary) => {
      try {
        const { type, id, data } = JSON.parse(bytes);
        if (binary || !Object.hasOwn(handlers, type)) throw new Error('an unknown event');
        await handlers[type](socket, id, data);
      } catch (error) {
        say(socket, 'error', undefined, { code: 'invalid', message: error.message });
      }
    });
    socket.on('close', () => socket.rooms.forEach((id) => roomOf(id).joined.delete(socket)));
    say(socket, 'ready', undefined, { connection_id: uuidv7(), server_time: new Date() });
  });
});
const beat = setInterval(() => sockets.clients.forEach((socket) => socket.ping()), 30_000);

process.on('SIGTERM', async () => {
  clearInterval(beat);
  sockets.clients.forEach((socket) => socket.terminate());
  http.close();
  await pool.end();
  process.exit(0);
});
http.listen({ host: '127.0.0.1', port: Number(process.env.PORT), backlog: 4096 });

/** By time, so that index pages fill from one end, as in Hourz. */
function uuidv7() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
