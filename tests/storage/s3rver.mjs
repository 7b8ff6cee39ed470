// s3rver on loopback, at a free port unless PORT says which. Usage: node --openssl-legacy-provider s3rver.mjs DIR BUCKET
// [PORT] (its continuation tokens are made with DES). Prints one JSON line when it serves, and ends when its standard
// input does.
import { createRequire } from 'node:module';

const S3rver = createRequire(new URL('../../web/s3/package.json', import.meta.url))('s3rver');
const [directory, bucket, wanted] = process.argv.slice(2);
const server = new S3rver({
  address: '127.0.0.1', port: Number(wanted ?? 0), silent: true, directory, configureBuckets: [{ name: bucket }],
});
const { port } = await server.run();
console.log(JSON.stringify({ endpoint: `http://127.0.0.1:${port}`, access_key: 'S3RVER', secret_key: 'S3RVER' }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
