// The peer of ./dev bench: what a careful team would write with Fastify and pg. The same statements as Hourz (handed
// over in the file STATEMENTS), prepared by name, the same check of the same access token, bodies and queries checked
// and answers written by JSON schema, two workers with eight connections each; @fastify/rate-limit by account, so high
// that it never refuses, and Fastify's own logger into the file LOG_FILE, one line a request. It leaves out what is not
// compared: the session lookup, Thai word breaks and the blur of the public point.
import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

import rateLimit from '@fastify/rate-limit';
import { createVerifier } from 'fast-jwt';
import Fastify from 'fastify';
import pg from 'pg';
import pino from 'pino';

const workers = Number(process.env.WORKERS ?? 2);

if (cluster.isPrimary) {
  for (let n = 0; n < workers; n++) cluster.fork();
  cluster.on('exit', () => process.exit(1));
  process.on('SIGTERM', () => {
    cluster.removeAllListeners('exit');
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGTERM');
    process.exit(0);
  });
} else {
  await serve();
}

async function serve() {
  const statements = JSON.parse(readFileSync(process.env.STATEMENTS, 'utf8'));
  // 64-bit integers here stay far below 2^53, and times go out as PostgreSQL writes them, in UTC.
  pg.types.setTypeParser(20, Number);
  pg.types.setTypeParser(1184, (text) => {
    const whole = text.slice(0, 10) + 'T' + text.slice(11, 19);
    const end = text.indexOf('+', 19);
    return end === 19 ? whole + 'Z' : whole + text.slice(19, end).padEnd(7, '0') + 'Z';
  });
  // The statements were written for these settings of the planner; without them each nearby search would be planned anew.
  const pool = new pg.Pool({
    max: 8, options: '-c TimeZone=UTC -c plan_cache_mode=force_generic_plan -c enable_sort=off',
  });
  const query = (name, values) =>
    pool.query({
      name,
      text: statements[name].text,
      values: statements[name].parameters.map((parameter) => values[parameter] ?? null),
    });

  const verify = createVerifier({
    key: process.env.TOKEN_KEY,
    algorithms: ['HS256'],
    allowedIss: 'hourz',
    allowedAud: 'hourz-api',
    cache: 10_000,
  });

  // Fastify's usual two lines a request, "incoming" and "completed", made one, as Hourz writes one; and written in
  // pieces, which is what pino advises under load.
  const destination = pino.destination({ dest: process.env.LOG_FILE, sync: false, minLength: 4096 });
  const app = Fastify({ logger: pino({ level: 'info' }, destination), disableRequestLogging: true });
  app.addHook('onResponse', async (request, reply) => {
    request.log.info({ req: request, res: reply, responseTime: reply.elapsedTime }, 'request completed');
  });
  app.decorateRequest('caller', '');
  // By account, hence after the token check: the limiter's hook must not run before `authenticate`.
  await app.register(rateLimit, {
    hook: 'preHandler', max: 1_000_000_000, timeWindow: '1 minute', cache: 100_000,
    keyGenerator: (request) => request.caller,
  });
  const authenticate = async (request, reply) => {
    const header = request.headers.authorization;
    try {
      request.caller = verify(header?.startsWith('Bearer ') ? header.slice(7) : '').sub;
    } catch {
      return reply.code(401).send({ message: 'unauthenticated' });
    }
  };

  const text = { type: 'string' };
  const textOrNull = { type: 'string', nullable: true };
  const card = {
    type: 'object',
    nullable: true,
    properties: {
      id: text, name: textOrNull, photo_url: textOrNull, reputation_score: { type: 'number' },
      total_reviews: { type: 'integer' },
    },
  };
  const gigSchema = {
    type: 'object',
    properties: {
      id: text, title: text, description: text, category: textOrNull, duration_hours: { type: 'number' },
      budget: { type: 'number' }, currency: text, latitude: { type: 'number' }, longitude: { type: 'number' },
      address_text: textOrNull, image_urls: { type: 'array', items: text }, status: text, starts_at: textOrNull,
      expires_at: textOrNull, created_at: text, updated_at: text, accepted_at: textOrNull, started_at: textOrNull,
      completed_at: textOrNull, cancelled_at: textOrNull, cancel_reason: textOrNull, seeker: card, helper: card,
      version: { type: 'integer' }, distance_km: { type: 'number' },
    },
  };

  const person = (row, side) =>
    row[side + '_id'] === null
      ? null
      : {
          id: row[side + '_id'], name: row[side + '_name'], photo_url: row[side + '_photo_url'],
          reputation_score: row[side + '_reputation_score'], total_reviews: row[side + '_total_reviews'],
        };
  const gig = (row) => {
    row.budget /= 100;
    row.seeker = person(row, 'seeker');
    row.helper = person(row, 'helper');
    if (row.distance_m !== undefined) row.distance_km = Math.round(row.distance_m) / 1000;
    return row;
  };

  app.get('/health/live', async () => ({ status: 'ok' }));

  app.get(
    '/api/gigs/:id',
    {
      preHandler: authenticate,
      schema: {
        params: { type: 'object', properties: { id: { type: 'string', format: 'uuid' } } },
        response: { 200: gigSchema },
      },
    },
    async (request, reply) => {
      const { rows } = await query('gigs.by_id', { id: request.params.id, viewer: request.caller });
      if (rows.length === 0) return reply.code(404).send({ message: 'no such gig' });
      reply.header('etag', `"${rows[0].version}"`);
      return gig(rows[0]);
    },
  );

  app.get(
    '/api/gigs',
    {
      preHandler: authenticate,
      schema: {
        querystring: {
          type: 'object',
          required: ['latitude', 'longitude'],
          properties: {
            latitude: { type: 'number', minimum: -90, maximum: 90 },
            longitude: { type: 'number', minimum: -180, maximum: 180 },
            radius_km: { type: 'number', minimum: 0.1, maximum: 100, default: 10 },
            limit: { type: 'integer', minimum: 1, maximum: 100, default: 20 },
          },
        },
        response: {
          200: {
            type: 'object',
            properties: { gigs: { type: 'array', items: gigSchema }, next_cursor: textOrNull },
          },
        },
      },
    },
    async (request) => {
      const { latitude, longitude, radius_km, limit } = request.query;
      const { rows: candidates } = await query('gigs.near_plain', {
        latitude, longitude, viewer: request.caller, candidates: limit + Number(process.env.SPARE ?? 7),
      });
      // The index orders by the sphere and knows no radius; true distances settle both.
      const rows = candidates.filter((row) => row.distance_m <= radius_km * 1000);
      rows.sort((a, b) => a.distance_m - b.distance_m || (a.id < b.id ? -1 : 1));
      const last = rows[limit - 1];
      return {
        gigs: rows.slice(0, limit).map(gig),
        next_cursor:
          rows.length > limit
            ? Buffer.from(JSON.stringify([last.distance_m, last.id])).toString('base64url')
            : null,
      };
    },
  );

  app.post(
    '/api/gigs',
    {
      preHandler: authenticate,
      schema: {
        body: {
          type: 'object',
          required: ['title', 'description', 'duration_hours', 'budget', 'latitude', 'longitude'],
          additionalProperties: false,
          properties: {
            title: { type: 'string', minLength: 3, maxLength: 120 },
            description: { type: 'string', minLength: 1, maxLength: 4000 },
            category: { type: 'string', maxLength: 40 },
            duration_hours: { type: 'number', minimum: 0.5, maximum: 24, multipleOf: 0.5 },
            budget: { type: 'number', minimum: 0, maximum: 10_000_000 },
            latitude: { type: 'number', minimum: -90, maximum: 90 },
            longitude: { type: 'number', minimum: -180, maximum: 180 },
            address_text: { type: 'string', maxLength: 300 },
          },
        },
        response: { 201: gigSchema },
      },
    },
    async (request, reply) => {
      const body = request.body;
      const { rows } = await query('gigs.create', {
        ...body, id: uuidv7(), viewer: request.caller, budget: Math.round(body.budget * 100),
        public_latitude: body.latitude, public_longitude: body.longitude, ...cell(body.latitude, body.longitude),
        image_urls: [], terms: terms(body.title + ' ' + body.description),
      });
      reply.code(201).header('location', `/api/gigs/${rows[0].id}`);
      return gig(rows[0]);
    },
  );

  process.on('SIGTERM', async () => {
    await app.close();
    await pool.end();
    process.exit(0);
  });
  await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
}

/** By time, so that index pages fill from one end, as in Hourz. */
function uuidv7() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function terms(words) {
  return [...new Set(words.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean))].sort();
}

/** Web-mercator cell at zoom 20. */
function cell(latitude, longitude) {
  const side = 2 ** 20;
  const radians = (Math.max(-85.0511, Math.min(85.0511, latitude)) * Math.PI) / 180;
  const bound = (value) => Math.max(0, Math.min(side - 1, Math.floor(value)));
  return {
    cell_x: bound(((longitude + 180) / 360) * side),
    cell_y: bound(((1 - Math.asinh(Math.tan(radians)) / Math.PI) / 2) * side),
  };
}
